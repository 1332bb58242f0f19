"""Records: what says that a shard exists, sealed and created only once.

`records/<block>-samples.json` stands for one block's tar and index; `records/<block>-v<view>-<pass>.json`
stands for the targets that one pass of the teacher wrote for one block under one view number. Objects come
first, the record last, and it never replaces another: a record never names bytes that are not on disk. A
record names its own shard, and a record of targets also the samples that its rows belong to. File names carry
block, view and pass: listing the folder tells what there is without opening a single record.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Set
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
    return f"{FOLDER}/{file_name(shard)}"


def record_bytes(record: Record) -> bytes:
    return sealed(record)


def objects_of(record: Record) -> tuple[ObjectRecord, ...]:
    """Every object that a record stands for."""
    return record.objects if isinstance(record, SamplesRecord) else (record.views, *record.objects)


def file_name(shard: ShardKey) -> str:
    """The record's file, within the folder of records."""
    return f"{shard.block:05d}{_tail(shard.view, shard.pass_id)}"


def file_names(made: Mapping[tuple[int, str], Iterable[int]]) -> Iterator[str]:
    """`file_name` of the shards of these blocks, by view and pass."""
    for (view, pass_id), blocks in made.items():
        tail = _tail(view, pass_id)
        yield from (f"{block:05d}{tail}" for block in blocks)


def _tail(view: int, pass_id: str) -> str:
    return "-samples.json" if view < 0 else f"-v{view:03d}-{pass_id}.json"


def list_files(root: Path) -> set[str]:
    """Names of the files in the folder of records."""
    folder = root / FOLDER
    return set() if not folder.is_dir() or folder.is_symlink() else set(os.listdir(folder))


def list_records(root: Path) -> set[ShardKey]:
    """Every recorded shard of a cache, from file names alone."""
    return shards_of(list_files(root))


def shards_of(files: Iterable[str]) -> set[ShardKey]:
    """Whose records files of these names are; other files are none."""
    matches = filter(None, map(_NAME.fullmatch, files))
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


Recorded = tuple[int, int, str] | tuple[int, int, str, str]  # block, view, pass; perhaps its seal


class Coverage:
    """Which (target, view, block) exist, from shards of targets and the manifest's table of passes.

    What is kept is a set of blocks per view and pass, not an entry per shard: of those there may be a million
    when one is added.
    """

    def __init__(self, shards: Iterable[Recorded], passes: Mapping[str, tuple[str, ...]]) -> None:
        """Shards of samples are none of targets."""
        self._passes = passes
        self._blocks: dict[tuple[int, str], set[int]] = {}
        self._add(shards)

    def _add(self, shards: Iterable[Recorded]) -> None:
        for shard in shards:
            block, view, made = shard[:3]
            blocks = self._blocks.get((view, made))
            if blocks is None:
                blocks = self._blocks[view, made] = set()
            blocks.add(block)

    def grown(self, shards: Iterable[Recorded], passes: Mapping[str, tuple[str, ...]]) -> "Coverage":
        """With these shards too, by a later table of passes."""
        later = Coverage((), passes)
        later._blocks = {made: set(blocks) for made, blocks in self._blocks.items()}
        later._add(shards)
        return later

    @property
    def by_pass(self) -> Mapping[tuple[int, str], Set[int]]:
        """(view, pass) -> the blocks it was made for."""
        return self._blocks

    def key(self, target: str, view: int, block: int) -> ShardKey | None:
        """Of several the one of the last pass, in their order."""
        holding = [made for made in self._passes_of(target, view) if block in self._blocks[view, made]]
        return ShardKey(block, view, max(holding)) if holding else None

    def blocks(self, target: str, view: int) -> Set[int]:
        """Blocks that hold it under a view."""
        held = [self._blocks[view, made] for made in self._passes_of(target, view)]
        return held[0] if len(held) == 1 else set().union(*held)

    def _passes_of(self, target: str, view: int) -> list[str]:
        return [m for m, names in self._passes.items() if target in names and (view, m) in self._blocks]

    def missing(self, targets: tuple[str, ...], view: int, block: int) -> tuple[str, ...]:
        return tuple(t for t in targets if block not in self.blocks(t, view))

    def count(self, target: str) -> int:
        """Shards that hold it."""
        return sum(len(self.blocks(target, view)) for view in {view for view, _ in self._blocks})

    def keys(self) -> Iterator[ShardKey]:
        """Every shard that some target is read from."""
        chosen: set[ShardKey] = set()
        for view in {view for view, _ in self._blocks}:
            for target in {name for names in self._passes.values() for name in names}:
                left = set(self.blocks(target, view))
                for made in sorted(self._passes_of(target, view), reverse=True):
                    chosen |= {ShardKey(block, view, made) for block in left & self._blocks[view, made]}
                    left -= self._blocks[view, made]
        return iter(sorted(chosen))
