"""A cache's samples: images, truths, keys and sizes by index, through memory maps.

Opening reads the manifest and one generation, and keeps that generation: builders go on beside. Indexes and
tars are opened when a sample of theirs is first asked for, and their digests are checked then.
"""

from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

from kdcache.cache.errors import BadCache, BadOption, KdError, nearest
from kdcache.cache.files.picture import is_png
from kdcache.cache.reader.kept import make_room
from kdcache.cache.reader.row_batch import grouped
from kdcache.cache.record.copied import refuse_unfinished_copy
from kdcache.cache.record.generation import UNKNOWN, Generation, newest_generation, read_generation
from kdcache.cache.record.manifest import Manifest, read_manifest
from kdcache.cache.record.records import read_samples_record
from kdcache.cache.record.sums import summed
from kdcache.cache.spec import Task
from kdcache.cache.stores.columns import read_columns
from kdcache.cache.stores.contract import REPAIR, ObjectRecord, bad_object
from kdcache.cache.stores.local import LocalStore
from kdcache.cache.stores.object_check import object_problem, read_columns_object
from kdcache.cache.stores.sample_tars import (
    SampleBlock,
    SampleColumns,
    index_name,
    open_samples,
    tar_name,
)
from kdcache.cache.tasks.table import task_of

MAX_BLOCKS = 1 << 14  # kept open at once: each maps a tar, of at most 65530 maps of a process
TRUTH_MEMO_BYTES = 1 << 28  # 256 MiB: the boxes of four million objects


def open_generation(root: Path, wanted: int | Generation | None = None) -> Generation:
    """The generation of this number of a cache, the newest one by default; one that was read is taken as it
    is. Raises Missing for no cache, BadCache
    for a damaged one, and for one that no build has finished."""
    manifest = read_manifest(root)
    if isinstance(wanted, int):
        wanted = read_generation(root, wanted)
    generation = wanted or newest_generation(root)
    if generation is None:
        refuse_unfinished_copy(root)
        raise BadCache(
            "no build of this cache has finished: nothing in it counts yet",
            where=str(root),
            fix="run the same 'kdcache build' again: it continues where it was",
        )
    if generation.manifest.identity != manifest.identity:
        raise BadCache(
            f"generation {generation.number} is that of another cache, {generation.manifest.name}",
            where=str(root),
            fix="do not copy files from one cache into another: take the whole folder",
        )
    return generation


class StoredSamples:
    """The half of a `Cache` that needs no target. Arrays are views of mapped files; never write to them."""

    def __init__(
        self, root: Path, *, check_digests: bool = True, generation: int | Generation | None = None
    ) -> None:
        self.root = root
        self.generation = open_generation(root, generation)
        self.manifest: Manifest = self.generation.manifest
        self._truth = task_of(self.manifest.task, where=f"cache {self.manifest.name}").truth
        self.store = LocalStore(root)
        self._check = check_digests
        self._checked: set[str] = set()
        self._blocks: dict[int, SampleBlock] = {}
        self._objects: dict[str, ObjectRecord] = {}  # of samples, by name
        self._truths: dict[int, np.ndarray] = {}  # what had to be parsed
        self._truth_room = TRUTH_MEMO_BYTES

    @property
    def task(self) -> Task:
        return self.manifest.task

    @property
    def num_samples(self) -> int:
        """Indices that exist: blocks x `shard_samples`. Those that live are `living`."""
        return self.generation.num_samples

    @property
    def num_blocks(self) -> int:
        return self.generation.num_blocks

    @property
    def shard_samples(self) -> int:
        return self.manifest.shard_samples

    @property
    def invalid(self) -> np.ndarray:
        """Sorted indices that no epoch visits: holes, retired samples, those that '--skip-bad' marked."""
        return self.generation.invalid

    @property
    def living(self) -> np.ndarray:
        """Sorted indices of the samples that count, int64."""
        return self.generation.living_at(np.arange(self.generation.num_living))

    def without(self, keep_empty: bool) -> np.ndarray:
        """Sorted indices that training leaves out: `invalid`, and samples from which nothing can be learnt
        unless these are kept."""
        if keep_empty or not self._truth.counts:
            return self.invalid
        blocks = self.generation.blocks
        some = [block for block in self.generation.block_numbers if blocks[block].empty]
        if not some:
            return self.invalid
        empty = [
            block * self.shard_samples + np.flatnonzero(self._columns(block).columns[self._truth.counts] == 0)
            for block in some
        ]
        left_out = np.unique(np.concatenate([self.invalid, *empty]))
        left_out.setflags(write=False)
        return left_out

    def samples(self, index: int) -> tuple[SampleBlock, int]:
        block, row = self._place(index)
        return self.block(block), row

    def _place(self, index: int) -> tuple[int, int]:
        """The block of a sample and its row there. Raises IndexError, also for a hole."""
        if not 0 <= index < self.num_samples:
            raise IndexError(f"sample {index} of {self.num_samples}")
        block, row = divmod(index, self.manifest.shard_samples)
        if row >= self.generation.blocks[block].rows:
            raise IndexError(f"no sample has index {index}: block {block} ends before it")
        return block, row

    def places(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `_place`, of (B,) samples at once."""
        blocks, rows = np.divmod(samples, self.shard_samples)
        inside = (blocks >= 0) & (blocks < self.num_blocks)
        for index in samples[~inside | (rows >= self._block_lengths[np.where(inside, blocks, -1)])].tolist():
            self._place(index)  # raises
        return blocks, rows

    @cached_property
    def _block_lengths(self) -> np.ndarray:
        """(num_blocks + 1,) int64 rows of every block, and 0 of one that is not there."""
        return np.array([*(entry.rows for entry in self.generation.blocks), 0], dtype=np.int64)

    def image(self, index: int) -> np.ndarray:
        """The encoded image, 1-D uint8: a view of the mapped tar, whose digest is checked on first touch."""
        block, row = self._place(index)
        samples = self.block(block)
        self._check_object(tar_name(block))
        return samples.image(row)

    def truth(self, index: int) -> np.ndarray:
        """What is known of a sample, as the `parse` of its task's truth gives it; an encoded map is a view of
        the mapped tar. Raises BadSample for a sample that is marked invalid."""
        block, row = self.samples(index)
        block.require_valid(row)
        in_columns = self._truth.from_columns(block.columns, row)
        if in_columns is not None:
            return in_columns
        if index in self._truths:
            return self._truths[index]
        self._check_object(tar_name(index // self.shard_samples))
        try:
            encoded = block.label(row)
            if self._truth.rides and not is_png(encoded.data):  # a decoder would take it as it comes
                raise ValueError("it is no PNG")
            truth = self._truth.parse(encoded.data)
            self._truth.check_classes(truth, len(self.manifest.class_names))
        except ValueError as error:
            if isinstance(error, KdError):
                raise
            name, key = tar_name(index // self.shard_samples), block.keys[row]
            what = f"the label of '{key}' in '{name}' cannot be read: {error}"
            raise bad_object(what, self.store.where(name)) from error
        if not self._truth.rides and truth.nbytes <= self._truth_room:
            self._truth_room -= truth.nbytes
            self._truths[index] = truth
        return truth

    def column(self, name: str) -> np.ndarray:
        """(num_samples,) int64: one of the columns that the task's truth keeps; of indices that do not live
        what it says of samples that cannot be used."""
        nothing = self._truth.column_values(None, (0, 0))[name]
        values = np.full(self.num_samples, nothing, dtype=np.int64)
        for block in self.generation.block_numbers:
            first, entry = block * self.shard_samples, self.generation.blocks[block]
            values[first : first + entry.rows] = self._columns(block).columns[name]
        values[self.invalid] = nothing
        return values

    def sides(self, blocks: Iterable[int]) -> Iterator[tuple[int, np.ndarray]]:
        """Of each block its first index, and (rows, 2) int64: height and width of every stored image."""
        for block in blocks:
            columns = self._columns(block)
            yield block * self.shard_samples, np.stack([columns.heights, columns.widths], axis=1)

    def _columns(self, block: int) -> SampleColumns:
        """What the index of a block says of its samples, but for keys and places. Raises as `block`, for all
        but the tar; who asks every block keeps none of them mapped."""
        if (opened := self._blocks.get(block)) is not None:
            return opened
        entry, name = self.generation.blocks[block], index_name(block)
        record, _ = read_samples_record(self.root, block, entry.seal)
        recorded = {one.name: one for one in record.objects}
        if name not in recorded:
            raise bad_object(f"'{name}' is not what a record of samples names", self.store.where(name))
        content = read_columns_object(self.store, recorded[name], check=self._check)
        try:
            columns = SampleColumns(read_columns(content, entry.rows), entry.rows)
        except ValueError as error:
            raise bad_object(f"'{name}' cannot be read: {error}", self.store.where(name)) from error
        self._check_truth(columns, block)
        return columns

    def key(self, index: int) -> str:
        block, row = self.samples(index)
        return block.keys[row]

    def key_hash(self, index: int) -> int:
        block, row = self.samples(index)
        return int(block.key_hashes[row])

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of the stored image in pixels."""
        block, row = self.samples(index)
        return int(block.heights[row]), int(block.widths[row])

    def key_hashes(self, samples: np.ndarray) -> np.ndarray:
        """`key_hash` of (B,) samples, uint64."""
        hashes = np.empty(len(samples), dtype=np.uint64)
        for block, slots, rows in self._in_blocks(samples):
            hashes[slots] = block.key_hashes[rows]
        return hashes

    def sizes(self, samples: np.ndarray) -> np.ndarray:
        """`size` of (B,) samples, (B, 2) int64."""
        sizes = np.empty((len(samples), 2), dtype=np.int64)
        for block, slots, rows in self._in_blocks(samples):
            sizes[slots, 0], sizes[slots, 1] = block.heights[rows], block.widths[rows]
        return sizes

    def _in_blocks(self, samples: np.ndarray) -> Iterator[tuple[SampleBlock, slice | np.ndarray, np.ndarray]]:
        """Every block of a batch, which of (B,) samples are of it, and their rows there."""
        blocks, rows = self.places(np.asarray(samples, dtype=np.int64))
        for slots in grouped(blocks):
            yield self.block(int(blocks[slots][0])), slots, rows[slots]

    def find(self, key: str) -> int:
        """The index of the living sample with this key. Raises BadOption naming the nearest key."""
        dead = set(self.generation.retired.tolist())
        for block in self.generation.block_numbers:
            first = block * self.shard_samples
            for row, stored in enumerate(self.block(block).keys):
                if stored == key and first + row not in dead:
                    return first + row
        close = nearest(key, [self.key(index) for index in self.living.tolist()])
        hint = f"did you mean '{close}'?" if close else "'kdcache show --keys' lists them"
        raise BadOption(f"no sample has the key '{key}'", where=f"cache {self.manifest.name}", fix=hint)

    def block(self, block: int) -> SampleBlock:
        """The samples of one block. Raises BadCache for a record or an index that is not what it must be."""
        if block not in self._blocks:
            entry = self.generation.blocks[block]
            record, _ = read_samples_record(self.root, block, entry.seal)
            self._objects |= {one.name: one for one in record.objects}
            # Only the index is checked here: whoever asks for keys and sizes must not read every image.
            self._check_object(index_name(block))
            samples = open_samples(self.store, block, entry.rows)
            self._check_truth(samples, block)
            make_room(self._blocks, MAX_BLOCKS)
            self._blocks[block] = samples
            return samples
        return self._blocks[block]

    def _check_truth(self, samples: SampleColumns, block: int) -> None:
        """Raises BadCache for a block whose columns are not those of the task, cannot be true, or are not
        what the generation says of them."""
        if set(samples.columns) != set(self._truth.columns) and len(samples):
            raise BadCache(
                f"samples of block {block:05d} are not of {self.task}, which the manifest claims",
                where=str(self.root),
                fix=REPAIR,
            )
        try:
            if len(samples):
                self._truth.check_columns(samples.columns, samples.valid, len(self.manifest.class_names))
        except ValueError as error:
            name = index_name(block)
            raise bad_object(f"'{name}' cannot be read: {error}", self.store.where(name)) from error
        entry = self.generation.blocks[block]
        if entry.empty != UNKNOWN and summed(entry, samples, self.manifest) != entry:
            raise BadCache(
                f"samples of block {block:05d} are not those that the generation sums up",
                where=str(self.root),
                fix=REPAIR,
            )

    def _check_object(self, name: str) -> None:
        """Compare an object of samples with its record, once."""
        if name not in self._objects:
            raise bad_object(f"'{name}' is not what a record of samples names", self.store.where(name))
        self.check_object(self._objects[name])

    def check_samples(self, block: int) -> None:
        """Images and labels of a block, all of them. Raises BadCache for damage."""
        self.block(block)
        record, _ = read_samples_record(self.root, block, self.generation.blocks[block].seal)
        for entry in record.objects:
            self.check_object(entry)

    def check_object(self, entry: ObjectRecord) -> None:
        """Compare one object's size and digest with its record; remembered, so that each is paid once."""
        if not self._check or entry.name in self._checked:
            return
        problem = object_problem(self.store, entry)
        if problem:
            raise BadCache(problem, where=f"{self.root}/{entry.name}", fix=REPAIR)
        self._checked.add(entry.name)
