"""Generations: what counts in a cache, said by `generations/<number>.json` and never changed.

A build writes the next one when everything in it stands. It holds the blocks with the seals of their samples'
records, the rows that do not live, the complete (view set, target) pairs, the seals of all records of targets
that it covers, and the manifest of its time. A reader opens the newest one and keeps it; whatever is recorded
beyond it is unfinished. Sample `row` of block `block` has the index block x shard_samples + row: places
beyond a block's rows are holes, which like retired rows no epoch visits.
"""

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np

from kdcache.cache.errors import BadCache, LostGeneration
from kdcache.cache.files.picture import MAX_PIXELS
from kdcache.cache.files.plain_json import check_depth
from kdcache.cache.record.manifest import MAX_SHARD_SAMPLES, Manifest, Name, manifest_from, plain_manifest
from kdcache.cache.record.records import FOLDER as RECORDS
from kdcache.cache.record.records import Count, Coverage, Number, Seal, file_names
from kdcache.cache.record.sealed import read_sealed, sealed
from kdcache.cache.spec import ceil_div
from kdcache.cache.stores.contract import ShardKey
from kdcache.cache.stores.inside import path_inside

FOLDER = "generations"
_FILE = re.compile(r"([0-9]{5,})\.json")
# A generation may be as large as the records that are there make it, beside these.
FREE_BYTES, BYTES_OF_RECORD = 16 << 20, 32 << 10
FREE_PLACES = 1 << 22  # indices, of blocks that were lost above all
MANIFEST_BYTES = 8 << 20


UNKNOWN = -1
Pixels = Annotated[int, msgspec.Meta(ge=-1, le=MAX_PIXELS)]


class BlockEntry(NamedTuple):
    """One block: the seal of its samples' record, and how many samples it has. Of a block that was lost
    neither is left: its number stays, so that every other index means what it meant.

    The rest sums up the index of its samples, retired ones included: who asks a whole cache need not read
    them all. Of blocks that were settled before this was noted it is UNKNOWN.
    """

    seal: Annotated[str, msgspec.Meta(pattern=r"\A(x3:[0-9a-f]{32})?\Z")]
    rows: Count
    empty: Annotated[int, msgspec.Meta(ge=-1, le=MAX_SHARD_SAMPLES)] = UNKNOWN  # nothing to learn from
    height: Pixels = UNKNOWN  # the smallest of any sample that can be used; 0 where there is none
    width: Pixels = UNKNOWN  # likewise, perhaps of another sample


LOST = BlockEntry("", 0)


class RecordEntry(NamedTuple):
    """One record of targets that the generation covers."""

    block: Number
    view: Number
    pass_id: str
    seal: Seal

    @property
    def shard(self) -> ShardKey:
        return ShardKey(self.block, self.view, self.pass_id)


class Pair(NamedTuple):
    """A view set, by its first number, and a target that is there for every block under all its views."""

    first: Number
    target: Name


class Total(NamedTuple):
    """What one target takes over all records that a generation covers, retired rows included."""

    target: Name
    num_bytes: Annotated[int, msgspec.Meta(ge=0, le=1 << 60)]  # on disk
    values: Annotated[int, msgspec.Meta(ge=0, le=1 << 60)]  # numbers, whatever each of them takes


class _Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    number: Annotated[int, msgspec.Meta(ge=1, le=1 << 40)]
    manifest: msgspec.Raw  # decoded when its length and depth are known
    blocks: tuple[BlockEntry, ...]
    retired: tuple[tuple[Number, Number], ...]  # runs: first index, how many; ascending
    complete: tuple[Pair, ...]
    records: tuple[RecordEntry, ...]
    totals: tuple[Total, ...] = ()  # none: they were not noted


class Generation:
    """One generation, read. `seal` names it: equal seals, equal contents."""

    def __init__(self, body: _Body, manifest: Manifest, seal: str, coverage: Coverage) -> None:
        self.number, self.manifest, self.seal = body.number, manifest, seal
        self.blocks, self.complete, self.records = body.blocks, frozenset(body.complete), body.records
        self.totals = body.totals
        self._runs = body.retired
        self.coverage = coverage  # what its records hold

    @property
    def num_blocks(self) -> int:
        return len(self.blocks)

    @cached_property
    def block_numbers(self) -> list[int]:
        """Numbers of the blocks that are there, ascending."""
        return [block for block, entry in enumerate(self.blocks) if entry != LOST]

    @property
    def num_samples(self) -> int:
        """Indices that exist, holes and retired rows included: blocks x shard_samples."""
        return self.num_blocks * self.manifest.shard_samples

    @cached_property
    def retired(self) -> np.ndarray:
        """Ascending indices of rows that do not live, holes not among them, int64."""
        runs = np.array(self._runs, dtype=np.int64).reshape(-1, 2)
        return _read_only(_ranges(runs[:, 0], runs[:, 1]))

    @cached_property
    def invalid(self) -> np.ndarray:
        """Ascending indices that no epoch visits: holes and retired rows, int64."""
        size = self.manifest.shard_samples
        rows = np.array([entry.rows for entry in self.blocks], dtype=np.int64)
        holes = _ranges(np.arange(len(rows)) * size + rows, size - rows)
        return _read_only(np.sort(np.concatenate([self.retired, holes])))

    def living_at(self, ranks: np.ndarray) -> np.ndarray:
        """Indices of the living samples that so many living ones stand before, int64; no list of all is
        made."""
        before = self.invalid - np.arange(len(self.invalid))  # living samples before each invalid index
        placed: np.ndarray = ranks + np.searchsorted(before, ranks, side="right")
        return placed

    @property
    def num_living(self) -> int:
        return sum(entry.rows for entry in self.blocks) - sum(count for _, count in self._runs)

    @cached_property
    def seals(self) -> dict[ShardKey, str]:
        """The seal of every record that counts."""
        samples = {ShardKey(block): self.blocks[block].seal for block in self.block_numbers}
        return samples | {ShardKey(*entry[:3]): entry.seal for entry in self.records}

    @cached_property
    def record_files(self) -> frozenset[str]:
        """File names of the records that count."""
        samples = ShardKey(0)
        made = {(samples.view, samples.pass_id): self.block_numbers, **self.coverage.by_pass}
        return frozenset(file_names(made))

    def says(
        self,
        manifest: Manifest,
        *,
        blocks: Iterable[BlockEntry],
        retired: Iterable[int],
        complete: Iterable[Pair],
        records: Iterable[RecordEntry],
    ) -> bool:
        """Whether it counts the same; its sums follow from that."""
        return (
            tuple(blocks) == self.blocks
            and _runs(retired) == self._runs
            and frozenset(complete) == self.complete
            and sorted(records) == sorted(self.records)
            and plain_manifest(manifest) == plain_manifest(self.manifest)
        )


def generation_name(number: int) -> str:
    return f"{FOLDER}/{number:05d}.json"


def generation_bytes(
    number: int,
    manifest: Manifest,
    *,
    blocks: Iterable[BlockEntry],
    retired: Iterable[int],
    complete: Iterable[Pair],
    records: Iterable[RecordEntry],
    totals: Iterable[Total] = (),
) -> bytes:
    """What the file of a generation holds."""
    body = _Body(
        number=number,
        manifest=msgspec.Raw(msgspec.json.encode(plain_manifest(manifest), order="sorted")),
        blocks=tuple(blocks),
        retired=_runs(retired),
        complete=tuple(sorted(complete)),
        records=tuple(sorted(records)),
        totals=tuple(sorted(totals)),
    )
    return sealed(body)


def list_generations(root: Path) -> list[int]:
    """Numbers of the generations that are there, ascending."""
    folder = root / FOLDER
    if not folder.is_dir() or folder.is_symlink():
        return []
    matches = [match for path in folder.iterdir() if (match := _FILE.fullmatch(path.name))]
    return sorted({int(m[1]) for m in matches if generation_name(int(m[1])) == f"{FOLDER}/{m[0]}"})


def read_generation(root: Path, number: int, newest: int | None = None) -> Generation:
    """Raises BadCache for one that is missing, changed, or of claims that do not fit together; LostGeneration
    where a later one is there. `newest` is the last number, of a caller who has listed them."""
    path = path_inside(root, generation_name(number))
    try:
        return _read(path, number)
    except BadCache as error:
        last = max(list_generations(root), default=number) if newest is None else newest
        if last > number:
            raise LostGeneration(error.what, where=error.where, fix=_FIX_EARLIER) from error
        raise


def _read(path: Path, number: int) -> Generation:
    what = f"generation {number} of the cache"
    room = _Room(path.parent.parent)
    most = FREE_BYTES
    with suppress(OSError):  # whoever reads says what is wrong with it
        most = room.most(FREE_BYTES, BYTES_OF_RECORD, path.lstat().st_size)
    body, seal = read_sealed(path, _Body, what=what, fix=_FIX, max_bytes=most)
    try:
        manifest = manifest_from(_plain(body.manifest))
        if body.number != number:
            raise ValueError(f"it calls itself {body.number}")
        coverage = Coverage(body.records, manifest.passes)
        _check(body, manifest, coverage)
        _check_room(body, manifest, room)
    except ValueError as error:
        if isinstance(error, BadCache):
            raise
        raise BadCache(f"{what} cannot be read: {error}", where=str(path), fix=_FIX) from error
    return Generation(body, manifest, seal, coverage)


def newest_generation(root: Path) -> Generation | None:
    """What counts now; None for a cache that no build has finished. Raises BadCache for a damaged one."""
    numbers = list_generations(root)
    return read_generation(root, numbers[-1]) if numbers else None


_FIX = "run 'kdcache build --repair': what it said is worked out again from the records"
_FIX_EARLIER = (
    "what counts now is a later one; begin anew whatever began on this one: no repair brings it back"
)


def _check(body: _Body, manifest: Manifest, coverage: Coverage) -> None:
    size, end = manifest.shard_samples, 0
    if any(entry.rows > size or (not entry.seal and entry != LOST) for entry in body.blocks):
        raise ValueError(f"a block has more than {size} samples, or none that are named")
    if any(len({n < 0 for n in e[2:]}) > 1 or e.empty > e.rows for e in body.blocks):
        raise ValueError("what is said of the samples of a block cannot be")
    for start, count in body.retired:
        if start < end or count < 1 or start + count > len(body.blocks) * size:
            raise ValueError(f"{count} retired rows at {start} cannot be")
        if any(i % size >= body.blocks[i // size].rows for i in _ends(start, count, size)):
            raise ValueError(f"of {count} retired rows at {start} some are holes")
        end = start + count
    firsts, names = {views.first for views in manifest.views}, set(manifest.stored_names)
    if any(pair.first not in firsts or pair.target not in names for pair in body.complete):
        raise ValueError("a complete pair is not in its manifest")
    there = {block for block, entry in enumerate(body.blocks) if entry != LOST}
    made_for, num_views = coverage.by_pass, manifest.num_views
    strange = any(view >= num_views or made not in manifest.passes for view, made in made_for)
    if strange or any(not blocks <= there for blocks in made_for.values()):
        raise ValueError("a record is of a block, a view or a pass that it does not have")
    if sum(map(len, made_for.values())) < len(body.records):
        raise ValueError("two records are of one shard")
    if body.totals and [total.target for total in body.totals] != sorted(names):
        raise ValueError("its totals are not those of its targets")


class _Room:
    """How much a generation may claim: what it takes to say must have its records in the folder."""

    def __init__(self, root: Path) -> None:
        self._folder = root / RECORDS

    def records(self, most: int | None = None) -> int:
        """How many files there are; of so many as are enough no further one is counted."""
        if not self._folder.is_dir():
            return 0
        with os.scandir(self._folder) as entries:
            return sum(1 for _ in islice(entries, most))

    def most(self, free: int, of_each: int, wanted: int) -> int:
        """What may be claimed, at least `wanted` where that much may; the folder is looked at only for more
        than is free."""
        return free if wanted <= free else free + of_each * self.records(ceil_div(wanted - free, of_each))


def _check_room(body: _Body, manifest: Manifest, room: _Room) -> None:
    """Raises ValueError where more indices exist than records can stand for."""
    places = len(body.blocks) * manifest.shard_samples
    if places > room.most(FREE_PLACES, manifest.shard_samples, places):
        raise ValueError(f"{places} samples cannot be: {room.records()} records are there")


def _plain(manifest: msgspec.Raw) -> Any:
    content = bytes(manifest)
    if len(content) > MANIFEST_BYTES:
        raise ValueError(f"its manifest has {len(content)} bytes, at most {MANIFEST_BYTES} are read")
    check_depth(content)
    return msgspec.json.decode(content)


def _ends(start: int, count: int, size: int) -> list[int]:
    """The last index of a run in each block that it touches."""
    last = start + count - 1
    return [min(last, (block + 1) * size - 1) for block in range(start // size, last // size + 1)]


def _runs(indices: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Numbers in any order as ascending (first, how many)."""
    numbers = np.unique(np.fromiter(indices, dtype=np.int64))
    starts = np.flatnonzero(np.diff(numbers, prepend=-2) != 1)
    counts = np.diff(starts, append=len(numbers))
    return tuple(zip(numbers[starts].tolist(), counts.tolist(), strict=True))


def _ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """start, start + 1, ... for each start, one after another, int64."""
    before = np.cumsum(counts) - counts
    ranges: np.ndarray = np.arange(int(counts.sum())) + np.repeat(starts - before, counts)
    return ranges


def _read_only(indices: np.ndarray) -> np.ndarray:
    """Who reads a generation shares its arrays."""
    indices.setflags(write=False)
    return indices
