"""The central promise for classification: shifted, resized, coloured, erased, mixed and turned pixels are
those that the teacher saw, and classes, partners and shares belong to them.

For every batch of several epochs, at world sizes 1 and 3, in both formats. The same checks are then shown to
fail when the partner is another one, when a share or a colour is shifted, and when a turn is dropped.
"""

from collections.abc import Callable
from functools import cache as memoised
from pathlib import Path

import numpy as np
import pytest
import torch
from aligned_classes import (
    BAD,
    CROP,
    GLOBAL_BATCH,
    MIXED,
    NEEDS,
    NUM_OF_CLASS,
    NUM_SAMPLES,
    NUM_VIEWS,
    RECIPES,
    STEPS,
    TURNS,
    build_class_cache,
    draw_classes,
    make_all,
)
from alignment_checks import epochs_of
from class_checks import assert_classes, assert_pixels, assert_targets, expected

from kdcache.cache.errors import BadCache
from kdcache.cache.networks.build import build_network
from kdcache.cache.networks.network import Network
from kdcache.cache.reader.cache import Cache
from kdcache.cache.views.view import Op, Row, View
from kdcache.trainer.stream.batch import Batch, BatchLayout
from kdcache.trainer.stream.fresh import FreshStream
from kdcache.trainer.stream.online import OnlineStream
from kdcache.trainer.stream.pixel_check import check_pixels
from kdcache.trainer.stream.stored import StoredStream

MIXUP = RECIPES[2]
CacheOf = Callable[[str, str], Cache]


@pytest.fixture(scope="module")
def cache_of(tmp_path_factory: pytest.TempPathFactory) -> CacheOf:
    """Caches by (recipe, format), built when first asked for."""
    folder: Path = draw_classes(tmp_path_factory.mktemp("classes") / "data")
    return memoised(lambda recipe, form: build_class_cache(folder, form, recipe))


@pytest.fixture(scope="module")
def teacher() -> Network:
    return build_network("tiny_classifier:make", task="classification", num_classes=len(NUM_OF_CLASS)).eval()


WORLDS = pytest.mark.parametrize("world", [1, pytest.param(3, marks=pytest.mark.slow)])
FORMATS = pytest.mark.parametrize("form", ["zarr", pytest.param("webdataset", marks=pytest.mark.slow)])
EVERY = pytest.mark.parametrize("recipe", [*RECIPES, MIXED, TURNS])


@WORLDS
@FORMATS
@EVERY
def test_every_target_is_the_teachers_answer_to_the_streams_own_pixels(
    cache_of: CacheOf, teacher: Network, recipe: str, form: str, world: int
) -> None:
    cache = cache_of(recipe, form)
    for stream in make_all(cache, world):
        assert_targets(cache, stream, teacher)


@WORLDS
@EVERY
def test_samples_classes_partners_and_shares_are_those_of_the_pixels(
    cache_of: CacheOf, recipe: str, world: int
) -> None:
    cache = cache_of(recipe, "zarr")
    for stream in make_all(cache, world):
        assert_classes(cache, stream)


@pytest.mark.parametrize("recipe", ["pad=4,flip", MIXUP, TURNS])
def test_pixels_are_those_that_numpy_makes_from_the_records(cache_of: CacheOf, recipe: str) -> None:
    cache = cache_of(recipe, "zarr")
    assert_pixels(cache, make_all(cache, 1)[0])


def test_partners_are_valid_samples_of_the_same_block_and_a_lone_one_has_one_of_the_block_before(
    cache_of: CacheOf,
) -> None:
    # Otherwise the tests above could pass on a lucky half.
    rows = [expected(cache_of(MIXUP, "zarr"), p, 0) for p in range(STEPS * GLOBAL_BATCH)]
    assert {r.sample for r in rows} == set(range(NUM_SAMPLES)) - {BAD}
    assert all(r.partner != BAD and r.partner != r.sample for r in rows)
    assert all(r.partner is not None and r.partner // 3 == r.sample // 3 for r in rows if r.sample != 9)
    assert {r.partner // 3 for r in rows if r.sample == 9 and r.partner is not None} == {2}
    assert any(r.partner_label != r.label for r in rows) and len({r.share for r in rows}) > 5


def test_a_live_teacher_on_mixed_pixels_gives_what_the_cache_gives(
    cache_of: CacheOf, teacher: Network
) -> None:
    stored = make_all(cache_of(MIXED, "zarr"), 1)[0]
    live = OnlineStream(stored, teacher, NEEDS, "cpu")
    batch = next(live.run())
    stored_answers, wanted = stored.targets(batch), live.targets(batch)
    live.close()
    assert all(torch.allclose(stored_answers[n], wanted[n], atol=1e-4) for n in ("embedding", "logits"))


# ---- the checks can fail: one thing is shifted, everything else is as it was


def changed_rows(
    monkeypatch: pytest.MonkeyPatch, stream: StoredStream, change: Callable[[Op], Op | None]
) -> None:
    """Effects as `change` makes them, on the way to pixels; targets stay."""
    honest = stream.views.row

    def row(index: int, epoch: int, quarter: int = 0) -> Row:
        seen = honest(index, epoch, quarter)
        return seen._replace(effects=tuple(new for op in seen.effects if (new := change(op)) is not None))

    monkeypatch.setattr(stream.views, "row", row)
    unseen(monkeypatch, stream)


def unseen(monkeypatch: pytest.MonkeyPatch, stream: StoredStream) -> None:
    """The stream's own comparison of pixels would stop before the checks; that it does has a test below."""
    monkeypatch.setattr(stream._passing, "compare", lambda rows, images: None)


def shift_of_share(op: Op) -> Op:
    if op[0] == "mixup":
        return ("mixup", int(op[1]) - 60 if int(op[1]) > 500 else int(op[1]) + 60, op[2])
    return (*op[:4], int(op[4]) - 4, op[5]) if op[0] == "cutmix" and int(op[4]) > 4 else op


def shift_of_colour(op: Op) -> Op:
    return (op[0], int(op[1]) + 100) if op[0] in ("brightness", "hue") else op


def another_partner(monkeypatch: pytest.MonkeyPatch, cache: Cache, stream: StoredStream) -> None:
    """The sample two further on in the cache, in its own view; the share stays."""
    honest = stream.views.row

    def row(index: int, epoch: int, quarter: int = 0) -> Row:
        seen = honest(index, epoch, quarter)
        if seen.partner is None:
            return seen
        valid = [i for i in range(NUM_SAMPLES) if i != BAD]
        other = valid[(valid.index(seen.partner.sample) + 2) % len(valid)]
        return seen.mixed_with(cache.row(other, seen.view))

    monkeypatch.setattr(stream.views, "row", row)
    unseen(monkeypatch, stream)


@pytest.mark.parametrize(
    ("recipe", "shift"),
    [
        (MIXUP, "partner"),
        (MIXED, "partner"),
        (MIXUP, shift_of_share),
        (MIXED, shift_of_share),
        (RECIPES[1], shift_of_colour),
        (RECIPES[1], lambda op: None if op[0] == "erase" else op),
        (TURNS, lambda op: None if op[0] == "turn" else op),
    ],
    ids=["mixup-partner", "cutmix-partner", "mixup-share", "cutmix-share", "colour", "erase", "turn"],
)
def test_the_check_of_targets_fails_when_something_is_shifted(
    monkeypatch: pytest.MonkeyPatch,
    cache_of: CacheOf,
    teacher: Network,
    recipe: str,
    shift: str | Callable[[Op], Op | None],
) -> None:
    cache = cache_of(recipe, "zarr")
    stream = make_all(cache, 1)[0]
    if callable(shift):
        changed_rows(monkeypatch, stream, shift)
    else:
        another_partner(monkeypatch, cache, stream)
    with pytest.raises(AssertionError):
        assert_targets(cache, stream, teacher)


@pytest.mark.parametrize("shift", ["share", "partner", "labels"])
def test_the_check_of_classes_fails_when_something_is_shifted(
    monkeypatch: pytest.MonkeyPatch, cache_of: CacheOf, shift: str
) -> None:
    cache = cache_of(MIXUP, "zarr")
    stream = make_all(cache, 1)[0]
    honest = stream.views.row
    if shift == "share":
        changed_rows(monkeypatch, stream, shift_of_share)
    elif shift == "partner":
        # Of another class: the last sample is an eel, the first a cat.
        monkeypatch.setattr(
            stream.views,
            "row",
            lambda *at: honest(*at).mixed_with(cache.row(0 if at[0] > 3 else 9, honest(*at).view)),
        )
        unseen(monkeypatch, stream)
    else:
        truth = Cache.truth
        monkeypatch.setattr(Cache, "truth", lambda self, i: truth(self, 9 if i == 0 else i))
    with pytest.raises(AssertionError):
        assert_classes(cache, stream)


@pytest.mark.parametrize(
    ("recipe", "shift"),
    [(MIXUP, shift_of_share), (MIXED, shift_of_share), (RECIPES[1], shift_of_colour)],
    ids=["mixup", "cutmix", "colour"],
)
def test_a_row_that_passes_with_other_pixels_than_the_teacher_saw_stops_the_run(
    monkeypatch: pytest.MonkeyPatch, cache_of: CacheOf, recipe: str, shift: Callable[[Op], Op]
) -> None:
    """Also where the rows that are made before the first batch are as they were."""
    stream = make_all(cache_of(recipe, "zarr"), 1)[0]
    honest = stream.views.row

    def row(index: int, epoch: int, quarter: int = 0) -> Row:
        seen = honest(index, epoch, quarter)
        return seen._replace(effects=tuple(shift(op) for op in seen.effects))

    monkeypatch.setattr(stream.views, "row", row)
    with pytest.raises(BadCache, match="other pixels than the teacher saw"):
        list(epochs_of(stream))


@pytest.mark.parametrize("recipe", [RECIPES[1], MIXUP])
def test_other_colours_or_partners_than_the_teacher_saw_stop_the_run_before_its_first_batch(
    monkeypatch: pytest.MonkeyPatch, cache_of: CacheOf, recipe: str
) -> None:
    cache = cache_of(recipe, "zarr")
    honest = View.effects.fget  # type: ignore[attr-defined]
    shift = {RECIPES[1]: shift_of_colour, MIXUP: shift_of_share}[recipe]
    monkeypatch.setattr(View, "effects", property(lambda self: tuple(shift(op) for op in honest(self))))
    with pytest.raises(BadCache, match="other pixels than the teacher saw"):
        check_pixels(cache)


def test_a_partner_that_the_columns_do_not_point_at_says_how_to_re_make_the_shard(
    monkeypatch: pytest.MonkeyPatch, cache_of: CacheOf
) -> None:
    cache = cache_of(MIXUP, "zarr")
    honest = View.effects.fget  # type: ignore[attr-defined]
    strange = property(lambda self: tuple((*op[:-1], "z") if op[0] == "mixup" else op for op in honest(self)))
    monkeypatch.setattr(View, "effects", strange)
    with pytest.raises(BadCache, match="is mixed with 'z' under view 0, its columns point at 'cat/") as error:
        cache.row(0, 0)
    assert error.value.where == str(cache.root) and "--repair" in error.value.fix


# ---- fresh views of classes


@pytest.mark.parametrize("turns", [False, True])
def test_fresh_views_of_classes_follow_their_recipe_and_resume_anywhere(
    cache_of: CacheOf, turns: bool
) -> None:
    cache = cache_of("pad=4,flip", "zarr")
    layout = BatchLayout(seed=1, global_batch=4)
    augment = "pad=4,flip" if turns else "rrc,flip,jitter=0.4,mixup=0.2,cutmix=1"

    def batches(start: int, count: int) -> list[Batch]:
        stream = FreshStream(cache, layout=layout, crop=CROP, augment=augment, turns=turns)
        run = stream.run(start)
        taken = [next(run) for _ in range(count)]
        stream.close()
        return taken

    whole, tail = batches(0, 4), batches(2, 2)
    for left, right in zip(whole[2:], tail, strict=True):
        assert torch.equal(left.images_BHWC, right.images_BHWC) and torch.equal(left.truth, right.truth)
    classes = np.repeat(np.arange(3), list(NUM_OF_CLASS.values()))
    for batch in whole:
        assert len(batch.images_BHWC) == 4 * (4 if turns else 1) == len(batch.samples_B)
        own = classes[batch.samples_B.numpy()].tolist()
        assert (batch.mixed is None) == turns and batch.rows_per_sample == (4 if turns else 1)
        if batch.mixed is None:
            assert batch.truth.tolist() == own
        else:  # the class of the larger share comes first, whoever's image it is
            assert bool((batch.mixed.share_B < 1).any()) and bool((batch.mixed.share_B >= 0.5).all())
            pairs = zip(batch.truth.tolist(), batch.mixed.labels_B.tolist(), own, strict=True)
            assert all(one in (first, second) for first, second, one in pairs)


def test_four_fresh_turns_show_one_sample(cache_of: CacheOf) -> None:
    layout = BatchLayout(seed=1, global_batch=3)
    stream = FreshStream(cache_of("pad=4,flip", "zarr"), layout=layout, crop=CROP, augment="none", turns=True)
    batch = next(stream.run())
    stream.close()
    fours = batch.images_BHWC.view(3, 4, *batch.images_BHWC.shape[1:])
    assert torch.equal(batch.samples_B.view(3, 4), batch.samples_B[::4, None].expand(3, 4))
    for four in fours:
        for quarter in range(4):
            assert torch.equal(four[quarter], torch.rot90(four[0], quarter, (0, 1)))


def test_every_view_of_a_turned_cache_is_visited_once_in_as_many_epochs(cache_of: CacheOf) -> None:
    stream = make_all(cache_of(TURNS, "zarr"), 1)[0]
    for sample in (0, 7):
        visits = [(epoch, quarter) for epoch in range(NUM_VIEWS) for quarter in range(4)]
        seen = [stream.views.row(sample, epoch, quarter).view for epoch, quarter in visits]
        assert sorted(seen) == list(range(4 * NUM_VIEWS))
