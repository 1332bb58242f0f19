"""Shards on their way to disk: what a failing writer, an empty shard and a second builder leave."""

import os
from dataclasses import replace
from pathlib import Path
from threading import Semaphore

import pytest
from tiny_folder import draw_folder

from kdcache.cache.build import targets
from kdcache.cache.build.build import BuildEvents, build_cache
from kdcache.cache.build.lock import build_lock
from kdcache.cache.build.options import BuildOptions, parse_tap
from kdcache.cache.build.predict import Prediction
from kdcache.cache.errors import Busy, DiskFull
from kdcache.cache.reader.cache import open_cache


@pytest.fixture
def options(tmp_path: Path) -> BuildOptions:
    data = draw_folder(tmp_path / "data", 3)
    return BuildOptions(
        runs_dir=tmp_path / "runs", caches_dir=tmp_path / "caches", teacher="tiny_teacher:make",
        data=f"folder:{data}", views="crops:1", crop=(32, 32), taps=(parse_tap("logits=fp16"),), shard_rows=1,
    )  # fmt: skip


@pytest.mark.parametrize("failing", [1, 3])
def test_a_shard_that_could_not_be_written_ends_the_build(
    options: BuildOptions, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    """Also where it was the last one: a build that ends well has written everything."""
    real, calls = targets.write_shard, iter(range(1, 100))
    put, handed_over = targets.ShardWriter.put, Semaphore(0)

    def counted(writer: targets.ShardWriter, *shard: object) -> None:
        put(writer, *shard)  # type: ignore[arg-type]
        handed_over.release()

    def full(*shard: object) -> None:
        if (call := next(calls)) == failing:
            for _ in range(min(call + 1, 3)):  # the next shard, where there is one, waits by then
                handed_over.acquire(timeout=60)
            raise DiskFull("no space left", where="here", fix="make room")
        real(*shard)  # type: ignore[arg-type]

    monkeypatch.setattr(targets.ShardWriter, "put", counted)
    monkeypatch.setattr(targets, "write_shard", full)
    with pytest.raises(DiskFull, match="no space left"):
        build_cache(options)
    monkeypatch.setattr(targets, "write_shard", real)
    assert build_cache(options).rows == 4 - failing, (
        "what was written before it is kept, and nothing after it"
    )


def test_a_shard_without_a_valid_sample_is_finished_too(options: BuildOptions, tmp_path: Path) -> None:
    (tmp_path / "data" / "train" / "images" / "scene01.jpg").write_bytes(b"\xff\xd8\xff torn")
    first = build_cache(replace(options, skip_bad=True))
    assert (first.rows, first.shards, first.skipped) == (2, 3, ("scene01",))
    again = build_cache(replace(options, skip_bad=True))
    assert (again.rows, again.shards) == (0, 0), "or every build would find it missing"
    cache = open_cache(first.root)
    assert cache.invalid.tolist() == [1] and len(cache.complete_views(["logits"])) == 1


def test_what_is_there_already_is_not_predicted(options: BuildOptions) -> None:
    predictions: list[Prediction] = []
    events = BuildEvents(planned=lambda plan, prediction, assignment: predictions.append(prediction))
    build_cache(options, events)
    build_cache(options, events)
    build_cache(replace(options, views="crops:2"), events)
    first, second, third = predictions
    assert (second.rows, second.target_bytes, second.sample_bytes) == (0, 0, 0)
    assert (third.rows, third.target_bytes, third.sample_bytes) == (3, first.target_bytes, 0)
    tars = sum(
        path.stat().st_size for path in open_cache(build_cache(options).root).root.glob("samples/*.tar")
    )
    assert first.sample_bytes == pytest.approx(tars, rel=0.2)


def test_a_second_builder_is_told_who_is_at_work_and_may_begin_when_it_is_done(tmp_path: Path) -> None:
    with build_lock(tmp_path):
        with pytest.raises(Busy, match=rf"another builder \(process {os.getpid()}\)"), build_lock(tmp_path):
            pass
    with build_lock(tmp_path):
        pass
