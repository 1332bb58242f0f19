"""Temporary files of builders that died are removed by the next one, which looks for them only where there
may be any: of ten million samples a look takes as long as all else that a build of one more block does."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cache_scene import Scene, add, counted_store, images, repaint

from kdcache.cache.build import lock
from kdcache.cache.build.build import build_cache
from kdcache.cache.build.lock import FILE_NAME, build_lock
from kdcache.cache.errors import Busy, DiskFull
from kdcache.cache.look.verify import problems
from kdcache.cache.reader.cache import open_cache
from kdcache.cache.stores.local import LocalStore

DIES = """
import os, signal, sys
from pathlib import Path
from kdcache.cache.build.lock import build_lock
with build_lock(Path(sys.argv[1])):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def litter(root: Path) -> list[Path]:
    """What a killed builder leaves, in a folder that was there before and in one of its own."""
    left = [root / "records" / ".kdtmp-1-1-00009-samples.json", root / "new" / "deep" / ".kdtmp-1-2-0"]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"torn")
    return left


def dies(root: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", DIES, str(root)], check=False)
    assert ended.returncode == -signal.SIGKILL


def is_swept(root: Path) -> bool:
    """Whether the next builder of this folder removes what lies there."""
    left = litter(root)
    with build_lock(root) as held:
        held.sweep(LocalStore(root))
    there = {path.exists() for path in left}
    assert len(there) == 1
    return there == {False}


def test_the_build_after_one_that_was_killed_removes_what_it_left(scene: Scene) -> None:
    dies(scene.cache)
    left = litter(scene.cache)
    assert not build_cache(scene.options()).settled, "also where there is nothing to do"
    assert not any(path.exists() for path in left)
    assert (scene.cache / FILE_NAME).read_bytes() == b"" and not list(problems(scene.cache))


def test_after_a_build_that_ended_well_nobody_looks_through_the_cache(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(scene, "aaa", 1)
    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "sweep", lambda store: pytest.fail("nothing can have been left"))
        assert build_cache(scene.options()).generation == 2
    assert len(open_cache(scene.cache).living) == 8


def test_a_repair_looks_through_the_cache_in_any_case(scene: Scene) -> None:
    left = litter(scene.cache)
    build_cache(scene.options(repair=True))
    assert not any(path.exists() for path in left)


@pytest.mark.parametrize("error", [DiskFull("full", where="here", fix="make room"), KeyboardInterrupt()])
def test_a_build_that_ended_in_an_error_may_have_left_something(scene: Scene, error: BaseException) -> None:
    def fails(operation: int, moment: str) -> None:
        raise error

    add(scene, "aaa", 1)
    with counted_store(fails), pytest.raises(type(error)):
        build_cache(scene.options())
    left = litter(scene.cache)
    build_cache(scene.options())
    assert not any(path.exists() for path in left)


def test_who_only_holds_the_lock_leaves_the_word_of_a_killed_builder(scene: Scene) -> None:
    dies(scene.cache)
    with build_lock(scene.cache):  # as who removes a cache, or looks whether one is being built
        pass
    assert is_swept(scene.cache) and not is_swept(scene.cache)


def test_a_cache_that_was_copied_without_its_lock_is_looked_through(scene: Scene) -> None:
    (scene.cache / FILE_NAME).unlink()
    assert is_swept(scene.cache) and not is_swept(scene.cache)


def test_a_builder_that_dies_at_once_leaves_the_word_of_the_one_before(tmp_path: Path) -> None:
    dies(tmp_path)
    number = (tmp_path / FILE_NAME).read_bytes()
    assert number.strip().isdigit()
    dies(tmp_path)
    assert (tmp_path / FILE_NAME).read_bytes().startswith(number), "it was never away"
    with build_lock(tmp_path), pytest.raises(Busy, match=rf"\(process {os.getpid()}\)"), build_lock(tmp_path):
        pass


def test_a_full_disk_takes_the_word_of_a_builder_without_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    (tmp_path / FILE_NAME).touch()
    (tmp_path / "records").mkdir()  # what has nothing else goes with a build that ends
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(lock.os, "write", full)
        with build_lock(tmp_path):
            with pytest.raises(Busy, match=r"\(process unknown\)"), build_lock(tmp_path):
                pass
            raise KeyboardInterrupt
    assert is_swept(tmp_path)


def test_the_word_of_a_builder_is_on_disk_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bytes] = []
    monkeypatch.setattr(lock.os, "fsync", lambda descriptor: synced.append(os.pread(descriptor, 99, 0)))
    with build_lock(tmp_path):
        assert synced == [f"{os.getpid()}\n".encode()]


def test_what_nobody_may_remove_is_looked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dies(tmp_path)
    with monkeypatch.context() as patch:

        def refuse(path: Path, missing_ok: bool = False) -> None:
            raise PermissionError(13, "Permission denied")

        patch.setattr(Path, "unlink", refuse)
        assert not is_swept(tmp_path)
    assert is_swept(tmp_path) and not is_swept(tmp_path)


def test_a_changed_image_settles_after_a_kill_too(scene: Scene) -> None:
    """What the lock says and what the folder of records says are two things."""
    dies(scene.cache)
    repaint(images(scene)[1], 3)
    assert build_cache(scene.options(update=True)).settled and not list(problems(scene.cache))
