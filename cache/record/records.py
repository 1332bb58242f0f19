"""Records: the only thing that says a shard exists.

`records/<block>-samples.json` stands for one block's tar and index; `records/<block>-v<view>-<pass>.json`
stands for the targets that one pass of the teacher wrote for one block under one view number. Objects come
first, the record last and atomically, so a record never names bytes that are not on disk. File names carry
block, view and pass: listing the folder tells what a cache of millions of rows holds without opening a single
record.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kdcache.cache.errors import BadCache
from kdcache.cache.stores.contract import ObjectRecord, ShardKey

FOLDER = "records"
_NAME = re.compile(r"^(\d{5,})-(?:samples|v(\d{3,})-([0-9a-f]{8}))\.json$")


def record_name(shard: ShardKey) -> str:
    """The record's file, relative to the cache."""
    tail = "samples" if shard.of_samples else f"v{shard.view:03d}-{shard.pass_id}"
    return f"{FOLDER}/{shard.block:05d}-{tail}.json"


def list_records(root: Path) -> set[ShardKey]:
    """Every committed shard of a cache, from file names alone."""
    folder = root / FOLDER
    if not folder.is_dir():
        return set()
    with os.scandir(folder) as entries:
        matches = [m for m in (_NAME.match(entry.name) for entry in entries) if m]
    return {ShardKey(int(m[1]), int(m[2]) if m[2] else -1, m[3] or "") for m in matches}


def stored_shard_samples(root: Path) -> int | None:
    """Samples per shard as the records have it; None without a record."""
    first = ShardKey(0)
    return int(read_record(root, first)["shard_samples"]) if has_record(root, first) else None


def has_record(root: Path, shard: ShardKey) -> bool:
    return (root / record_name(shard)).is_file()


def read_record(root: Path, shard: ShardKey) -> dict[str, Any]:
    """The record's JSON. Raises BadCache when it is torn or missing."""
    try:
        record: dict[str, Any] = json.loads((root / record_name(shard)).read_text())
        record["objects"] = [ObjectRecord(*o) for o in record["objects"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadCache(
            f"the record of {shard.title} cannot be read: {error}",
            where=str(root / record_name(shard)),
            fix="run 'kdcache build --repair'",
        ) from error
    return record


class Coverage:
    """Which (target, view, block) exist, from the records and the manifest's table of passes."""

    def __init__(self, keys: set[ShardKey], passes: Mapping[str, tuple[str, ...]]) -> None:
        self.samples = {k.block for k in keys if k.of_samples}
        self._of_target: dict[tuple[str, int, int], ShardKey] = {}
        for key in sorted(keys):
            for target in passes.get(key.pass_id, ()):
                self._of_target[target, key.view, key.block] = key

    def key(self, target: str, view: int, block: int) -> ShardKey | None:
        return self._of_target.get((target, view, block))

    def missing(self, targets: tuple[str, ...], view: int, block: int) -> tuple[str, ...]:
        return tuple(t for t in targets if (t, view, block) not in self._of_target)

    def keys(self) -> Iterator[ShardKey]:
        return iter(sorted(set(self._of_target.values())))
