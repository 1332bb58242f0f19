"""Stamps of the source's samples as they were packed: equal stamps spare reading the files again.

`stamps/<block>.json` is a builder's note, part of no generation: without it every file is read once more.
"""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from kdcache.cache.errors import BadCache
from kdcache.cache.processes.progress import moved
from kdcache.cache.record.sealed import read_sealed, sealed
from kdcache.cache.sources.contract import Source
from kdcache.cache.stores.inside import path_inside
from kdcache.cache.stores.local import LocalStore

FOLDER = "stamps"

Stamp = list[int]  # as `Source.stamp` gives it; empty: unknown


class _Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    stamps: list[Stamp]


def stamps_name(block: int) -> str:
    return f"{FOLDER}/{block:05d}.json"


def stamp_of(source: Source, index: int) -> Stamp:
    """Of sample `index` of a source; [] for none, and where no file is there."""
    moved()
    return [] if index < 0 else source.stamp(index)


def read_stamps(root: Path, block: int, rows: int) -> list[Stamp]:
    """One per row; empty ones where there is no note that can be read."""
    try:
        body, _ = read_sealed(path_inside(root, stamps_name(block)), _Body, what="stamps", fix="")
    except BadCache:
        return [[] for _ in range(rows)]
    return body.stamps if len(body.stamps) == rows else [[] for _ in range(rows)]


def write_stamps(store: LocalStore, block: int, stamps: Sequence[Stamp]) -> None:
    content = sealed(_Body(stamps=list(stamps)))
    name = stamps_name(block)
    if not (store.exists(name) and bytes(store.get(name)[0]) == content):
        store.put(name, content)
