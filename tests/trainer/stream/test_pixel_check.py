"""The pixels that train are those that the teacher saw: some rows before the first batch, every crop as it
passes."""

from dataclasses import replace
from itertools import islice

import pytest
import torch
from aligned_cache import INVALID, NEEDS, NUM_INDICES, build_aligned_cache, draw_lossless_folder

from kdcache.cache.errors import BadCache
from kdcache.cache.reader.cache import Cache, open_cache
from kdcache.trainer.stream import pixel_check
from kdcache.trainer.stream.batch import BatchLayout
from kdcache.trainer.stream.pixel_check import REMADE, PassingPixels, check_pixels
from kdcache.trainer.stream.stored import StoredStream

ONE = BatchLayout(seed=3, global_batch=4)
CROPS, WHOLE, MIRRORED = (0, 1), 2, 3  # view numbers
LIVING = sorted(set(range(NUM_INDICES)) - set(INVALID))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    folder = draw_lossless_folder(tmp_path_factory.mktemp("pixels") / "data")
    return build_aligned_cache(folder, "zarr", "crops:2+full")


@pytest.fixture
def cache(built: Cache) -> Cache:
    """Opened anew: what one test says of its digests stays its own."""
    return open_cache(built.root)


def flip_a_digest(cache: Cache, index: int, view: int) -> None:
    """As if the teacher had seen other pixels in this one row."""
    views = cache.block_views(index // 3, view)
    pixels = views.pixels.copy()
    pixels[index % 3] ^= 1
    cache._views[index // 3, view] = views._replace(pixels=pixels)


def before_step_0(cache: Cache) -> list[tuple[int, int]]:
    return list(cache.stored_rows(REMADE))


def test_rows_of_every_kind_of_view_are_made_again_before_the_first_batch(cache: Cache) -> None:
    assert {view for _, view in before_step_0(cache)} == {*CROPS, WHOLE, MIRRORED}
    check_pixels(cache)


@pytest.mark.parametrize("number", range(REMADE))
def test_a_row_that_is_made_again_with_other_pixels_stops_the_run_before_its_first_batch(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    index, view = before_step_0(cache)[number]
    flip_a_digest(cache, index, view)
    then = replace(cache.manifest, pipeline={**cache.manifest.pipeline, "dali": "0.1"})
    monkeypatch.setattr(cache, "manifest", then)
    stream = StoredStream(cache, needs=NEEDS, layout=ONE)
    with pytest.raises(BadCache) as error:
        next(iter(stream.run()))
    text = str(error.value)
    assert f"makes other pixels than the teacher saw: '{cache.key(index)}' view {view}" in text
    assert "dali 0.1 -> " in text and "build the cache again" in text


@pytest.mark.parametrize("sample", LIVING)
@pytest.mark.parametrize("view", CROPS)
def test_every_stored_crop_is_compared_as_it_passes(cache: Cache, sample: int, view: int) -> None:
    """One flipped digest anywhere stops training in the batch that shows its row, and not before."""
    flip_a_digest(cache, sample, view)
    stream = StoredStream(cache, needs=NEEDS, layout=ONE, views="crops")
    steps = (step for step in range(20) if (sample, view) in [(r.sample, r.view) for r in stream.rows(step)])
    told = f"'{cache.key(sample)}' view {view} has digest"
    if (sample, view) in before_step_0(cache):
        with pytest.raises(BadCache, match=told):
            stream.run()
        return
    guilty, batches = next(steps), stream.run()
    for _ in islice(batches, guilty):
        pass
    with pytest.raises(BadCache, match=told):
        next(batches)
    stream.close()


def test_a_row_is_compared_once_and_not_in_every_epoch(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []
    digests = pixel_check.pixel_digests

    def counted(images: torch.Tensor) -> object:
        compared.append(len(images))
        return digests(images)

    stream = StoredStream(cache, needs=NEEDS, layout=ONE, views="crops")
    monkeypatch.setattr(pixel_check, "pixel_digests", counted)
    batches = stream.run()
    for _ in islice(batches, 4):  # 16 positions: both views of seven samples, and two of them again
        pass
    seen = [1] * REMADE + [4] * 3 + [2]
    assert compared == seen
    for _ in islice(batches, 6):
        pass
    assert compared == seen
    stream.close()


def test_windows_pass_unseen_and_are_left_to_verify(cache: Cache) -> None:
    """Of a window the teacher saw the whole image: its digest says nothing of a part."""
    passed = [row for row in before_step_0(cache) if row[1] == WHOLE]
    other = next(sample for sample in LIVING if (sample, WHOLE) not in passed)
    flip_a_digest(cache, other, WHOLE)
    stream = StoredStream(cache, needs=NEEDS, layout=ONE, views="full")
    for _ in islice(stream.run(), 5):
        pass
    stream.close()


def test_pixels_on_a_gpu_are_not_fetched_to_be_compared(cache: Cache) -> None:
    flip_a_digest(cache, 0, 0)
    PassingPixels(cache).compare([cache.row(0, 0)], torch.zeros((1, 40, 48, 3), device="meta"))
    with pytest.raises(BadCache):
        PassingPixels(cache).compare([cache.row(0, 0)], torch.zeros((1, 40, 48, 3), dtype=torch.uint8))
