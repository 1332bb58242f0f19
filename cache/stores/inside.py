"""The one way from a name to a file of a cache: never outside its folder, by words or through a link."""

import os
from pathlib import Path

from kdcache.cache.errors import OutsideCache

MAX_NAME, MAX_PART = 1024, 255  # bytes; 255 is what file systems take


def path_inside(root: Path, name: str) -> Path:
    """The file `name` (posix, relative) below `root`, which may itself be a link. Raises OutsideCache."""
    parts = name.split("/")
    if "\0" in name or any(part in ("", ".", "..") for part in parts):
        raise _outside(root, name, "it points outside the cache")
    if not _can_be(name, parts):
        raise _outside(root, f"{name[:40]}...", "no file system takes such a name")
    path = root
    for part in parts:
        path = path / part
        if path.is_symlink():
            raise _outside(root, name, f"'{path.relative_to(root).as_posix()}' is a link")
    return path


def _can_be(name: str, parts: list[str]) -> bool:
    try:
        return len(os.fsencode(name)) <= MAX_NAME and all(len(os.fsencode(p)) <= MAX_PART for p in parts)
    except UnicodeEncodeError:
        return False


def _outside(root: Path, name: str, why: str) -> OutsideCache:
    return OutsideCache(
        f"{name!r} is no file of this cache: {why}",
        where=str(root),
        fix="kdcache writes no such names and no links: take a cache from someone you trust, "
        "or move the whole folder instead of a part",
    )
