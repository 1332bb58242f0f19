"""Windows of stored maps are copied into buffers that come round again: never while a batch is on its way."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from aligned_cache import NEEDS, build_aligned_cache, draw_lossless_folder

from kdcache.cache.images.feed import Feed
from kdcache.cache.images.pipeline import ImagePipeline
from kdcache.cache.reader.cache import Cache
from kdcache.trainer.stream import stored as module
from kdcache.trainer.stream.batch import BatchLayout
from kdcache.trainer.stream.stored import StoredStream
from kdcache.trainer.stream.stored_views import cells

LAYOUT = BatchLayout(seed=3, global_batch=3)
NUM_STEPS = 12


class Watched(ImagePipeline):
    """The pipeline itself, which also keeps the feeds that it was given."""

    latest: "Watched"

    def __init__(self, feed: Callable[[int], Feed | None], **options: Any) -> None:
        self.given: dict[int, Feed] = {}
        super().__init__(lambda number: self.given.setdefault(number, feed(number)), **options)
        type(self).latest = self


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    folder = draw_lossless_folder(tmp_path_factory.mktemp("ring") / "data")
    return build_aligned_cache(folder, "zarr", "crops:1+full")


@pytest.fixture
def watched(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    """After some batches of windows, a crop in each of them."""
    monkeypatch.setattr(module, "ImagePipeline", Watched)
    stream = StoredStream(cache, needs=NEEDS, layout=LAYOUT, views="full", crop=(40, 48))
    for _ in itertools.islice(stream.run(), NUM_STEPS):
        pass
    yield Watched.latest
    stream.close()


def maps_of(feed: Feed) -> list[np.ndarray]:
    """The windows of stage1, stage4 and logits: what has axes H, W, C."""
    return [array for kind in feed.passengers for array in kind if array.ndim == 3]


def test_a_buffer_is_written_again_only_when_its_batch_has_left_the_pipeline(watched: Watched) -> None:
    """The pipeline may still read the arrays of a feed until prefetch + 2 feeds later (see `Feed`)."""
    unchanged = watched.prefetch + 2
    steps = sorted(watched.given)
    assert watched.prefetch == 2 and len(steps) >= NUM_STEPS
    for first, later in itertools.combinations(steps, 2):
        if later - first < unchanged:
            pairs = itertools.product(maps_of(watched.given[first]), maps_of(watched.given[later]))
            assert not any(np.shares_memory(one, other) for one, other in pairs), f"{first} and {later}"


def test_buffers_come_round_again_so_that_memory_stays_bounded(watched: Watched) -> None:
    addresses = {a.__array_interface__["data"][0] for feed in watched.given.values() for a in maps_of(feed)}
    assert len(addresses) == (watched.prefetch + 2) * LAYOUT.micro_batch * len(NEEDS)


def test_the_rows_of_one_batch_never_share_a_buffer(watched: Watched) -> None:
    for feed in watched.given.values():
        pairs = itertools.combinations(maps_of(feed), 2)
        assert not any(np.shares_memory(one, other) for one, other in pairs)


def test_a_feed_is_still_what_the_cache_holds_when_the_next_three_were_made(cache: Cache) -> None:
    """As DALI may see it: read late, without a copy."""
    stream = StoredStream(cache, needs=NEEDS, layout=LAYOUT, views="full", crop=(40, 48))
    feeds = [stream.feed(step) for step in range(4)]
    for step, feed in enumerate(feeds):
        wanted = [windows(cache, stream, step, need.name) for need in NEEDS]
        for window, expected in zip(maps_of(feed), itertools.chain(*wanted), strict=True):
            np.testing.assert_array_equal(window, expected)


def windows(cache: Cache, stream: StoredStream, step: int, target: str) -> list[np.ndarray]:
    """Copies of the stored cells that each row of a micro step shows."""
    copies = []
    for row in stream.rows(step):
        assert row.window is not None
        rows, columns = cells(row.window, cache.tap(target).stride)
        copies.append(cache.parts(target, row.sample, row.view)["values"][rows, columns].copy())
    return copies
