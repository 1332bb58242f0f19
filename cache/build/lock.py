"""One builder per cache: an advisory lock that the kernel drops when the builder dies, however it dies.

Where this user may only read there is nothing to lock: a build that has nothing to do ends well, and one that
has stops at its first write. A build that ends before its first record takes back what it began: a folder
that holds nothing would be taken for a cache.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from kdcache.cache.errors import Busy
from kdcache.cache.files.system import READ_ONLY, refused, touching
from kdcache.cache.record.classifier import CLASSIFIER_FILE
from kdcache.cache.record.generation import list_generations
from kdcache.cache.record.manifest import FILE_NAME as MANIFEST
from kdcache.cache.record.records import list_records
from kdcache.cache.stores.inside import path_inside

FILE_NAME = "build.lock"
_BEGINNING = {FILE_NAME, MANIFEST, CLASSIFIER_FILE}  # what a build writes before anything that counts


@contextmanager
def build_lock(root: Path) -> Iterator[None]:
    """Hold `root/build.lock`. Raises Busy, with the holder's process number, when another builder has it."""
    before = os.listdir(root) if root.is_dir() else []
    file = _opened(root)
    if file is None:
        yield
        return
    with file:
        _lock(file, root)
        _note(file, str(os.getpid()))
        try:
            yield
        except BaseException:
            if set(before) <= _BEGINNING:
                _take_back(root)
            raise
        finally:
            _note(file, "")


def _opened(root: Path) -> TextIO | None:
    """The file to lock; None in a folder that is there and takes none."""
    with touching("the folder of the cache cannot be written", root):
        root.mkdir(parents=True, exist_ok=True)
    path = path_inside(root, FILE_NAME)  # a link would be written through
    try:
        return path.open("a+")
    except OSError as error:
        if error.errno in READ_ONLY:
            return None
        raise refused(error, "the lock of the cache could not be opened", path) from error


def _take_back(root: Path) -> None:
    """Remove the folder of a build that recorded nothing, under its lock. What cannot be removed stays: the
    error that ended the build is the one that is said."""
    if not (list_records(root) or list_generations(root)):
        shutil.rmtree(root, ignore_errors=True)


def _note(file: TextIO, holder: str) -> None:
    """Who holds the lock, for the error of another builder; a full disk does without."""
    with suppress(OSError):
        os.ftruncate(file.fileno(), 0)
        os.write(file.fileno(), holder.encode())


def _lock(file: TextIO, root: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        raise Busy(
            f"another builder (process {holder}) is writing this cache",
            where=str(root),
            fix="wait for it to end, or stop it; what it has finished is kept",
        ) from error
    except OSError as error:
        raise refused(error, "the cache could not be locked", root / FILE_NAME) from error
