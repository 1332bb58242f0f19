"""A view's numbers survive storage, and reach the pipeline in its one order or not at all."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcache.cache.errors import BadCache, BadOption
from kdcache.cache.views.view import Geometry, Op, Row, View, partner_key


def test_no_operations_are_the_whole_image_as_it_is() -> None:
    assert View(()).geometry(333, 500) == Geometry(333, 500, 0, 0, 0, 333, 500)


def test_each_operation_lands_in_its_own_fields() -> None:
    view = View((("resize", 20, 30), ("flip",), ("crop", 1, 2, 40, 50)))
    assert view.geometry(333, 500) == Geometry(20, 30, 1, 1, 2, 40, 50)


def test_without_a_crop_the_whole_resized_image_is_shown() -> None:
    assert View((("resize", 20, 30),)).geometry(333, 500) == Geometry(20, 30, 0, 0, 0, 20, 30)


@pytest.mark.parametrize(
    "ops",
    [
        (("flip",), ("resize", 4, 4)),
        (("crop", 0, 0, 2, 2), ("flip",)),
        (("crop", 0, 0, 2, 2), ("resize", 4, 4)),
        (("flip",), ("flip",)),
        (("resize", 4, 4), ("resize", 8, 8)),
    ],
)
def test_another_order_or_an_operation_twice_is_refused(ops: tuple[tuple[str | int, ...], ...]) -> None:
    with pytest.raises(BadOption, match="cannot be executed") as caught:
        View(ops).geometry(10, 10)
    assert str(ops) in caught.value.where
    assert "('resize', h, w), ('flip',), ('crop', y, x, h, w)" in caught.value.fix


@pytest.mark.parametrize(
    ("op", "text"),
    [
        (("swirl", 90), "unknown operation"),
        (("crop", 1, 2), "unknown operation"),
        (("resize", 4.5, 4), "whole pixels"),
        (("resize", 0, 4), "at least 1 pixel"),
        (("crop", 0, 0, 0, 4), "at least 1 pixel"),
        (("crop", 10, 0, 4, 4), r"starts at \(10, 0\), outside the image of 10x12 pixels"),
        (("crop", 0, -4, 4, 4), "outside the image"),
    ],
)
def test_numbers_that_leave_no_pixel_are_refused(op: tuple[str | int, ...], text: str) -> None:
    with pytest.raises(BadOption, match=text):
        View((op,)).geometry(10, 12)


CROP = ("crop", -2, 0, 8, 8)


@pytest.mark.parametrize(
    ("ops", "text"),
    [
        ((("turn", 1), CROP), "cannot be executed"),
        ((("mixup", 300, "b"), ("turn", 1)), "cannot be executed"),
        ((("mixup", 300, "b"), ("cutmix", 0, 0, 2, 2, "c")), "cannot be executed"),
        ((("mixup", 300),), "unknown operation"),
        ((("mixup", 1001, "b"),), "takes whole pixels"),
        ((("turn", 4),), "takes whole pixels"),
        ((("brightness", 0.5),), "takes whole pixels"),
    ],
)
def test_effects_follow_the_crop_and_a_mixing_one_ends_the_view(ops: tuple[Op, ...], text: str) -> None:
    with pytest.raises(BadOption, match=text) as caught:
        View(ops).geometry(10, 12)
    assert "a mixing one is the last" in caught.value.fix


def test_a_view_says_what_follows_its_crop_whom_it_is_mixed_with_and_how_much_is_its_own() -> None:
    view = View((("resize", 8, 8), CROP, ("hue", -20), ("cutmix", 0, 2, 4, 6, "train/00012")))
    assert view.geometry(9, 9).crop_y == -2
    assert view.effects == view.ops[2:] and partner_key(view.effects) == "train/00012"
    assert view.row(3, 1, (9, 9)).own_share == 1 - 24 / 64
    assert View((("mixup", 123, "b"),)).row(0, 0, (8, 8)).own_share == 0.123
    assert View((("hue", 3),)).row(0, 0, (8, 8)).own_share == 1.0
    assert partner_key(()) is None and View(()).effects == ()
    assert View.from_json(json.loads(json.dumps(view.to_json()))) == view


def test_a_partner_keeps_its_effects_and_is_not_mixed_itself() -> None:
    own, partner = (
        View((CROP, ("hue", n), ("mixup", 300, key))).row(n, 7, (8, 8)) for n, key in ((1, "b"), (2, "a"))
    )
    mixed = own.mixed_with(partner.mixed_with(own))
    assert mixed._replace(partner=None) == own == Row(1, 7, own.geometry, (("hue", 1), ("mixup", 300, "b")))
    assert mixed.partner == Row(2, 7, partner.geometry, (("hue", 2),))


_size = st.integers(1, 5000)
_views = st.builds(
    lambda resize, flip, crop: View((*resize, *flip, *crop)),
    st.lists(st.tuples(st.just("resize"), _size, _size), max_size=1),
    st.sampled_from([(), (("flip",),)]),
    st.lists(st.tuples(st.just("crop"), _size, _size, _size, _size), max_size=1),
)


@settings(max_examples=25)
@given(_views)
def test_a_view_comes_back_from_json_as_it_was(view: View) -> None:
    assert View.from_json(json.loads(json.dumps(view.to_json()))) == view


@pytest.mark.parametrize(
    "plain",
    [
        None,
        {"ops": []},
        ["flip"],
        [[]],
        [["jitter", 3]],
        [["crop", 1, 2]],
        [["resize", 1.5, 2]],
        [["mixup", 3]],
        [["turn", 9]],
        [[["crop"], 1]],
        [[{}]],
        [["crop", True, 0, 8, 8]],
        [["mixup", 300, "b"], ["turn", 1]],  # whoever looks at the last one would not see the partner
        [["mixup", 300, "b"], ["mixup", 300, "c"]],
        [["turn", 1], ["flip"]],
        [["flip"], ["flip"]],
    ],
)
def test_operations_of_another_version_or_torn_ones_are_named(plain: object) -> None:
    with pytest.raises(BadCache, match="no view operation that this kdcache knows") as caught:
        View.from_json(plain)
    assert "newer kdcache" in caught.value.fix and "--repair" in caught.value.fix
