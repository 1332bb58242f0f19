"""What a recipe draws: limits, distributions, partners; and that items do not disturb each other."""

import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcache.cache.views.draw import draw_view
from kdcache.cache.views.recipe import read_recipe
from kdcache.cache.views.view import View, partner_key

KEYS = tuple(f"train/{n:05d}" for n in range(6))
ALL = "rrc,flip,randaugment=3x9,jitter=0.4x0.4x0.4x0.1,erase=0.5,mixup=0.2,cutmix=1"
PAD_DRAW = (("resize", 32, 32), ("flip",), ("crop", 4, -4, 32, 32), ("mixup", 1000, "train/00005"))
ALL_DRAW = (
    ("resize", 61, 93),
    ("crop", 5, 14, 32, 32),
    ("saturation", 1270),
    ("brightness", 1270),
    ("rotate", 9000),
    ("contrast", 837),
    ("brightness", 1336),
    ("hue", -51),
    ("saturation", 1017),
    ("erase", 0, 4, 9, 28, 124, 116, 104),
    ("cutmix", 0, 0, 12, 12, "train/00004"),
)


def drawn(text: str, number: int, *, key: str = KEYS[1], size: tuple[int, int] = (32, 32)) -> View:
    return draw_view(
        read_recipe(text),
        seed=0,
        key=key,
        number=number,
        height=size[0],
        width=size[1],
        crop=(32, 32),
        partners=KEYS,
    )


def own_share(view: View, size: tuple[int, int] = (32, 32)) -> float:
    return view.row(0, 0, size).own_share


def test_a_draw_is_fixed_for_good_because_caches_store_targets_of_it() -> None:
    # Written down from the first version. To change these numbers, raise VIEW_VERSION.
    assert drawn("pad=4,flip,mixup=0.2", 3).ops == PAD_DRAW
    assert drawn(ALL, 5, size=(48, 64)).ops == ALL_DRAW


def test_one_item_more_leaves_the_draws_of_all_others_as_they_were() -> None:
    for number in range(30):
        plain, jittered = drawn("rrc,flip", number), drawn("rrc,flip,jitter=0.4", number)
        assert jittered.ops[: len(plain.ops)] == plain.ops
        erased = drawn("rrc,flip,jitter=0.4,erase=1", number)
        assert erased.ops[: len(jittered.ops)] == jittered.ops


@settings(max_examples=40)
@given(
    number=st.integers(0, 2**40),
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    text=st.sampled_from(["rrc", "rrc=0.5,flip", "pad=4", "none", ALL]),
)
def test_every_view_can_be_executed_and_shows_the_input_size(
    number: int, size: tuple[int, int], text: str
) -> None:
    view = drawn(text, number, size=size)
    g = view.geometry(*size)
    assert (g.crop_h, g.crop_w) == (32, 32)
    assert 0.0 <= own_share(view, size) <= 1.0
    if not text.startswith("pad"):
        assert 0 <= g.crop_y <= g.resize_h - 32 and 0 <= g.crop_x <= g.resize_w - 32


def test_random_regions_have_the_areas_and_aspects_of_the_recipe() -> None:
    areas, aspects = [], []
    for number in range(400):
        g = drawn("rrc=0.08", number, size=(200, 200)).geometry(200, 200)
        h, w = 32 / g.resize_h, 32 / g.resize_w  # what is shown, as shares of the image
        areas.append(h * w)
        aspects.append(math.log(w / h))
    assert min(areas) > 0.075 and max(areas) > 0.9 and 0.45 < sum(areas) / 400 < 0.6
    assert max(map(abs, aspects)) < math.log(4 / 3) + 0.05 and abs(sum(aspects)) / 400 < 0.03


def test_padding_shifts_the_image_to_every_side_with_equal_chance() -> None:
    corners = Counter((g.crop_y, g.crop_x) for n in range(2000) for g in [drawn("pad=1", n).geometry(32, 32)])
    assert set(corners) == {(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)}
    assert min(corners.values()) > 160


def test_without_geometry_an_image_is_shown_as_in_evaluation() -> None:
    assert drawn("none", 0).geometry(32, 32) == (32, 32, 0, 0, 0, 32, 32)
    assert drawn("none", 0, size=(48, 64)).geometry(48, 64) == (37, 49, 0, 2, 8, 32, 32)


def test_flips_erasures_and_kinds_of_mixing_come_as_often_as_they_should() -> None:
    views = [drawn("pad=4,flip,erase=0.25,mixup=0.2,cutmix=1", n) for n in range(400)]
    names = Counter(str(op[0]) for v in views for op in v.ops)
    assert 160 < names["flip"] < 240 and 70 < names["erase"] < 130
    assert 160 < names["mixup"] < 240 and names["mixup"] + names["cutmix"] > 390


@pytest.mark.parametrize(("alpha", "spread"), [(0.2, 0.423), (1.0, 0.289), (2.0, 0.224)])
def test_shares_of_mixup_have_the_mean_and_spread_of_the_beta_distribution(
    alpha: float, spread: float
) -> None:
    shares = [own_share(drawn(f"mixup={alpha}", n)) for n in range(1500)]
    mean = sum(shares) / len(shares)
    assert abs(mean - 0.5) < 0.04
    assert abs(math.sqrt(sum((s - mean) ** 2 for s in shares) / len(shares)) - spread) < 0.02


def test_rectangles_of_cutmix_take_the_share_that_was_drawn_and_stay_inside() -> None:
    shares = []
    for number in range(400):
        view = drawn("cutmix=1", number)
        if view.effects:
            _, y, x, h, w, _ = view.effects[-1]
            assert 0 <= int(y) <= int(y) + int(h) <= 32 and 0 <= int(x) <= int(x) + int(w) <= 32
        shares.append(own_share(view))
    assert min(shares) < 0.2 and max(shares) > 0.99 and 0.5 < sum(shares) / 400 < 0.75


def test_partners_are_the_others_of_the_shard_with_equal_chance() -> None:
    for key in (KEYS[0], KEYS[3], KEYS[-1]):
        counts = Counter(partner_key(drawn("mixup=1", n, key=key).effects) for n in range(1000))
        assert set(counts) == set(KEYS) - {key} and min(counts.values()) > 150


def test_a_sample_alone_in_its_shard_is_not_mixed() -> None:
    for partners in ((), (KEYS[1],)):
        view = draw_view(
            read_recipe("mixup=1"),
            seed=0,
            key=KEYS[1],
            number=0,
            height=32,
            width=32,
            crop=(32, 32),
            partners=partners,
        )
        assert view.effects == ()


def test_randaugment_draws_so_many_operations_at_its_magnitude() -> None:
    ops = [op for n in range(300) for op in drawn("randaugment=2x30", n).effects]
    names = Counter(str(op[0]) for op in ops)
    assert len(names) == 13 and min(names.values()) > 20 and 520 < len(ops) < 590  # identity leaves no trace
    assert {op[1] for op in ops if op[0] == "rotate"} == {-30_000, 30_000}
    assert {op[1] for op in ops if op[0] == "posterize"} == {4}
    assert {op[1] for op in ops if op[0] == "contrast"} == {100, 1900}
    for op in (op for n in range(100) for op in drawn("randaugment=2x0", n).effects):
        assert op in (
            *((name, 1000) for name in ("brightness", "contrast", "saturation", "sharpness")),
            *((name, 0) for name in ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")),
            ("posterize", 8),
            ("solarize", 255),
            ("autocontrast",),
            ("equalize",),
        )
