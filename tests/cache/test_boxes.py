"""Boxes follow a view as its pixels do, come back from it, and what can hardly be seen is no object."""

import numpy as np
import pytest
from aligned_boxes import owners
from hypothesis import given
from hypothesis import strategies as st
from painted_objects import paint

from kdcache.cache.boxes import clip, follow, follow_back, seen, usable
from kdcache.cache.images.feed import Feed
from kdcache.cache.images.pipeline import ImagePipeline
from kdcache.cache.sources.arrays import encode_png
from kdcache.cache.views.draw import draw_view, fit_view
from kdcache.cache.views.recipe import Recipe
from kdcache.cache.views.view import Geometry, Row

SIZES = st.tuples(st.integers(1, 700), st.integers(1, 700))
CANVASES = st.tuples(st.integers(1, 20), st.integers(1, 20)).map(lambda s: (32 * s[0], 32 * s[1]))
SIDES = st.floats(-50, 750, allow_nan=False, width=32)
BOXES = st.lists(st.tuples(SIDES, SIDES, SIDES, SIDES), max_size=8).map(
    lambda rows: np.sort(np.array(rows, dtype=np.float64).reshape(-1, 2, 2), axis=1).reshape(-1, 4)
)
RECIPES = st.sampled_from([Recipe(fit=(0.3, 2.0), flip=True), Recipe(fit=(1.0, 1.0), flip=True)])


def view_of(size: tuple[int, int], canvas: tuple[int, int], recipe: Recipe, number: int) -> Geometry:
    view = draw_view(recipe, seed=1, key="a", number=number, height=size[0], width=size[1], crop=canvas)
    return view.geometry(*size)


def one(*box: float) -> np.ndarray:
    return np.array([box], dtype=np.float64)


@pytest.mark.parametrize(
    ("geometry", "expected"),
    [
        (Geometry(100, 200, 0, 0, 0, 100, 200), (20, 30, 60, 90)),  # as it is
        (Geometry(50, 400, 0, 0, 0, 50, 400), (40, 15, 120, 45)),  # each axis by its own ratio
        (Geometry(100, 200, 1, 0, 0, 100, 200), (140, 30, 180, 90)),  # left becomes right
        (
            Geometry(100, 200, 0, 10, 25, 64, 64),
            (-5, 20, 35, 80),
        ),  # the corner goes off, outside stays outside
        (Geometry(50, 100, 1, -4, 3, 64, 64), (67, 19, 87, 49)),  # padding above is a negative corner
    ],
)
def test_a_box_follows_resize_flip_and_corner(geometry: Geometry, expected: tuple[float, ...]) -> None:
    moved = follow(one(20, 30, 60, 90), geometry, (100, 200))
    np.testing.assert_allclose(moved, [expected], atol=1e-12)
    np.testing.assert_allclose(follow_back(moved, geometry, (100, 200)), [(20, 30, 60, 90)], atol=1e-12)


@given(BOXES, SIZES, CANVASES, RECIPES, st.integers(0, 50))
def test_what_followed_a_view_comes_back(
    boxes_M4: np.ndarray, size: tuple[int, int], canvas: tuple[int, int], recipe: Recipe, number: int
) -> None:
    geometry = view_of(size, canvas, recipe, number)
    back_M4 = follow_back(follow(boxes_M4, geometry, size), geometry, size)
    np.testing.assert_allclose(back_M4, boxes_M4, atol=1e-6)


@given(BOXES, SIZES)
def test_two_flips_are_none(boxes_M4: np.ndarray, size: tuple[int, int]) -> None:
    flipped = Geometry(*size, 1, 0, 0, *size)
    np.testing.assert_allclose(follow(follow(boxes_M4, flipped, size), flipped, size), boxes_M4, atol=1e-9)


@given(BOXES, SIZES, CANVASES, RECIPES, st.integers(0, 50))
def test_objects_lie_on_the_canvas_and_have_sides(
    boxes_M4: np.ndarray, size: tuple[int, int], canvas: tuple[int, int], recipe: Recipe, number: int
) -> None:
    shown = seen(boxes_M4, view_of(size, canvas, recipe, number), size)
    assert shown.kept_N.shape == (len(boxes_M4),) and len(shown.boxes_M4) == shown.kept_N.sum()
    assert (shown.boxes_M4 >= 0).all() and (shown.boxes_M4 <= [*canvas[::-1], *canvas[::-1]]).all()
    assert (shown.boxes_M4[:, 2:] - shown.boxes_M4[:, :2] >= 2).all()


@given(BOXES, SIZES, CANVASES, st.booleans())
def test_a_whole_image_shows_every_box_that_is_large_enough(
    boxes_M4: np.ndarray, size: tuple[int, int], canvas: tuple[int, int], mirror: bool
) -> None:
    geometry = fit_view(*size, canvas, mirror=mirror).geometry(*size)
    inside_M4 = clip(boxes_M4, size)
    sides_M2 = (inside_M4[:, 2:] - inside_M4[:, :2]) * [
        geometry.resize_w / size[1],
        geometry.resize_h / size[0],
    ]
    kept_N = seen(boxes_M4, geometry, size).kept_N
    assert kept_N[(sides_M2 > 2.001).all(axis=1) & usable(boxes_M4, size)].all()
    assert not kept_N[(sides_M2 < 1.999).any(axis=1)].any()


CANVAS = Geometry(100, 100, 0, 0, 0, 64, 64)  # of an image of 100x100: its upper left part


@pytest.mark.parametrize(
    ("box", "kept"),
    [
        ((0, 0, 10, 10), True),
        ((60, 0, 100, 20), True),  # 4 of 40 columns: a tenth
        ((60, 0, 101, 20), True),  # what is outside of the image does not count: still 4 of 40
        ((60.1, 0, 100, 20), False),  # 3.9 of 39.9
        ((62, 0, 70, 20), True),  # 2 px wide on the canvas
        ((62.5, 0, 66, 20), False),  # 1.5 px, though nearly half of it
        ((10, 10, 11.5, 30), False),  # too thin wherever it is
        ((70, 70, 90, 90), False),  # beside the canvas
        ((120, 20, 140, 40), False),  # beside the image
        ((-30, 20, 0.5, 40), False),  # half a pixel inside the image
    ],
)
def test_an_object_is_what_shows_a_tenth_and_two_pixels_of_itself(box: tuple[float, ...], kept: bool) -> None:
    assert seen(one(*box), CANVAS, (100, 100)).kept_N.tolist() == [kept]


def test_what_is_kept_is_cut_to_the_canvas_and_names_its_box() -> None:
    boxes_M4 = np.concatenate([one(90, 90, 99, 99), one(50, -5, 80, 30), one(0, 0, 0, 0), one(1, 2, 30, 40)])
    shown = seen(boxes_M4, CANVAS, (100, 100))
    assert shown.kept_N.tolist() == [False, True, False, True]
    assert shown.boxes_M4.tolist() == [[50, 0, 64, 30], [1, 2, 30, 40]]


def test_of_no_boxes_nothing_is_seen() -> None:
    shown = seen(np.zeros((0, 4)), CANVAS, (100, 100))
    assert shown.boxes_M4.shape == (0, 4) and shown.kept_N.shape == (0,)


def test_a_box_needs_a_pixel_of_both_sides_inside_its_image() -> None:
    boxes = [(0, 0, 1, 1), (0, 0, 0.9, 50), (99, 10, 140, 20), (99.5, 10, 140, 20), (-9, 99, 3, 120)]
    assert usable(np.array(boxes, dtype=np.float64), (100, 100)).tolist() == [True, False, True, False, True]


def test_boxes_are_moved_within_a_pixel_of_what_is_painted_at_any_scale() -> None:
    """Cells are whole: an edge between two of them is a quarter of a pixel off on average, at most half."""
    painted = paint(3, (150, 200))
    encoded = np.frombuffer(encode_png(painted.pixels_HWC), dtype=np.uint8)
    recipe, canvas = Recipe(fit=(0.3, 2.5), flip=True), (192, 256)
    rows = [Row(0, n, view_of((150, 200), canvas, recipe, n)) for n in range(40)]
    pipeline = ImagePipeline(
        lambda n: Feed([rows[n]], [encoded]) if n < len(rows) else None, batch_size=1, with_maps=False
    )
    errors = []
    for batch, row in zip(pipeline.run(), rows, strict=True):
        owner_HW = owners(batch.images_BHWC[0].numpy())
        for number, box in enumerate(follow(painted.boxes_M4, row.geometry, (150, 200)), start=1):
            y, x = np.nonzero(owner_HW == number)
            inside = (box >= 1).all() and box[2] <= canvas[1] - 1 and box[3] <= canvas[0] - 1
            if inside and len(x):
                errors.append(np.abs(box - [x.min(), y.min(), x.max() + 1, y.max() + 1]))
    pipeline.close()
    assert len(errors) > 50 and np.mean(errors) < 0.3 and np.max(errors) <= 0.6
