"""Draws depend on (seed, key, number) alone, stay inside their limits, and survive the growth of a cache."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcache.cache.errors import BadCache, BadOption
from kdcache.cache.spec import ceil_div
from kdcache.cache.tasks.table import CLASSIFICATION, SEGMENTATION, task_of
from kdcache.cache.views.draw import draw_crop, draw_view, window_view
from kdcache.cache.views.recipe import parse_recipe
from kdcache.cache.views.sets import ViewSet, extend_views, parse_views
from kdcache.cache.views.view import View, partner_key
from kdcache.cache.views.words import key_hash

CROP = (64, 48)


def drawn(number: int, *, seed: int = 0, key: str = "a/b", flip: bool = True) -> View:
    return draw_crop(seed=seed, key=key, number=number, height=90, width=120, crop=CROP, flip=flip)


def parsed(text: str, *, mirror: bool = False, seed: int = 0, crop: tuple[int, int] = CROP) -> list[ViewSet]:
    return parse_views(text, crop=crop, seed=seed, mirror=mirror)


def test_a_draw_is_fixed_for_good_because_caches_store_targets_of_it() -> None:
    # Written down from the first version. To change these numbers, raise VIEW_VERSION.
    assert key_hash("train/0001TP_006690") == 2568049204322870155
    assert drawn(3, seed=7, key="train/0001TP_006690") == View(
        (("resize", 57, 76), ("flip",), ("crop", 0, 16, 64, 48))
    )


def test_draws_do_not_depend_on_the_order_in_which_they_are_made() -> None:
    forward = [drawn(n) for n in range(20)]
    assert [drawn(n) for n in reversed(range(20))] == forward[::-1]


def test_seed_key_and_number_each_change_the_draw() -> None:
    assert len({drawn(0), drawn(1), drawn(0, seed=1), drawn(0, key="a/c"), drawn(1 << 20)}) == 5


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**64 - 1),
    number=st.integers(0, 2**40),
    size=st.tuples(st.integers(1, 700), st.integers(1, 700)),
    crop=st.tuples(st.integers(1, 400), st.integers(1, 400)),
)
def test_a_crop_stays_inside_the_image_wherever_the_image_is_larger(
    seed: int, number: int, size: tuple[int, int], crop: tuple[int, int]
) -> None:
    view = draw_crop(seed=seed, key="k", number=number, height=size[0], width=size[1], crop=crop)
    g = view.geometry(*size)
    assert (g.crop_h, g.crop_w) == crop
    assert round(size[0] * 0.5) <= g.resize_h <= round(size[0] * 2.0) or g.resize_h == 1
    for start, length, room in ((g.crop_y, crop[0], g.resize_h), (g.crop_x, crop[1], g.resize_w)):
        assert start == 0 if room <= length else 0 <= start <= room - length


def test_draws_reach_all_scales_all_corners_and_both_sides() -> None:
    geometry = [drawn(n).geometry(90, 120) for n in range(400)]
    factors = [g.resize_h / 90 for g in geometry]
    assert min(factors) < 0.53 and max(factors) > 1.97 and 1.15 < sum(factors) / 400 < 1.35
    assert 160 < sum(g.flip for g in geometry) < 240
    assert any(g.crop_y == 0 < g.resize_h - 64 for g in geometry)
    assert any(g.crop_y == g.resize_h - 64 > 0 for g in geometry)
    assert not any(drawn(n, flip=False).geometry(90, 120).flip for n in range(50))


@settings(max_examples=25)
@given(
    size=st.tuples(st.integers(64, 300), st.integers(64, 300)),
    crop=st.tuples(st.integers(1, 64), st.integers(1, 64)),
    epoch=st.integers(0, 10**6),
    finest=st.sampled_from([1, 4, 16]),
    mirror=st.booleans(),
)
def test_a_window_is_aligned_and_its_cells_exist_at_every_tap(
    size: tuple[int, int], crop: tuple[int, int], epoch: int, finest: int, mirror: bool
) -> None:
    view, (y, x, h, w) = window_view(
        seed=1,
        key="k",
        epoch=epoch,
        height=size[0],
        width=size[1],
        crop=crop,
        stride=16,
        finest_stride=finest,
        mirror=mirror,
    )
    g = view.geometry(*size)
    assert (g.crop_y, g.crop_x, g.crop_h, g.crop_w) == (y, x, h, w)
    assert (g.resize_h, g.resize_w, g.flip) == (*size, int(mirror)) and (h, w) == crop
    assert y % 16 == 0 and x % 16 == 0
    for stride in (s for s in (1, 2, 4, 8, 16) if s >= finest):
        assert y // stride + ceil_div(h, stride) <= ceil_div(size[0], stride)
        assert x // stride + ceil_div(w, stride) <= ceil_div(size[1], stride)


@pytest.mark.parametrize(("finest", "starts"), [(16, {0, 16}), (1, {0})])
def test_a_window_ends_where_the_map_of_the_finest_tap_does(finest: int, starts: set[int]) -> None:
    corners = [
        window_view(
            seed=0, key="k", epoch=epoch, height=65, width=65, crop=(64, 64), stride=16, finest_stride=finest,
            mirror=False,
        )[1]
        for epoch in range(20)
    ]  # fmt: skip
    assert {y for y, *_ in corners} == {x for _, x, *_ in corners} == starts


def test_a_mirrored_window_shows_the_same_rectangle_of_the_mirrored_view() -> None:
    same = {"seed": 1, "key": "k", "epoch": 5, "height": 90, "width": 120, "crop": (32, 32), "stride": 8}
    plain, where = window_view(**same, mirror=False)  # type: ignore[arg-type]
    mirrored, also_where = window_view(**same, mirror=True)  # type: ignore[arg-type]
    assert where == also_where
    assert mirrored.ops == (("flip",), *plain.ops)


def test_a_window_larger_than_the_image_names_the_sample_and_the_way_out() -> None:
    with pytest.raises(BadOption, match="crop of 97x32 pixels is larger than the image of 90x120") as caught:
        window_view(seed=0, key="val/7", epoch=0, height=90, width=120, crop=(97, 32), stride=8, mirror=False)
    assert "val/7" in caught.value.where and "--views crops:8" in caught.value.fix


def test_views_are_numbered_in_order_of_appearance() -> None:
    sets = parsed("crops:8+full", mirror=True)
    assert [(s.kind, s.first, s.count) for s in sets] == [("crops", 0, 8), ("full", 8, 1), ("mirror", 9, 1)]
    assert [(s.kind, s.first) for s in parsed("full+crops:2")] == [("full", 0), ("crops", 1)]


def test_full_is_the_whole_image_and_mirror_is_it_flipped() -> None:
    full, mirror = parsed("full", mirror=True)
    assert full.view("k", 0, 90, 120) == View(())
    assert mirror.view("k", 1, 90, 120).geometry(90, 120) == (90, 120, 1, 0, 0, 90, 120)


@pytest.mark.parametrize("text", ["", "crops", "crops:0", "crops:-1", "crops:two", "full:2", "full:", "all"])
def test_a_text_that_is_no_views_shows_the_legal_forms(text: str) -> None:
    with pytest.raises(BadOption, match=f"unknown views '{text}'") as caught:
        parsed(text)
    assert f"--views {text}" in caught.value.where
    assert "'crops:K' (K from 1 to 65536), 'full'" in caught.value.fix


def test_a_misspelt_kind_is_guessed() -> None:
    with pytest.raises(BadOption) as caught:
        parsed("ful")
    assert caught.value.fix.startswith("did you mean 'full'?")


def test_impossible_combinations_of_views_are_refused() -> None:
    with pytest.raises(BadOption, match="the same kind of views twice"):
        parsed("crops:8+crops:4")
    with pytest.raises(BadOption, match="--mirror without the full view") as caught:
        parsed("crops:8", mirror=True)
    assert "--views crops:8+full --mirror" in caught.value.fix
    with pytest.raises(BadOption, match="crops need a size") as caught:
        parse_views("crops:8", crop=None, seed=0, mirror=False)
    assert "--crop" in caught.value.fix


def test_a_cache_grown_to_sixteen_crops_holds_the_crops_of_sixteen_from_the_start() -> None:
    grown = extend_views(parsed("crops:8+full"), parsed("crops:16"))
    assert [(s.kind, s.first, s.count) for s in grown] == [("crops", 0, 8), ("full", 8, 1), ("crops", 9, 8)]
    numbers = [(s, n) for s in grown if s.kind == "crops" for n in range(s.first, s.first + s.count)]
    (whole,) = parsed("crops:16")
    for place, (views, number) in enumerate(numbers):
        assert views.view("k", number, 90, 120) == whole.view("k", place, 90, 120)
    again = extend_views(grown, parsed("crops:20"))
    assert again[:-1] == grown and (again[-1].first, again[-1].count, again[-1].draw_first) == (17, 4, 16)


@pytest.mark.parametrize("text", ["crops:8", "crops:3", "full", "full+crops:8"])
def test_asking_for_what_is_there_adds_nothing(text: str) -> None:
    existing = parsed("crops:8+full")
    assert extend_views(existing, parsed(text)) == existing


def test_a_mirror_view_can_be_added_later() -> None:
    grown = extend_views(parsed("full"), parsed("full", mirror=True))
    assert [(s.kind, s.first) for s in grown] == [("full", 0), ("mirror", 1)]


def test_crops_of_another_size_or_seed_do_not_enter_a_cache() -> None:
    with pytest.raises(BadOption, match="the cache's crops have crop 64x48, these 32x32") as caught:
        extend_views(parsed("crops:8"), parsed("crops:16", crop=(32, 32)))
    assert "views 0..7" in caught.value.where and "ask for crop 64x48" in caught.value.fix
    with pytest.raises(BadOption, match="the cache's crops have seed 0, these 5"):
        extend_views(parsed("crops:8"), parsed("crops:8", seed=5))


def test_a_set_of_views_comes_back_from_json_with_its_digest() -> None:
    for views in parsed("crops:8+full", mirror=True):
        back = ViewSet.from_dict(json.loads(json.dumps(views.to_dict())))
        assert back == views and back.digest() == views.digest()
    first, second = parsed("crops:8")[0], parsed("crops:8", seed=1)[0]
    assert first.digest() != second.digest()


def test_sets_of_before_there_were_recipes_keep_their_digests_and_their_fields() -> None:
    # Written down from that version: runs have recorded these.
    sets = parse_views("crops:8+full", crop=(360, 480), seed=3, mirror=True)
    assert [s.digest() for s in sets] == ["6d486e742bc3246c", "be42c057c25e8edd", "a207f0ce5474d627"]
    assert parse_views("crops:8", crop=(512, 512), seed=0, mirror=False)[0].digest() == "a49fca8cb01e4e4b"
    plain = parse_recipe("scale=0.5x2,flip", task_of(SEGMENTATION).recipes)
    same = parse_views("crops:8+full", crop=(360, 480), seed=3, mirror=True, augment=plain)
    assert same == sets and all("augment" not in s.to_dict() for s in same)
    old = {"kind": "crops", "first": 0, "count": 2, "crop": [64, 48], "seed": 0}
    assert ViewSet.from_dict(old) == parsed("crops:2")[0]


def augmented(text: str, views: str, crop: tuple[int, int] = (32, 32)) -> ViewSet:
    recipe = parse_recipe(text, task_of(CLASSIFICATION).recipes)
    return parse_views(views, crop=crop, seed=0, mirror=False, augment=recipe)[0]


def test_a_set_with_a_recipe_comes_back_from_json_and_draws_what_the_recipe_says() -> None:
    views = augmented("pad=4,flip,mixup=0.2", "crops:4")
    back = ViewSet.from_dict(json.loads(json.dumps(views.to_dict())))
    assert back == views and back.digest() == views.digest() != augmented("pad=4,flip", "crops:4").digest()
    keys = ("a", "b", "c")
    view = back.view("b", 2, 32, 32, keys)
    assert view == draw_view(
        views.recipe, seed=0, key="b", number=2, height=32, width=32, crop=(32, 32), partners=keys
    )
    assert view.effects[-1][0] == "mixup" and partner_key(view.effects) in ("a", "c")


def test_a_set_draws_what_its_manifest_gives_back_however_many_digits_a_recipe_had() -> None:
    views = augmented("rrc=0.123456789,erase=0.3333333333", "crops:4")
    back = ViewSet.from_dict(json.loads(json.dumps(views.to_dict())))
    assert back == views and views.recipe.rrc == 0.123457 and views.augment == "rrc=0.123457,erase=0.333333"


def test_the_whole_image_draws_nothing_and_its_record_is_as_before_there_were_recipes() -> None:
    (full,) = parsed("full")
    assert full.recipe.text == "none" and full.augment == ""
    assert list(full.to_dict().items()) == [
        ("kind", "full"), ("first", 0), ("count", 1), ("crop", None), ("seed", 0), ("min_scale", 0.5),
        ("max_scale", 2.0), ("flip", True), ("draw_first", 0),
    ]  # fmt: skip


def test_turned_views_come_in_fours_with_one_flip_and_a_crop_each() -> None:
    views = augmented("pad=4,flip", "turns:20")
    assert (views.kind, views.count) == ("turns", 80)
    fours = [[views.view("k", 4 * k + r, 32, 32) for r in range(4)] for k in range(20)]
    for four in fours:
        assert [v.effects for v in four] == [(), (("turn", 1),), (("turn", 2),), (("turn", 3),)]
        assert len({v.geometry(32, 32).flip for v in four}) == 1
    assert {four[0].geometry(32, 32).flip for four in fours} == {0, 1}
    corners = {(g.crop_y, g.crop_x) for four in fours for v in four for g in [v.geometry(32, 32)]}
    assert len(corners) > 40 and {y for y, _ in corners} == set(range(-4, 5))
    grown = extend_views([replace(views, count=8)], [augmented("pad=4,flip", "turns:3")])
    assert [(s.first, s.count, s.draw_first) for s in grown] == [(0, 8, 0), (8, 4, 8)]
    assert grown[1].view("k", 9, 32, 32) == fours[2][1]


@pytest.mark.parametrize(
    ("text", "crop", "message"),
    [
        ("pad=4", (32, 28), "a crop of 32x28 pixels changes its size when it is turned"),
        ("pad=4,mixup=1", (32, 32), "turned views are for classification without mixing"),
    ],
)
def test_turned_views_that_cannot_be_are_refused(text: str, crop: tuple[int, int], message: str) -> None:
    with pytest.raises(BadOption, match=message) as caught:
        augmented(text, "turns:2", crop)
    assert "--views turns:2" in caught.value.where
    with pytest.raises(BadOption, match="turned views are for classification"):
        parse_views("turns:2", crop=(32, 32), seed=0, mirror=False)


def test_views_drawn_by_another_recipe_do_not_enter_a_cache() -> None:
    with pytest.raises(BadOption, match="crops have augment pad=4,flip, these pad=2,flip"):
        extend_views([augmented("pad=4,flip", "crops:2")], [augmented("pad=2,flip", "crops:4")])


@pytest.mark.parametrize("change", [{"kind": "mosaic"}, {"min_scal": 0.25}])
def test_a_set_of_views_of_a_newer_version_is_refused_by_name(change: dict[str, object]) -> None:
    with pytest.raises(BadCache, match="mosaic|'min_scal' .nearest known: 'min_scale'") as caught:
        ViewSet.from_dict({**parsed("crops:8")[0].to_dict(), **change})
    assert "newer kdcache" in caught.value.fix


def test_drawing_needs_neither_dali_nor_torch() -> None:
    # In a new process: this one has long imported both.
    code = "import sys, kdcache.cache.views.sets; print({'torch', 'nvidia.dali'} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "set()"
