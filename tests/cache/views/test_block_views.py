"""The views of a block as columns: rows come back as they were, and what no view set draws is refused."""

from collections.abc import Callable

import numpy as np
import pytest

from kdcache.cache.errors import BadCache
from kdcache.cache.views.block_views import BlockViews, block_views, check_block_views
from kdcache.cache.views.view import Geometry, Row, View

CROP = ("crop", -2, 1, 8, 8)
SIZES = np.full((4, 2), 8)
PIXELS = np.array([5, 0, 7, 8], dtype=np.uint64)
VIEWS = [
    View((CROP, ("hue", 5), ("mixup", 300, "c"))),
    None,
    View((("flip",), CROP)),
    View((CROP, ("turn", 1))),
]


def rows() -> list[Row | None]:
    drawn = [None if v is None else v.row(12 + place, 7, (8, 8)) for place, v in enumerate(VIEWS)]
    first, third = drawn[0], drawn[2]
    assert first is not None and third is not None
    return [first.mixed_with(third), *drawn[1:]]


def test_a_blocks_columns_hand_out_its_rows_and_say_who_is_mixed_in() -> None:
    block = block_views(12, 7, rows(), PIXELS)
    assert block.valid.tolist() == [True, False, True, True] and block.pixels.tolist() == PIXELS.tolist()
    for place in (2, 3):
        assert block.row(place) == rows()[place] and block.partner(place) is None
    own = rows()[0]
    assert own is not None and block.row(0) == own._replace(partner=None)
    assert block.partner(0) == 14 and block.geometry_of(0) == own.geometry


def test_columns_that_nobody_needs_are_not_there() -> None:
    plain = block_views(0, 0, [rows()[2]], PIXELS[:1])
    assert len(plain.partners) == 0 and len(plain.effects) == 0
    assert plain.row(0).effects == () and plain.partner(0) is None
    nothing = block_views(0, 0, [], PIXELS[:0])
    assert len(nothing.valid) == 0
    check_block_views(nothing, (8, 8), SIZES[:0])


def changed(place: int, column: int, value: int) -> BlockViews:
    block = block_views(12, 7, rows(), PIXELS)
    block.geometry[place, column] = value
    return block


def test_what_was_drawn_is_accepted() -> None:
    check_block_views(block_views(12, 7, rows(), PIXELS), (8, 8), SIZES)
    whole = block_views(0, 0, [View(()).row(0, 0, (5, 9))], PIXELS[:1])
    check_block_views(whole, None, np.array([[5, 9]]))


@pytest.mark.parametrize(
    ("column", "value"),
    [(0, 0), (1, -3), (2, 2), (2, -1), (3, 8), (3, -8), (4, 99), (5, 9), (6, 30_000), (6, 0)],
)
def test_geometry_that_no_view_set_draws_is_refused(column: int, value: int) -> None:
    with pytest.raises(ValueError, match="the view of row 3 cannot be"):
        check_block_views(changed(3, column, value), (8, 8), SIZES)
    check_block_views(changed(1, column, value), (8, 8), SIZES)  # of a row that holds nothing


def test_a_whole_image_must_have_the_size_of_its_sample() -> None:
    whole = block_views(0, 0, [View(()).row(0, 0, (5, 9))], PIXELS[:1])
    with pytest.raises(ValueError, match="row 0"):
        check_block_views(whole, None, np.array([[5, 8]]))


@pytest.mark.parametrize("text", ["[", "[[]]", '[["unknown", 3]]', '[["turn", 9]]', "7", '"x"'])
def test_effects_of_another_version_or_torn_ones_are_named(text: str) -> None:
    block = block_views(12, 7, rows(), PIXELS)._replace(effects=[text] * 4)
    read: Callable[[int], Row] = block.row
    with pytest.raises(BadCache, match="is no view operation that this kdcache knows"):
        read(2)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_quarter_turn_of_what_is_not_square_is_refused(turns: int) -> None:
    row = Row(0, 0, Geometry(9, 9, 0, 0, 0, 8, 6), (("turn", turns),))
    views = block_views(0, 0, [row], np.zeros(1, dtype=np.uint64))
    if turns == 2:  # half a turn keeps the shape
        assert views.row(0) == row
        return
    with pytest.raises(BadCache, match="^a quarter turn of 8x6 pixels is no view operation") as caught:
        views.row(0)
    assert "--repair" in caught.value.fix
    square = row._replace(geometry=Geometry(9, 9, 0, 0, 0, 8, 8))
    assert block_views(0, 0, [square], np.zeros(1, dtype=np.uint64)).row(0) == square
