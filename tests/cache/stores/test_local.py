"""The local store: what it must survive. A full disk, a kill, writes in pieces, thousands of files."""

import errno
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from threading import Barrier, Thread

import pytest

from kdcache.cache.errors import BadCache, DiskFull
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


def test_tiny_buffers_share_a_write_and_large_ones_are_not_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = os.write, []
    monkeypatch.setattr(local.os, "write", lambda fd, piece: (calls.append(len(piece)), real(fd, piece))[1])
    monkeypatch.setattr(local, "GATHER_BYTES", 8)
    large = bytes(range(9))
    buffers = [b"01234", b"", b"567", memoryview(b"89"), large, b"a", b"", b"bcdefghi", b"j"]
    record = LocalStore(tmp_path).put("x", buffers)
    whole = b"".join(buffers)
    assert calls == [8, 2, 9, 1, 8, 1]  # joined up to eight bytes, in order
    assert (tmp_path / "x").read_bytes() == whole
    assert record == ("x", len(whole), digest_bytes(whole))
    assert any(piece is large for piece in local._gathered(buffers))


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


# ---- create: what is there already is never replaced -------------------------------------------------------


@pytest.fixture(params=["links", "no links"])
def created_on(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Also a file system that knows no hard links, as exFAT or some network shares."""
    if request.param == "no links":

        def link(source: object, target: object) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(local.os, "link", link)
    return str(request.param)


def test_what_is_created_is_whole_and_leaves_no_litter(tmp_path: Path, created_on: str) -> None:
    record = LocalStore(tmp_path).create("r/x", b"one")
    assert (tmp_path / "r/x").read_bytes() == b"one" and record == ("r/x", 3, digest_bytes(b"one"))
    assert [p.name for p in (tmp_path / "r").iterdir()] == ["x"], created_on
    assert (tmp_path / "r/x").stat().st_nlink == 1


def test_creating_never_replaces_other_bytes(tmp_path: Path, created_on: str) -> None:
    LocalStore(tmp_path).create("r/x", b"one")
    before = (tmp_path / "r/x").stat()
    for other in (b"two", b"one and more", b"on", b""):
        with pytest.raises(BadCache, match="'r/x' is there already, with other contents") as caught:
            LocalStore(tmp_path).create("r/x", other)
        assert caught.value.where == str(tmp_path / "r/x")
        assert "run the same command again" in caught.value.fix and "--repair" in caught.value.fix
    after = (tmp_path / "r/x").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert [p.name for p in (tmp_path / "r").iterdir()] == ["x"], created_on


def test_creating_the_same_bytes_again_is_what_a_restarted_builder_does(
    tmp_path: Path, created_on: str
) -> None:
    first = LocalStore(tmp_path).create("r/x", b"one")
    inode = (tmp_path / "r/x").stat().st_ino
    assert LocalStore(tmp_path).create("r/x", memoryview(b"one")) == first, created_on
    assert (tmp_path / "r/x").stat().st_ino == inode
    assert [p.name for p in (tmp_path / "r").iterdir()] == ["x"]


def test_a_name_that_a_killed_builder_gave_is_made_safe_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x").write_bytes(b"one")  # linked, but its folder was never synced
    synced: list[Path] = []
    real = local.sync
    monkeypatch.setattr(local, "sync", lambda folder: (synced.append(folder), real(folder)))
    LocalStore(tmp_path).create("x", b"one")
    assert synced == [tmp_path]


def test_a_name_that_a_folder_has_is_taken(tmp_path: Path, created_on: str) -> None:
    (tmp_path / "x" / "inside").mkdir(parents=True)
    with pytest.raises(BadCache, match="'x' is a folder"):
        LocalStore(tmp_path).create("x", b"one")
    assert (tmp_path / "x" / "inside").is_dir(), created_on


def test_of_many_writers_of_one_name_one_wins_and_the_others_know_it(tmp_path: Path) -> None:
    barrier, outcomes = Barrier(8), []

    def create(number: int) -> None:
        barrier.wait()
        try:
            LocalStore(tmp_path).create("r/x", str(number).encode())
            outcomes.append(number)
        except BadCache:
            pass

    threads = [Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = outcomes
    assert (tmp_path / "r/x").read_text() == str(winner)
    assert [p.name for p in (tmp_path / "r").iterdir()] == ["x"]


def test_bytes_reach_the_disk_before_a_created_name_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    fsync, link = os.fsync, os.link
    monkeypatch.setattr(local.os, "fsync", lambda fd: (seen.append("fsync"), fsync(fd)))
    monkeypatch.setattr(local.os, "link", lambda a, b: (seen.append("link"), link(a, b)))
    LocalStore(tmp_path).create("x", b"1")
    assert seen == ["fsync", "link", "fsync"]


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES])
def test_a_link_that_fails_otherwise_is_passed_on_and_nothing_is_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def link(source: object, target: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(local.os, "link", link)
    with pytest.raises(OSError) as caught:
        LocalStore(tmp_path).create("x", b"1")
    assert caught.value.errno == code and list(tmp_path.iterdir()) == []


def test_a_full_disk_creates_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local.os, "write", full_after(2))
    with pytest.raises(DiskFull, match="'x' could not be written"):
        LocalStore(tmp_path).create("x", b"1234")
    assert list(tmp_path.iterdir()) == []


# ---- what is no regular file -------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_a_folder_or_a_pipe_in_the_place_of_an_object_is_an_error_and_does_not_hang(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "x")
    store = LocalStore(tmp_path)
    for read in (store.open_map, store.get):
        with pytest.raises(BadCache, match="'x' is no regular file") as caught:
            read("x")
        assert "kdcache build --repair" in caught.value.fix
    assert not store.exists("x")


def test_an_object_that_was_swapped_for_a_link_is_no_longer_read(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "cache")
    store.put("x", b"mine")
    assert store.open_map("x").tobytes() == b"mine"
    (tmp_path / "secret").write_bytes(b"else")
    (tmp_path / "cache" / "x").unlink()
    (tmp_path / "cache" / "x").symlink_to(tmp_path / "secret")
    with pytest.raises(BadCache, match="'x' is a link"):
        store.open_map("x")


def test_no_link_is_followed_by_listing_or_sweeping(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / ".kdtmp-1-1-x").write_text("of another cache")
    store = LocalStore(tmp_path / "cache")
    store.put("a", b"1")
    (tmp_path / "cache" / "linked").symlink_to(tmp_path / "outside")
    assert store.list() == ["a"] and store.sweep() == []
    with pytest.raises(BadCache, match="'linked' is a link"):
        store.list("linked/")
    assert len(list((tmp_path / "outside").iterdir())) == 1


@pytest.mark.parametrize("act", ["put", "create", "remove"])
def test_an_empty_folder_in_the_place_of_a_file_gives_way(tmp_path: Path, act: str) -> None:
    store = LocalStore(tmp_path)
    (tmp_path / "a/x").mkdir(parents=True)
    getattr(store, act)("a/x", *([] if act == "remove" else [b"1"]))
    assert store.list() == ([] if act == "remove" else ["a/x"])


@pytest.mark.parametrize("act", ["put", "create", "remove"])
def test_a_folder_with_files_is_never_removed_and_the_line_that_moves_it_is_printed(
    tmp_path: Path, act: str
) -> None:
    store = LocalStore(tmp_path)
    (tmp_path / "a b/x").mkdir(parents=True)
    (tmp_path / "a b/x/mine").write_bytes(b"kept")
    words = [] if act == "remove" else [b"1"]
    with pytest.raises(BadCache, match="'x' is a folder that kdcache did not make") as caught:
        getattr(store, act)("a b/x", *words)
    assert caught.value.where == str(tmp_path / "a b/x") and store.list() == ["a b/x/mine"]
    subprocess.run(caught.value.fix.partition("again: ")[2], shell=True, check=True)
    getattr(store, act)("a b/x", *words)
    assert (tmp_path / "a b/x.aside/mine").read_bytes() == b"kept"


@pytest.mark.parametrize("act", ["put", "create"])
def test_a_file_in_the_place_of_a_folder_is_moved_by_the_line_that_is_printed(
    tmp_path: Path, act: str
) -> None:
    store = LocalStore(tmp_path)
    (tmp_path / "a").write_bytes(b"kept")
    store.remove("a/x")
    with pytest.raises(BadCache, match="'a' is a file that kdcache did not make") as caught:
        getattr(store, act)("a/x", b"1")
    subprocess.run(caught.value.fix.partition("again: ")[2], shell=True, check=True)
    getattr(store, act)("a/x", b"1")
    assert (tmp_path / "a.aside").read_bytes() == b"kept" and store.list() == ["a.aside", "a/x"]
