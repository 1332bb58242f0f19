"""Which losses a cache can serve, in lines for `kdcache show`; remembered, so that a second look, and the
first one after a build, does not wait for torch and for forty losses to be made.

What is remembered lies in the user's own folder for such things ($XDG_CACHE_HOME, else ~/.cache), never in
the cache: a file per generation of a cache and state of the program's sources, named by the digest of both.
A file that is not there, cannot be read or cannot be written costs seconds and nothing else.
"""

import importlib.util
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from kdcache.cache.errors import KdError
from kdcache.cache.files.regular import read_regular
from kdcache.cache.files.seal import decode_sealed, sealed
from kdcache.cache.files.system import write_whole
from kdcache.cache.fingerprint import digest_of

if TYPE_CHECKING:
    from kdcache.cache.reader.cache import Cache

MOST_FILES, MOST_BYTES = 256, 1 << 18


class _Lines(msgspec.Struct, frozen=True):
    lines: tuple[str, ...]


def served_lines(cache: "Cache") -> tuple[str, ...]:
    """'losses it can serve: ...', what some ask of a student, and what cannot be served although all that it
    reads is there."""
    path = _path(cache)
    with suppress(KdError, OSError, ValueError):
        return decode_sealed(read_regular(path, MOST_BYTES), _Lines)[0].lines
    lines = tuple(_computed(cache))
    with suppress(KdError, OSError):
        write_whole(path, sealed(_Lines(lines)))
        _make_room(path.parent)
    return lines


def remember_served(root: Path) -> None:
    """After a build, with torch at hand: the first `kdcache show` need not wait."""
    from kdcache.cache.reader.cache import open_cache

    with suppress(KdError, OSError):
        served_lines(open_cache(root))


def _computed(cache: "Cache") -> Iterator[str]:
    from kdcache.cli.caches.loss_fit import served

    fits = dict(served(cache))
    free = [name for name, fit in fits.items() if fit.refusal is None and not fit.student]
    yield f"losses it can serve: {', '.join(free)}"
    by_need: dict[tuple[str, ...], list[str]] = {}
    for name, fit in fits.items():
        if fit.student:
            by_need.setdefault(fit.student, []).append(name)
    for need, names in by_need.items():
        yield f"  needs a student of {' and '.join(need)}: {', '.join(names)}"
    for name, fit in fits.items():
        if fit.refusal is not None:
            yield f"  not {name}: {fit.refusal.what}"


def _path(cache: "Cache") -> Path:
    # The generation's seal stands for what it holds and for the manifest of its time.
    key = [cache.manifest.name, cache.generation.seal, *_sources()]
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(home) / "kdcache" / "served" / f"{digest_of(key)}.json"


def _sources() -> Iterator[str]:
    """What changes when an answer may: size and time of every source that takes part in it."""
    for name in ("kdcache.losses", "kdcache.cache", "kdcache.cli.caches"):
        package = importlib.util.find_spec(name)
        for folder in (package.submodule_search_locations or ()) if package else ():
            for path in sorted(Path(folder).rglob("*.py")):
                stat = path.stat()
                yield f"{name} {path.name} {stat.st_size} {stat.st_mtime_ns}"


def _make_room(folder: Path) -> None:
    """Forget the oldest where there are too many."""
    files = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    for path in files[:-MOST_FILES]:
        path.unlink()
