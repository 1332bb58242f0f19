"""Archives that are read as they say of themselves, up to what a file of their size may hold.

Zeros pack a thousand to one: a hundred kilobytes become a hundred megabytes by right, and ten gigabytes by
an archive in which many names share one place. What unpacks to more than `SMALL` must not be more than
`RATIO` times as large.
"""

import gzip
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy

from kdcache.cache.files.regular import open_regular

SMALL = 256 << 20
RATIO = 200  # pictures and numbers pack 2 to 50 to one
DIRECTORY_BYTES = 16 << 20  # of a zip: 200,000 names
_END, _END64 = b"PK\x05\x06", b"PK\x06\x06"
_PIECE = 1 << 20  # room is made for what is asked for
_TAIL = 66_000  # where a zip's end lies: 22 bytes and a comment of up to 65535


def gunzip(path: Path, max_bytes: int) -> bytes:
    """The bytes of a gzip file. Raises OSError, EOFError, zlib.error, or ValueError where they are more."""
    with open_regular(path, max_bytes) as file, gzip.GzipFile(fileobj=file) as unpacked:
        stream, pieces = Bounded(unpacked, max_bytes), []
        while piece := stream.read(_PIECE):
            pieces.append(piece)
    return b"".join(pieces)


class Bounded(io.RawIOBase):
    """A stream that ends in ValueError after so many bytes: for readers that take any length on trust."""

    def __init__(self, file: BinaryIO | gzip.GzipFile, max_bytes: int) -> None:
        self._file, self._most = file, max_bytes

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_SET and offset > self._most:
            raise self._too_much()
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int | None = -1, /) -> bytes:
        left = self._most - self._file.tell()
        content = self._file.read(left + 1 if size is None or size < 0 else min(size, left + 1))
        if len(content) > left:
            raise self._too_much()
        return content

    def _too_much(self) -> ValueError:
        return ValueError(f"it unpacks to more than the {self._most} bytes that are read")


def check_directory(file: BinaryIO) -> int:
    """The bytes of a zip file, whose list of names is not too long. Raises ValueError."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - _TAIL))
    tail = file.read()
    file.seek(0)
    end, end64 = tail.rfind(_END), tail.rfind(_END64)
    if end < 0:
        raise ValueError("it is no zip file, or is cut at its end")
    length = int.from_bytes(tail[end + 12 : end + 16], "little")
    if end64 >= 0:
        length = max(length % 0xFFFFFFFF, int.from_bytes(tail[end64 + 40 : end64 + 48], "little"))
    if length > DIRECTORY_BYTES:
        raise ValueError(f"its list of names takes {length} bytes, at most {DIRECTORY_BYTES} are read")
    return size


def check_stored(file: BinaryIO) -> None:
    """Raises ValueError, zipfile.BadZipFile for a zip whose members are packed or share their bytes: what
    torch writes lies in it as it is, so that together its members are no larger than the file."""
    size = check_directory(file)
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
    packed = next((m.filename for m in members if m.compress_type != zipfile.ZIP_STORED), None)
    if packed is not None:
        raise ValueError(f"its member '{packed}' is packed, tensors are stored as they are")
    if (claimed := sum(member.file_size for member in members)) > size:
        raise ValueError(f"its members claim {claimed} bytes, it has {size}")
    file.seek(0)


def npz_names(path: Path) -> tuple[str, ...]:
    """The arrays of an npz file. Raises OSError, ValueError, zipfile.BadZipFile."""
    with open_regular(path) as file:
        check_directory(file)
        with zipfile.ZipFile(file) as archive:
            return tuple(name.removesuffix(".npy") for name in archive.namelist())


def npz_arrays(path: Path, names: Sequence[str]) -> list[np.ndarray]:
    """Arrays without objects, no larger than their members. Raises OSError, EOFError, KeyError, ValueError,
    zlib.error, zipfile.BadZipFile."""
    with open_regular(path) as file:
        check_directory(file)
        with zipfile.ZipFile(file) as archive:
            return [_array(archive, archive.getinfo(f"{name}.npy"), name) for name in names]


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> np.ndarray:
    if member.file_size > max(SMALL, RATIO * member.compress_size):
        packed = f"{member.compress_size} bytes to {member.file_size}"
        raise ValueError(f"'{name}' unpacks from {packed}, at most {RATIO} times as many are read")
    with archive.open(member) as content:
        version = npy.read_magic(content)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(content)
        claimed, there = dtype.itemsize * _product(shape), member.file_size - content.tell()
        if dtype.hasobject or claimed != there:
            what = "objects" if dtype.hasobject else f"{claimed} bytes"
            raise ValueError(f"'{name}' claims {what} in shape {shape}, and {there} bytes are there")
    with archive.open(member) as content:
        return np.asarray(npy.read_array(content, allow_pickle=False))


def _product(shape: tuple[int, ...]) -> int:
    total = 1
    for side in shape:  # in Python's integers: numpy's would begin anew at 2^63
        total *= side
    return total
