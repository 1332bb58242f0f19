"""Sealed files of a cache (cache/files/seal.py): what is decoded is checked against a type with bounds."""

from pathlib import Path
from typing import TypeVar

from kdcache.cache.errors import BadCache
from kdcache.cache.files.regular import read_regular
from kdcache.cache.files.seal import decode_sealed, seal_of, sealed
from kdcache.cache.files.system import GONE

__all__ = ["MAX_BYTES", "decode_sealed", "read_sealed", "seal_of", "sealed"]

MAX_BYTES = 8 << 20  # of one file, where its reader does not say

T = TypeVar("T")


def read_sealed(
    path: Path, kind: type[T], *, what: str, fix: str, max_bytes: int = MAX_BYTES
) -> tuple[T, str]:
    """The value of a file and its seal. Raises BadCache, which calls the file `what`, and Refused."""
    try:
        return decode_sealed(read_regular(path, max_bytes, follow=False), kind)
    except GONE as error:
        raise BadCache(f"{what} is missing", where=str(path), fix=fix) from error
    except ValueError as error:
        raise BadCache(f"{what} cannot be read: {error}", where=str(path), fix=fix) from error
