"""One builder per cache: an advisory lock that the kernel drops when the builder dies, however it dies.

Where this user may only read there is nothing to lock: a build that has nothing to do ends well, and one that
has stops at its first write. A build that ends before its first record takes back what it began: a folder
that holds nothing would be taken for a cache.

The file also says whether temporary files may lie about: a builder writes its number into it before anything
else and empties it only when it has ended well. Who finds it empty need not look through the whole cache.
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
from kdcache.cache.stores.local import LocalStore

FILE_NAME = "build.lock"
_BEGINNING = {FILE_NAME, MANIFEST, CLASSIFIER_FILE}  # what a build writes before anything that counts


class Held:
    """The lock, held. `litter`: whether a builder before may have left temporary files."""

    def __init__(self, *, litter: bool) -> None:
        self.litter = litter

    def sweep(self, store: LocalStore, *, always: bool = False) -> None:
        """Remove what a builder before left, where there may be any. What nobody may remove stays, and the
        next builder looks again."""
        if self.litter or always:
            self.litter = any(store.exists(name) for name in store.sweep())


@contextmanager
def build_lock(root: Path) -> Iterator[Held]:
    """Hold `root/build.lock`. Raises Busy, with the holder's process number, when another builder has it."""
    before = os.listdir(root) if root.is_dir() else []
    file = _opened(root)
    if file is None:
        yield Held(litter=True)
        return
    with file:
        _lock(file, root)
        # A cache without this file was copied, or its disk forgot it: nobody knows.
        held = Held(litter=FILE_NAME not in before or os.fstat(file.fileno()).st_size > 0)
        _note(file, str(os.getpid()))
        try:
            yield held
        except BaseException:
            if set(before) <= _BEGINNING:
                _take_back(root)
            raise
        if not held.litter:
            _forget(file)


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
    """Who holds the lock, for the error of another builder, and that a builder was here: on disk before its
    first temporary file. It follows what one that died left there, which is never away for a moment. A full
    disk takes a length where it takes no number."""
    descriptor = file.fileno()
    with suppress(OSError):
        try:
            os.write(descriptor, f"{holder}\n".encode())
        except OSError:
            os.ftruncate(descriptor, os.fstat(descriptor).st_size + 1)
        os.fsync(descriptor)


def _forget(file: TextIO) -> None:
    """The builder ended well; one whose note stays costs the next one a look."""
    with suppress(OSError):
        os.ftruncate(file.fileno(), 0)


def _lock(file: TextIO, root: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        holder = (file.read().strip("\0\n").split("\n")[-1]) or "unknown"
        raise Busy(
            f"another builder (process {holder}) is writing this cache",
            where=str(root),
            fix="wait for it to end, or stop it; what it has finished is kept",
        ) from error
    except OSError as error:
        raise refused(error, "the cache could not be locked", root / FILE_NAME) from error
