"""The local store: what it must survive. A full disk, a kill, writes in pieces, thousands of files."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kdcache.cache.errors import DiskFull
from kdcache.cache.fingerprint import digest_bytes
from kdcache.cache.stores import local
from kdcache.cache.stores.local import LocalStore


def full_after(num_bytes: int, code: int = errno.ENOSPC) -> Callable[[int, memoryview], int]:
    """An os.write that takes `num_bytes` in pieces, as a filling disk does, and then fails."""
    real, room = os.write, num_bytes

    def write(fd: int, buffer: memoryview) -> int:
        nonlocal room
        if room == 0:
            raise OSError(code, os.strerror(code))
        written = real(fd, buffer[:room])
        room -= written
        return written

    return write


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    store = LocalStore(tmp_path)
    store.put("a/x", b"old")
    with monkeypatch.context() as patch:
        patch.setattr(local.os, "write", full_after(5, code))
        with pytest.raises(DiskFull) as caught:
            store.put("a/x", [b"1234", b"5678"])
    assert "the disk is full: 'x' could not be written" in caught.value.what
    assert caught.value.where == str(tmp_path / "a")
    assert "finished shards are kept" in caught.value.fix
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["x"]
    assert (tmp_path / "a/x").read_bytes() == b"old"
    store.put("a/x", b"again")
    assert (tmp_path / "a/x").read_bytes() == b"again"


def test_a_disk_that_is_full_only_at_fsync_is_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(fd: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(local.os, "fsync", fsync)
    with pytest.raises(DiskFull):
        LocalStore(tmp_path).put("x", b"1")
    assert list(tmp_path.iterdir()) == []


def test_another_failure_of_the_disk_is_passed_on_and_leaves_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local.os, "write", full_after(2, errno.EIO))
    with pytest.raises(OSError) as caught:
        LocalStore(tmp_path).put("x", b"1234")
    assert caught.value.errno == errno.EIO and list(tmp_path.iterdir()) == []


def test_a_write_in_small_pieces_is_still_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(local.os, "write", lambda fd, buffer: real(fd, buffer[:3]))
    record = LocalStore(tmp_path).put("x", [b"0123456789", b"ab"])
    assert (tmp_path / "x").read_bytes() == b"0123456789ab"
    assert record.digest == digest_bytes(b"0123456789ab")


def test_bytes_reach_the_disk_before_the_name_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, seen = LocalStore(tmp_path), []
    (tmp_path / "a").mkdir()
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(local.os, "fsync", lambda fd: (seen.append("fsync"), fsync(fd)))
    monkeypatch.setattr(local.os, "replace", lambda a, b: (seen.append("rename"), replace(a, b)))
    store.put("a/x", b"1")
    assert seen == ["fsync", "rename", "fsync"]


def test_what_a_kill_leaves_is_swept_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(tmp_path)
    store.put("a/x", b"kept")
    store.put("a/.hidden", b"not ours")
    with monkeypatch.context() as patch:  # a SIGKILL: no cleanup runs
        patch.setattr(local.os, "replace", lambda a, b: _die())
        patch.setattr(Path, "unlink", lambda self, missing_ok=False: None)
        with pytest.raises(RuntimeError, match="killed"):
            store.put("a/y", b"torn")
    assert len(list((tmp_path / "a").iterdir())) == 3
    assert store.list() == ["a/.hidden", "a/x"] and not store.exists("a/y")
    assert len(store.sweep()) == 1
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [".hidden", "x"]
    assert store.sweep() == []


def _die() -> None:
    raise RuntimeError("killed")


def test_a_file_is_mapped_once_and_the_number_of_maps_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "MAX_MAPS", 2)
    store = LocalStore(tmp_path)
    for name in "abc":
        store.put(name, name.encode())
    first = store.open_map("a")
    assert store.open_map("a") is first
    store.open_map("b"), store.open_map("a"), store.open_map("c")  # 'b' was used longest ago
    assert store.open_map("a") is first
    assert len(store._maps) == 2
    assert first.tobytes() == b"a"
