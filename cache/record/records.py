"""Records: what says that a shard exists, sealed and created only once.

`records/<block>-samples.json` stands for one block's tar and index; `records/<block>-v<view>-<pass>.json`
stands for the targets that one pass of the teacher wrote for one block under one view number. Objects come
first, the record last, and it never replaces another: a record never names bytes that are not on disk. A
record names its own shard, and a record of targets also the samples that its rows belong to. File names carry
block, view and pass: listing the folder tells what there is without opening a single record.
"""

import os
import re
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec

from kdcache.cache.errors import BadCache
from kdcache.cache.record.manifest import MAX_SHARD_SAMPLES, Name
from kdcache.cache.record.sealed import read_sealed, sealed
from kdcache.cache.stores.contract import REPAIR, ObjectRecord, ShardKey
from kdcache.cache.stores.inside import path_inside

FOLDER = "records"
MAX_BYTES = 32 << 20  # images of many sizes have an object each, tap and part
# Exactly as `record_name` writes them: no further zeros in front.
_NAME = re.compile(r"([0-9]{5}|[1-9][0-9]{5,})-(?:samples|v([0-9]{3}|[1-9][0-9]{3,})-([0-9a-f]{8}))\.json")

Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_SHARD_SAMPLES)]
Number = Annotated[int, msgspec.Meta(ge=0, le=1 << 40)]
Seal = Annotated[str, msgspec.Meta(pattern=r"\Ax3:[0-9a-f]{32}\Z")]


class SamplesRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One block's samples: `rows` of them, at most as many as a shard takes."""

    kind: Literal["samples"] = "samples"
    block: Number
    rows: Count
    objects: tuple[ObjectRecord, ...]  # the tar, then its index

    @property
    def shard(self) -> ShardKey:
        return ShardKey(self.block)


class TargetsRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one pass of the teacher wrote for one block under one view number."""

    kind: Literal["targets"] = "targets"
    block: Number
    view: Number
    pass_id: str = msgspec.field(name="pass")
    targets: tuple[Name, ...]
    samples: Seal  # of the record of the samples that these are the targets of
    rows: Count
    views: ObjectRecord  # columns: which rows are here, their views, digests of their pixels
    objects: tuple[ObjectRecord, ...]

    @property
    def shard(self) -> ShardKey:
        return ShardKey(self.block, self.view, self.pass_id)


Record = SamplesRecord | TargetsRecord
R = TypeVar("R", SamplesRecord, TargetsRecord)


def record_name(shard: ShardKey) -> str:
    """The record's file, relative to the cache."""
    tail = "samples" if shard.of_samples else f"v{shard.view:03d}-{shard.pass_id}"
    return f"{FOLDER}/{shard.block:05d}-{tail}.json"


def record_bytes(record: Record) -> bytes:
    return sealed(record)


def objects_of(record: Record) -> tuple[ObjectRecord, ...]:
    """Every object that a record stands for."""
    return record.objects if isinstance(record, SamplesRecord) else (record.views, *record.objects)


def file_name(shard: ShardKey) -> str:
    """The record's file, within the folder of records."""
    return record_name(shard).rpartition("/")[2]


def list_files(root: Path) -> set[str]:
    """Names of the files in the folder of records."""
    folder = root / FOLDER
    return set() if not folder.is_dir() or folder.is_symlink() else set(os.listdir(folder))


def list_records(root: Path, known: Set[str] = frozenset()) -> set[ShardKey]:
    """Every recorded shard of a cache, from file names alone; but for those of `known` files, of which there
    may be a million when a block is added."""
    matches = filter(None, map(_NAME.fullmatch, list_files(root) - known))
    return {
        ShardKey(int(block), int(view) if view else -1, made or "")
        for block, view, made in (match.groups() for match in matches)
    }


def holds_targets(root: Path) -> bool:
    """Whether any shard of targets is recorded, even of a build that did not end."""
    return any(not shard.of_samples for shard in list_records(root))


def read_samples_record(root: Path, block: int, seal: str | None = None) -> tuple[SamplesRecord, str]:
    """The record of a block's samples and its seal. Raises BadCache, also where `seal` is another."""
    return _read(root, ShardKey(block), SamplesRecord, seal)


def read_targets_record(root: Path, shard: ShardKey, seal: str | None = None) -> tuple[TargetsRecord, str]:
    """The record of a shard of targets and its seal. Raises BadCache, also where `seal` is another."""
    return _read(root, shard, TargetsRecord, seal)


def read_record(root: Path, shard: ShardKey, seal: str | None = None) -> tuple[Record, str]:
    if shard.of_samples:
        return read_samples_record(root, shard.block, seal)
    return read_targets_record(root, shard, seal)


def _read(root: Path, shard: ShardKey, kind: type[R], seal: str | None) -> tuple[R, str]:
    path = path_inside(root, record_name(shard))
    record, own = read_sealed(
        path, kind, what=f"the record of {shard.title}", fix=REPAIR, max_bytes=MAX_BYTES
    )
    if record.shard != shard:
        raise BadCache(
            f"the record of {shard.title} is that of {record.shard.title}", where=str(path), fix=REPAIR
        )
    if seal is not None and seal != own:
        raise BadCache(
            f"the record of {shard.title} is another one than the cache's generation names "
            f"(named {seal}, found {own})",
            where=str(path),
            fix=REPAIR,
        )
    return record, own


class Coverage:
    """Which (target, view, block) exist, from shards and the manifest's table of passes."""

    def __init__(self, keys: set[ShardKey], passes: Mapping[str, tuple[str, ...]]) -> None:
        self.samples = {k.block for k in keys if k.of_samples}
        # (target, view) -> block -> shard: who asks for all blocks of a view asks once.
        self._of_view: dict[tuple[str, int], dict[int, ShardKey]] = {}
        for key in sorted(keys):
            for target in passes.get(key.pass_id, ()):
                self._of_view.setdefault((target, key.view), {})[key.block] = key

    def key(self, target: str, view: int, block: int) -> ShardKey | None:
        return self._of_view.get((target, view), {}).get(block)

    def blocks(self, target: str, view: int) -> Set[int]:
        """Blocks that hold it under a view."""
        return self._of_view.get((target, view), {}).keys()

    def missing(self, targets: tuple[str, ...], view: int, block: int) -> tuple[str, ...]:
        return tuple(t for t in targets if block not in self.blocks(t, view))

    def count(self, target: str) -> int:
        """Shards that hold it."""
        return sum(len(held) for (name, _), held in self._of_view.items() if name == target)

    def keys(self) -> Iterator[ShardKey]:
        return iter(sorted({key for held in self._of_view.values() for key in held.values()}))
