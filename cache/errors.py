"""Errors a user can cause, each in three parts: what is wrong with the values, where, what to do.

Every child also inherits the built-in that a caller would catch. Commands print the text and exit with status
2.
"""

import difflib
from collections.abc import Iterable

from kdcache.cache.visible import visible, visible_lines

# The way out of a sample that cannot be used. It is read by who builds a cache, and by who trains or judges
# on the data themselves, where no option leaves anything out.
LEAVE_OUT = "take the sample out of the data ('kdcache build --skip-bad' builds a cache without it)"


class KdError(Exception):
    """What is wrong, where, and what to do. ``str()`` shows the three parts on three lines, with what came
    from data as it can be seen; the parts themselves keep it as it is."""

    def __init__(self, what: str, *, where: str, fix: str) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.fix = fix

    def __str__(self) -> str:
        what, where = visible(self.what), visible(self.where)
        return f"{what}\n  where: {where}\n  fix:   {visible_lines(self.fix)}"

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        # Keyword-only parts do not survive the default pickling that worker processes use.
        return _rebuild, (type(self), self.what, self.where, self.fix)


def _rebuild(kind: type[KdError], what: str, where: str, fix: str) -> KdError:
    return kind(what, where=where, fix=fix)


class BadOption(KdError, ValueError):
    """A name, option or combination of options that cannot work."""


class Missing(KdError, FileNotFoundError):
    """A folder, split, file, run or cache that is not there."""


class BadSample(KdError, ValueError):
    """An image or label that cannot be used; the message carries its key."""


class BadCache(KdError, RuntimeError):
    """A cache whose bytes or claims do not agree: corrupt, incomplete, of a newer format, or of another
    teacher."""


class LostGeneration(BadCache):
    """An earlier state of a cache that cannot be read: nobody can say again what counted then."""


class OutsideCache(BadCache):
    """A name or a link that leads out of a cache: no repair mends it."""


class TornManifest(BadCache):
    """A manifest that is no manifest. A build with the options that made the cache writes it anew."""


class BadWeights(KdError, ValueError):
    """A weights file that does not fit the network or may not be loaded."""


class Busy(KdError, RuntimeError):
    """Another builder holds this cache, or another run holds this folder."""


class NotFinite(KdError, ArithmeticError):
    """A loss, a gradient, a weight or an answer that is infinite or not a number."""


class Refused(KdError, OSError):
    """A file that the operating system does not let us reach: no permission, a failing disk, too many open
    files. Nothing says that it is damaged. `errno` is the system's number."""


class DiskFull(Refused):
    """Not enough room, found before or while writing. Finished work is kept."""


def nearest(given: str, legal: Iterable[str]) -> str | None:
    """The legal name closest to `given`, or None when none is close."""
    close = difflib.get_close_matches(given, sorted(legal), n=1, cutoff=0.5)
    return close[0] if close else None


def unknown(kind: str, given: str, legal: Iterable[str], *, where: str) -> BadOption:
    """The error for a name outside a closed set: names the nearest legal one and lists them all."""
    names = sorted(legal)
    close = nearest(given, names)
    hint = f"did you mean '{close}'? " if close else ""
    return BadOption(f"unknown {kind} '{given}'", where=where, fix=f"{hint}legal: {', '.join(names)}")


def size_text(num_bytes: float) -> str:
    """1536 -> '1.5 KiB'."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if num_bytes < 1024:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:.1f} TiB"
