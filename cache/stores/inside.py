"""The one way from a name to a file of a cache: never outside its folder, by words or through a link."""

import os
from pathlib import Path
from stat import S_ISLNK

from kdcache.cache.errors import OutsideCache
from kdcache.cache.files.system import GONE

MAX_NAME, MAX_PART = 1024, 255  # bytes; 255 is what file systems take


def path_inside(root: Path, name: str) -> Path:
    """The file `name` (posix, relative) below `root`, which may itself be a link. Raises OutsideCache."""
    parts = name.split("/")
    if "\0" in name or any(part in ("", ".", "..") for part in parts):
        raise _outside(root, name, "it points outside the cache")
    if not _can_be(name, parts):
        raise _outside(root, f"{name[:40]}...", "no file system takes such a name")
    path = os.fspath(root)  # text: every read of a cache of a hundred thousand files comes by here
    for number, part in enumerate(parts, 1):
        path = f"{path}/{part}"
        try:
            is_link = S_ISLNK(os.lstat(path).st_mode)
        except GONE:
            break  # nor is anything below it
        if is_link:
            raise _outside(root, name, f"'{'/'.join(parts[:number])}' is a link")
    return root / name


def _can_be(name: str, parts: list[str]) -> bool:
    try:
        if name.isascii() and len(name) <= MAX_PART:
            return True
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
