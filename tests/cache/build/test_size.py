"""How large shards are, and how much of them waits in memory."""

from types import SimpleNamespace
from typing import Any

import pytest

from kdcache.cache.build import size
from kdcache.cache.build.options import MAX_SHARD_BYTES
from kdcache.cache.build.size import MAX_SHARD_SAMPLES, flight_bytes, largest_input, shard_samples
from kdcache.cache.errors import BadSample

ROW = {"stage4": 1 << 20, "logits": 1 << 18}  # bytes of one row at an input of 10 x 10 pixels
PLENTY = 1 << 60
MANY = 1_000_000  # samples


@pytest.fixture(autouse=True)
def rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row's bytes grow with the pixels of its input."""
    monkeypatch.setattr(size, "bytes_per_row", lambda manifest, name, spec: ROW[name] * spec // 100)


def manifest(*crops: tuple[int, int] | None, shard: int = 4) -> Any:
    taps = [SimpleNamespace(name=name, spec=lambda height, width: height * width) for name in ROW]
    views = [SimpleNamespace(crop=crop) for crop in crops]
    return SimpleNamespace(views=views, stored=taps, shard_samples=shard)


class Sized:
    """A source whose images have these sizes; None cannot be read."""

    def __init__(self, *sizes: tuple[int, int] | None, count: int = 0) -> None:
        self.sizes = sizes
        self.keys = range(count or len(sizes))

    def size(self, index: int) -> tuple[int, int]:
        known = self.sizes[index]
        if known is None:
            raise BadSample("torn", where="here", fix="mend it")
        return known


def samples(held: Any, memory_bytes: int = PLENTY, source: Any = None) -> int:
    return shard_samples(held, source or Sized(count=MANY), memory_bytes)


def test_the_largest_file_of_a_shard_stays_under_the_bound() -> None:
    assert samples(manifest((10, 10))) == MAX_SHARD_BYTES // ROW["stage4"] == 256
    assert samples(manifest((10, 10), (20, 10))) == 128, "the larger of two crops decides"


def test_three_shards_of_every_tap_fit_into_memory() -> None:
    both = sum(ROW.values())
    assert samples(manifest((10, 10)), memory_bytes=3 * 7 * both) == 7
    assert samples(manifest((10, 10)), memory_bytes=3 * 7 * both - 1) == 6
    assert flight_bytes(manifest((10, 10), shard=7), []) == 3 * 7 * both


def test_a_shard_has_a_sample_and_no_more_than_there_are_or_than_4096() -> None:
    assert samples(manifest((10, 10)), memory_bytes=1) == 1
    assert samples(manifest((10, 10)), source=Sized(count=5)) == 5
    assert samples(manifest((1, 1))) == MAX_SHARD_SAMPLES == 4096


def test_whole_images_are_as_large_as_the_largest_that_can_be_read() -> None:
    sizes = ((10, 5), None, (20, 20), (40, 2))
    assert samples(manifest(None), source=Sized(*sizes * 20)) == 64
    assert largest_input(manifest((30, 30), None), [(20, 20)]) == (30, 30)
    assert largest_input(manifest((10, 10)), [(20, 20)]) == (10, 10), "no view shows a whole image"
