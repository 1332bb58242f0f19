"""Which losses a cache can serve, for `kdcache show`; remembered, so that a second look, and the
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


class Served(msgspec.Struct, frozen=True):
    """`free`: losses that any student can be trained with. `asking`: what a student must have -> names.
    `refused`: name -> why none can, although all that it reads is there."""

    free: tuple[str, ...]
    asking: dict[str, tuple[str, ...]]
    refused: dict[str, str]

    def lines(self) -> Iterator[str]:
        yield f"losses it can serve: {', '.join(self.free)}"
        for need, names in self.asking.items():
            yield f"  needs a student of {need}: {', '.join(names)}"
        for name, why in self.refused.items():
            yield f"  not {name}: {why}"


def served_losses(cache: "Cache") -> Served:
    path = _path(cache)
    with suppress(KdError, OSError, ValueError):
        return decode_sealed(read_regular(path, MOST_BYTES), Served)[0]
    computed = _computed(cache)
    with suppress(KdError, OSError):
        write_whole(path, sealed(computed))
        _make_room(path.parent)
    return computed


def remember_served(root: Path) -> None:
    """After a build, with torch at hand: the first `kdcache show` need not wait."""
    from kdcache.cache.reader.cache import open_cache

    with suppress(KdError, OSError):
        served_losses(open_cache(root))


def _computed(cache: "Cache") -> Served:
    from kdcache.cli.caches.loss_fit import served

    fits = dict(served(cache))
    asking: dict[str, tuple[str, ...]] = {}
    for name, fit in fits.items():
        if fit.student:
            need = " and ".join(fit.student)
            asking[need] = (*asking.get(need, ()), name)
    return Served(
        free=tuple(name for name, fit in fits.items() if fit.refusal is None and not fit.student),
        # In the order in which they are read again.
        asking=dict(sorted(asking.items())),
        refused={name: fit.refusal.what for name, fit in sorted(fits.items()) if fit.refusal is not None},
    )


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
