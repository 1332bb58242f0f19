"""The note of a copy that `kdcache compact` makes: of which generation of which cache, and how to finish it.

A builder's note, part of no generation. It is the first file of a copy: a folder with a note and without a
generation is a copy that did not end, and no cache yet.
"""

from pathlib import Path

import msgspec

from kdcache.cache.errors import BadCache
from kdcache.cache.record.generation import list_generations
from kdcache.cache.record.sealed import read_sealed
from kdcache.cache.visible import shell_line

NOTE = "compact.json"


class CopyNote(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is being copied."""

    copied: str  # seal of the generation
    cache: str = (
        ""  # the copied cache, as --cache takes it: its name, or its folder where that lies elsewhere
    )


def copy_note(root: Path) -> CopyNote | None:
    """The note in a folder; None where there is none that can be read."""
    try:
        return read_sealed(root / NOTE, CopyNote, what=NOTE, fix="")[0]
    except BadCache:
        return None


def is_unfinished_copy(root: Path) -> bool:
    """Whether this is a copy that did not end."""
    return (root / NOTE).is_file() and not list_generations(root)


def refuse_unfinished_copy(root: Path) -> None:
    """Raises BadCache for a copy that did not end: neither a cache yet, nor what a build has begun."""
    if is_unfinished_copy(root):
        raise BadCache(
            "this copy of a cache is not finished: nothing in it counts yet",
            where=str(root),
            fix=finishing_line(root),
        )


def finishing_line(root: Path) -> str:
    """The command that finishes the copy in this folder."""
    note = copy_note(root)
    source = (note.cache if note else "") or "CACHE"
    return shell_line(["kdcache", "compact", "--cache", source, "--out", root.name])
