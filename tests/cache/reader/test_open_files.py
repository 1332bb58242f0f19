"""A cache of more shards than a process may have open files: read twice and checked under a low limit."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from stored_cache import TAP, HandWritten, entry, small_manifest

from kdcache.cache.look.verify import damaged_shards
from kdcache.cache.reader import cache as reader
from kdcache.cache.reader.cache import open_cache
from kdcache.cache.reader.kept import make_room

BLOCKS, FREE = 160, 40


@contextmanager
def few_open_files(more: int) -> Iterator[None]:
    """No more than `more` beside those that are open now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(params=["zarr", "webdataset"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(os, "fsync", lambda fd: None)  # a thousand small files: nobody pulls the plug here
    cache = HandWritten(tmp_path / "c", small_manifest(target_format=request.param))
    for number in range(BLOCKS):
        cache.add_block([entry(f"key{number}")])
        for view in range(cache.manifest.num_views):
            cache.add_targets(number, view, [f"key{number}"])
    cache.settle()
    return cache.root


def test_two_epochs_and_a_check_of_many_shards_need_few_open_files(root: Path) -> None:
    with few_open_files(FREE):
        cache = open_cache(root)
        for _ in range(2):
            for index, view in cache.stored_rows():
                value = cache.parts(TAP.name, index, view)["values"]
                assert (value == (10 * index + view) % 256).all() and cache.image(index).size
        assert len(cache.generation.seals) == 3 * BLOCKS  # samples, and two views
        assert damaged_shards(root, cache.generation) == []


def test_a_reader_that_keeps_few_shards_reads_the_same(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_OPEN", 7)
    cache = open_cache(root)
    for index, view in cache.stored_rows(60):
        assert (cache.parts(TAP.name, index, view)["values"] == (10 * index + view) % 256).all()
    assert len(cache._rows) == len(cache._views) == len(cache._records) == 7


def test_the_oldest_goes_first() -> None:
    kept = {number: str(number) for number in range(5)}
    make_room(kept, 4)
    assert list(kept) == [2, 3, 4]
    make_room(kept, 4)
    assert list(kept) == [2, 3, 4]
