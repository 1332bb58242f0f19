"""Sealed files of a cache (cache/seal.py): what is decoded is checked against a type with bounds."""

import stat
from pathlib import Path
from typing import TypeVar

from kdcache.cache.errors import BadCache
from kdcache.cache.seal import decode_sealed, seal_of, sealed

__all__ = ["MAX_BYTES", "decode_sealed", "read_regular", "read_sealed", "seal_of", "sealed"]

MAX_BYTES = 256 << 20  # of one file; ten million rows take about one

T = TypeVar("T")


def read_sealed(path: Path, kind: type[T], *, what: str, fix: str) -> tuple[T, str]:
    """The value of a file and its seal. Raises BadCache, which calls the file `what`."""
    try:
        return decode_sealed(read_regular(path), kind)
    except FileNotFoundError as error:
        raise BadCache(f"{what} is missing", where=str(path), fix=fix) from error
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise BadCache(f"{what} cannot be read: {why}", where=str(path), fix=fix) from error


def read_regular(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """A regular file of bounded size. Raises OSError, or ValueError for anything else."""
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is no regular file")
    if status.st_size > max_bytes:
        raise ValueError(f"it has {status.st_size} bytes, at most {max_bytes} are read")
    return path.read_bytes()
