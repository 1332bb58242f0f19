"""Pixels that are decoded once or kept by the cache are those of the image pipeline, bit for bit, with their
truths and targets; which of the ways is taken, and what is said of it."""

from collections.abc import Callable
from functools import cache as memoised
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aligned_cache
import aligned_classes
import numpy as np
import pytest
from aligned_classes import BAD, MIXED, RECIPES, TURNS, build_class_cache, draw_classes
from same_batches import assert_same_batches

from kdcache.cache.build.build import build_cache
from kdcache.cache.build.options import BuildOptions
from kdcache.cache.codecs.pixels import PART
from kdcache.cache.errors import BadCache, BadSample
from kdcache.cache.reader.cache import Cache, open_cache
from kdcache.cache.spec import FILL_RGB, Need
from kdcache.cache.tasks.table import SEGMENTATION
from kdcache.cache.trust import trust
from kdcache.cache.views.view import Window
from kdcache.trainer.stream.arrays import levels
from kdcache.trainer.stream.arrays.kept_pixels import KeptPixels
from kdcache.trainer.stream.arrays.levels import Rule
from kdcache.trainer.stream.batch import BatchLayout
from kdcache.trainer.stream.options import DALI
from kdcache.trainer.stream.stored import StoredStream

CacheOf = Callable[..., Cache]
COLOURED = "pad=4,flip,jitter=0.4x0.4x0.4x0.1,randaugment=2x9,erase=0.5,cutmix=1"
ONE = BatchLayout(seed=0, global_batch=6)
WORLDS = (ONE, *(BatchLayout(seed=0, global_batch=6, world=3, rank=rank) for rank in range(3)))
DECODED, KEPT = "decoded once", "kept by the cache"


def with_pixels(cache: Cache) -> Cache:
    """The same cache, grown by its pixels."""
    trust("tiny_teacher:make")
    trust("tiny_classifier:make")
    home = cache.root.parent
    build_cache(BuildOptions(runs_dir=home, caches_dir=home, cache=cache.root, keep="pixels", skip_bad=True))
    return open_cache(cache.root)


@pytest.fixture(scope="module")
def classes_of(tmp_path_factory: pytest.TempPathFactory) -> CacheOf:
    """Caches of a recipe, built when first asked for."""
    folder: Path = draw_classes(tmp_path_factory.mktemp("classes") / "data")
    return memoised(lambda recipe, form="zarr": build_class_cache(folder, form, recipe))


@pytest.fixture(scope="module")
def kept_classes_of(tmp_path_factory: pytest.TempPathFactory) -> CacheOf:
    folder: Path = draw_classes(tmp_path_factory.mktemp("kept") / "data")
    return memoised(lambda recipe, form="zarr": with_pixels(build_class_cache(folder, form, recipe)))


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """Label maps under crops that are not resized, whole images and their mirror images."""
    folder = aligned_cache.draw_lossless_folder(tmp_path_factory.mktemp("maps") / "data")
    return aligned_cache.build_aligned_cache(folder, "zarr", augment="scale=1x1,flip")


@pytest.fixture(scope="module")
def kept_maps(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """Likewise, with crops that are resized."""
    folder = aligned_cache.draw_lossless_folder(tmp_path_factory.mktemp("kept-maps") / "data")
    return with_pixels(aligned_cache.build_aligned_cache(folder, "zarr"))


def both(
    cache: Cache, needs: tuple[Need, ...], layout: BatchLayout = ONE, views: str | None = None
) -> tuple[StoredStream, StoredStream]:
    """The image pipeline's stream, and that of what is there."""
    return (
        StoredStream(cache, needs=needs, layout=layout, views=views),
        StoredStream(cache, needs=needs, layout=layout, views=views, rule=Rule()),
    )


def assert_level(cache: Cache, needs: tuple[Need, ...], said: str, views: str | None = None) -> None:
    """Equal at world sizes 1 and 3, and from a step in the middle of an epoch on."""
    for layout in WORLDS:
        dali, arrays = both(cache, needs, layout, views)
        assert arrays.pixels.startswith(said)
        assert_same_batches(dali, arrays, 8)
    assert_same_batches(*both(cache, needs, views=views), 3, start=17)


@pytest.mark.parametrize("recipe", ["pad=4,flip", RECIPES[2], COLOURED, TURNS])
def test_images_that_are_decoded_once_give_the_batches_of_the_pipeline(
    classes_of: CacheOf, recipe: str
) -> None:
    assert_level(classes_of(recipe), aligned_classes.NEEDS, DECODED)


@pytest.mark.parametrize("views", ["crops", "full"])
def test_label_maps_follow_images_that_are_decoded_once(maps: Cache, views: str) -> None:
    assert_level(maps, aligned_cache.NEEDS, DECODED, views)


@pytest.mark.parametrize("recipe", [RECIPES[1], MIXED, TURNS])
def test_pixels_that_the_cache_keeps_are_those_of_the_pipeline(kept_classes_of: CacheOf, recipe: str) -> None:
    assert_level(kept_classes_of(recipe), aligned_classes.NEEDS, KEPT)


def test_pixels_are_kept_in_tars_too(kept_classes_of: CacheOf) -> None:
    assert_level(kept_classes_of(RECIPES[1], "webdataset"), aligned_classes.NEEDS, KEPT)


@pytest.mark.parametrize("views", ["crops", "full"])
def test_kept_label_maps_belong_to_their_pixels(kept_maps: Cache, views: str) -> None:
    assert_level(kept_maps, aligned_cache.NEEDS, KEPT, views)


def test_a_stream_that_ran_can_be_run_again_from_any_step(classes_of: CacheOf) -> None:
    dali, arrays = both(classes_of("pad=4,flip"), aligned_classes.NEEDS)
    assert_same_batches(dali, arrays, 4, start=9)
    assert_same_batches(dali, arrays, 4, start=2)


# ---- who is mixed in may have retired


def test_a_partner_that_retired_keeps_its_class_and_its_pixels(
    classes_of: CacheOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its column says nothing of retired samples; an image is mixed with it nevertheless."""
    cache = open_cache(classes_of(RECIPES[2]).root)
    gone = cache.row(0, 0).partner
    assert gone is not None
    dead = np.array(sorted({*cache.invalid.tolist(), gone.sample}))
    monkeypatch.setattr(Cache, "invalid", property(lambda self: dead))
    dali, arrays = both(cache, aligned_classes.NEEDS)
    assert arrays.pixels.startswith(f"{DECODED}, 9 images")  # of 8 that live, and of the one that is shown
    assert_same_batches(dali, arrays, 8)


# ---- which way is taken


def test_views_that_resize_go_through_the_pipeline_and_the_run_says_so(classes_of: CacheOf) -> None:
    assert both(classes_of(MIXED), ())[1].pixels == "DALI, because the views resize their images"


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (Rule(stream=DALI), "DALI, because --stream dali asks for it"),
        (Rule(memory=0), "DALI, because --pixel-memory is 0"),
        (
            Rule(memory=70_000),
            "DALI, because the images take 83.6 KiB decoded and --pixel-memory is 68.4 KiB",
        ),
        (
            Rule(memory=100),
            "DALI, because the images take about 38.0 KiB decoded and --pixel-memory is 100 B",
        ),
        (Rule(memory=90_000), "decoded once, 9 images, 83.6 KiB"),
    ],
)
def test_the_reason_is_said(classes_of: CacheOf, rule: Rule, said: str) -> None:
    cache = classes_of("pad=4,flip")
    assert StoredStream(cache, needs=(), layout=ONE, rule=rule).pixels == said


def test_without_a_word_images_take_a_share_of_the_free_memory(
    classes_of: CacheOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(levels, "free_memory", lambda: 4 * 70_000)
    assert "--pixel-memory is 68.4 KiB" in both(classes_of("pad=4,flip"), ())[1].pixels
    monkeypatch.setattr(levels, "free_memory", lambda: None)
    assert both(classes_of("pad=4,flip"), ())[1].pixels.startswith(DECODED)


def test_kept_pixels_are_left_alone_where_the_pipeline_is_asked_for(kept_classes_of: CacheOf) -> None:
    cache = kept_classes_of(TURNS)
    stream = StoredStream(cache, needs=(), layout=ONE, rule=Rule(stream=DALI))
    assert stream.pixels.startswith("DALI")
    assert_same_batches(both(cache, ())[0], stream, 2)


# ---- what is wrong is still seen


@pytest.mark.parametrize("recipe", ["pad=4,flip", TURNS])
def test_a_row_with_other_pixels_than_the_teacher_saw_stops_the_run(
    classes_of: CacheOf, kept_classes_of: CacheOf, recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoded once, and kept: every row is compared as it passes for the first time."""
    cache = open_cache((classes_of if recipe != TURNS else kept_classes_of)(recipe).root)
    stream = both(cache, ())[1]
    shown = {(row.sample, row.view): step for step in (2, 1) for row in stream.rows(step)}
    (sample, view), step = next(iter(shown.items()))
    columns = cache.block_views(sample // 3, view)
    pixels = columns.pixels.copy()
    pixels[sample % 3] ^= 1
    cache._views[sample // 3, view] = columns._replace(pixels=pixels)
    monkeypatch.setattr("kdcache.trainer.stream.stored.check_pixels", lambda *args, **options: None)
    batches = stream.run()
    with pytest.raises(BadCache, match="makes other pixels than the teacher saw") as error:
        for _ in range(step + 1):
            next(batches)
    assert f"'{cache.key(sample)}' view {view}" in str(error.value)


def test_an_image_that_cannot_be_decoded_is_named_before_the_first_batch(
    classes_of: CacheOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = open_cache(classes_of("pad=4,flip").root)
    honest = cache.image
    monkeypatch.setattr(cache, "image", lambda index: honest(index)[:90] if index == 7 else honest(index))
    monkeypatch.setattr("kdcache.trainer.stream.stored.check_pixels", lambda *args, **options: None)
    assert BAD != 7
    stream = both(cache, ())[1]
    with pytest.raises(BadSample, match="image cannot be decoded") as error:
        stream.run()
    assert cache.key(7) in str(error.value)


def test_what_a_window_shows_beside_a_kept_image_is_padding() -> None:
    """Images are as large as they are, windows end on whole cells."""
    whole = np.arange(10 * 8 * 3, dtype=np.uint8).reshape(10, 8, 3)
    cache: Any = SimpleNamespace(task=SEGMENTATION, parts=lambda target, sample, view: {PART: whole})
    rows: Any = SimpleNamespace(samples=np.array([0]), views=np.array([0]))
    (image,) = KeptPixels(cache, (8, 8), None).images(rows, [Window(4, 2, 8, 8)]).numpy()
    assert (image[:6, :6] == whole[4:, 2:]).all()
    assert (image[6:] == FILL_RGB).all() and (image[:, 6:] == FILL_RGB).all()
