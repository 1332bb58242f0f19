"""Builds that end before anything counts: what they began is no cache, and what was there stays."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny_folder import draw_folder

import kdcache.cache.build.predict as predicting
from kdcache.cache.build.build import build_cache
from kdcache.cache.build.options import BuildOptions, parse_tap
from kdcache.cache.build.targets import TargetBuilder
from kdcache.cache.errors import DiskFull, Missing
from kdcache.cache.networks.network import Network
from kdcache.cache.reader.cache import open_cache
from kdcache.cache.record.find import find_cache, list_begun, list_caches
from kdcache.cache.record.manifest import FILE_NAME

Patch = pytest.MonkeyPatch


@pytest.fixture
def options(tmp_path: Path) -> BuildOptions:
    return BuildOptions(
        runs_dir=tmp_path / "runs", caches_dir=tmp_path / "caches", teacher="tiny_teacher:make",
        data=f"folder:{draw_folder(tmp_path / 'data', count=4)}", views="crops:1", crop=(40, 48),
        taps=(parse_tap("logits=fp16"),), batch_size=2, shard_rows=2,
    )  # fmt: skip


def content(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file() and path.name != "build.lock")
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def refuse_room(patch: Patch) -> None:
    patch.setattr(predicting.shutil, "disk_usage", lambda path: SimpleNamespace(free=100))


def break_teacher(patch: Patch) -> None:
    def forward(*_: object, **__: object) -> None:
        raise RuntimeError("no kernel for this device")

    patch.setattr(Network, "forward", forward)


def test_a_build_that_is_refused_leaves_no_folder(options: BuildOptions, monkeypatch: Patch) -> None:
    refuse_room(monkeypatch)
    with pytest.raises(DiskFull, match="the disk has 100 B free"):
        build_cache(options)
    assert list(options.caches_dir.iterdir()) == []
    with pytest.raises(Missing, match="there is no cache yet"):
        find_cache(None, options.caches_dir)


def test_what_a_killed_build_began_goes_with_the_next_that_is_refused(
    options: BuildOptions, monkeypatch: Patch
) -> None:
    root = build_cache(options).root
    for path in sorted(root.rglob("*"), reverse=True):
        if path != root / FILE_NAME:
            path.rmdir() if path.is_dir() else path.unlink()
    assert list_caches(options.caches_dir) == [] and list_begun(options.caches_dir) == [root]
    refuse_room(monkeypatch)
    with pytest.raises(DiskFull):
        build_cache(options)
    assert not root.exists()


def test_a_teacher_that_fails_at_its_first_batch_leaves_no_cache_but_its_packed_samples(
    options: BuildOptions, monkeypatch: Patch
) -> None:
    """Packing is the longer half of many builds: the same command goes on from there."""
    with monkeypatch.context() as patch:
        break_teacher(patch)
        with pytest.raises(RuntimeError, match="no kernel"):
            build_cache(options)
    assert list_caches(options.caches_dir) == []
    (root,) = list_begun(options.caches_dir)
    with pytest.raises(Missing, match="there is no cache yet"):
        find_cache(None, options.caches_dir)
    tars = {path: path.stat().st_mtime_ns for path in root.rglob("*.tar")}
    assert len(tars) == 2
    assert build_cache(options).root == root and find_cache(None, options.caches_dir) == root
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*.tar")} == tars
    assert open_cache(root).parts("logits", 3, 0)["values"].size


def test_a_build_that_fails_after_its_first_shard_goes_on_from_there(
    options: BuildOptions, monkeypatch: Patch
) -> None:
    with monkeypatch.context() as patch:
        run = TargetBuilder.run

        def one(self: TargetBuilder, works: list[object], done: object) -> None:
            run(self, works[:1], done)  # type: ignore[arg-type]
            raise RuntimeError("the second shard")

        patch.setattr(TargetBuilder, "run", one)
        with pytest.raises(RuntimeError, match="the second shard"):
            build_cache(options)
    (root,) = list_caches(options.caches_dir)
    assert build_cache(options).shards == 1 and find_cache(None, options.caches_dir) == root


def test_a_finished_cache_stays_as_it_was_when_its_growth_is_refused(
    options: BuildOptions, monkeypatch: Patch
) -> None:
    root = build_cache(options).root
    before = content(root)
    refuse_room(monkeypatch)
    with pytest.raises(DiskFull):
        build_cache(replace(options, views="crops:3"))
    assert content(root) == before and list_caches(options.caches_dir) == [root]


def test_a_folder_with_something_else_in_it_stays(options: BuildOptions, monkeypatch: Patch) -> None:
    root = build_cache(options).root
    for path in sorted(root.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (root / "notes.txt").write_text("mine")
    refuse_room(monkeypatch)
    with pytest.raises(DiskFull):
        build_cache(options)
    assert (root / "notes.txt").read_text() == "mine"
