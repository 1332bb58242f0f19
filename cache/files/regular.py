"""The one way to open a file that this project did not just write: regular, of a bounded size, really there.

A pipe would hang its reader, a device has no end, and a file of nothing but holes takes a terabyte to read
and no byte on disk. Links are followed, to regular files alone, unless the caller says otherwise: data sets
are often put together of links, caches never.
"""

import os
import stat
from contextlib import AbstractContextManager
from io import BufferedReader
from pathlib import Path

from kdcache.cache.files.system import GONE, touching

NOT_REGULAR = "it is no regular file"
TEXT_BYTES = 16 << 20  # of a description that people write: names, options, lists
SMALL_HOLE = 1 << 30  # holes up to this are read in less than a second
MOSTLY = 16  # a file is mostly holes when fewer than one byte in so many is on disk
_MOST_EXTENTS = 4096


def open_regular(
    path: Path, max_bytes: int | None = None, *, follow: bool = True, what: str = ""
) -> BufferedReader:
    """The open file. Raises FileNotFoundError or NotADirectoryError for none, Refused where the system does
    not let us reach it, ValueError for what is no regular file, larger than `max_bytes`, or mostly holes.
    `follow` False refuses a link too; `what` is what an error calls the file."""
    with _reading(path, what):
        status = path.stat() if follow else path.lstat()
        if not stat.S_ISREG(status.st_mode):  # before opening: to open a device may already do something
            raise ValueError(NOT_REGULAR)
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
        descriptor = os.open(path, flags)
    try:
        check_opened(descriptor, max_bytes)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: Path, max_bytes: int, *, follow: bool = True, what: str = "") -> bytes:
    """All bytes of a file. Raises as `open_regular`."""
    with _reading(path, what), open_regular(path, max_bytes, follow=follow, what=what) as file:
        # It may have grown since; room is made for what is asked for, so not for `max_bytes`.
        content = file.read(min(max_bytes, os.fstat(file.fileno()).st_size) + 1)
    if len(content) > max_bytes:
        raise ValueError(_too_large(len(content), max_bytes))
    return content


def read_text(path: Path, max_bytes: int = TEXT_BYTES, *, what: str = "") -> str:
    """A file of UTF-8, with or without a mark at its start. Raises as `open_regular`."""
    return read_regular(path, max_bytes, what=what).decode("utf-8-sig")


def _reading(path: Path, what: str) -> AbstractContextManager[None]:
    name = what or f"'{path.name}'"
    return touching(f"{name} cannot be read", path, passing=GONE)


def check_opened(descriptor: int, max_bytes: int | None = None) -> None:
    """Raises ValueError for an open file that is not regular, larger than `max_bytes`, or mostly holes."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(NOT_REGULAR)
    if max_bytes is not None and status.st_size > max_bytes:
        raise ValueError(_too_large(status.st_size, max_bytes))
    if status.st_size > SMALL_HOLE and (there := _on_disk(descriptor, status.st_size)) is not None:
        if there * MOSTLY < status.st_size - SMALL_HOLE:
            raise ValueError(f"of its {status.st_size} bytes only {there} are on disk: the rest are holes")


def _on_disk(descriptor: int, size: int) -> int | None:
    """Bytes that are no holes; None where the file system does not say, or there are very many pieces."""
    there, place = 0, 0
    try:
        for _ in range(_MOST_EXTENTS):
            try:
                start = os.lseek(descriptor, place, os.SEEK_DATA)
            except OSError:  # no data from here on; a file system that cannot tell calls all of it data
                return there
            place = os.lseek(descriptor, start, os.SEEK_HOLE)
            there += place - start
            if place >= size:
                return there
        return None
    finally:
        os.lseek(descriptor, 0, os.SEEK_SET)


def _too_large(have: int, most: int) -> str:
    return f"it has {have} bytes, at most {most} are read"
