"""Packing in runs: every sample once, in its place, and the first bad one is the one that is named."""

from pathlib import Path
from threading import get_ident

import class_data as draw
import numpy as np
import pytest

from kdcache.cache.build.samples import pack
from kdcache.cache.build.samples.pack import MOST_RUN, RUNS, WORKERS, entries_again, runs_of
from kdcache.cache.errors import BadSample
from kdcache.cache.sources.contract import Source
from kdcache.cache.sources.table import open_source


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return open_source(f"npz:{draw.draw_npz(tmp_path / 'data')}", "train")


@pytest.mark.parametrize("num_samples", [0, 1, 5, 31, 32, 33, 100, 1000, 2048, 4096, 4099])
def test_runs_hold_every_sample_once_in_order(num_samples: int) -> None:
    runs = [list(range(num_samples))[run] for run in runs_of(num_samples)]
    assert [place for run in runs for place in run] == list(range(num_samples))
    assert all(0 < len(run) <= MOST_RUN for run in runs)
    # Of few and large images each is a run: one thread would else wait for the other at the end.
    assert len(runs) >= min(num_samples, RUNS * WORKERS)


def test_tiny_images_are_handed_over_many_at_once() -> None:
    assert len(runs_of(4096)) == 4096 // MOST_RUN


def test_entries_are_those_of_one_thread_in_the_order_of_the_keys(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = list(source.keys)
    wanted = entries_again(source, keys, np.ones(len(keys), dtype=bool))
    threads: set[int] = set()
    honest = source.image_bytes
    monkeypatch.setattr(source, "image_bytes", lambda index: (threads.add(get_ident()), honest(index))[1])
    for most in (1, 4, 64):
        monkeypatch.setattr(
            pack, "runs_of", lambda n, size=most: [slice(i, i + size) for i in range(0, n, size)]
        )
        assert pack._entries(source, keys, range(len(keys)), skip_bad=False) == wanted
    assert get_ident() not in threads


@pytest.mark.parametrize("skip_bad", [True, False])
def test_a_bad_sample_inside_a_run_is_the_only_one_that_is_bad(
    source: Source, monkeypatch: pytest.MonkeyPatch, skip_bad: bool
) -> None:
    honest, bad = source.check, {2, 9}

    def check(index: int) -> tuple[int, int]:
        if index in bad:
            raise BadSample(f"torn {index}", where="here", fix="mend it")
        return honest(index)

    monkeypatch.setattr(source, "check", check)
    monkeypatch.setattr(pack, "runs_of", lambda n: [slice(i, i + 6) for i in range(0, n, 6)])
    keys = list(source.keys)
    if not skip_bad:
        with pytest.raises(BadSample, match="torn 2"):
            pack._entries(source, keys, range(len(keys)), skip_bad=False)
        return
    entries = pack._entries(source, keys, range(len(keys)), skip_bad=True)
    assert [e.key for e in entries] == keys
    assert {place for place, entry in enumerate(entries) if not entry.valid} == bad
