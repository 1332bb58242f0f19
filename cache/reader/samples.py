"""A cache's samples: images, truths, keys and sizes by index, through memory maps.

Indexes and tars are opened when a sample of theirs is first asked for, and their digests are checked then.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from kdcache.cache.errors import BadCache, BadOption, nearest
from kdcache.cache.record.manifest import Manifest, read_manifest
from kdcache.cache.record.records import read_record
from kdcache.cache.spec import Task
from kdcache.cache.stores.contract import REPAIR, ObjectRecord, ShardKey, bad_object
from kdcache.cache.stores.local import LocalStore
from kdcache.cache.stores.object_check import object_problem
from kdcache.cache.stores.sample_tars import SampleBlock, index_name, open_samples
from kdcache.cache.tasks.table import task_of


class StoredSamples:
    """The half of a `Cache` that needs no target. Arrays are views of mapped files; never write to them."""

    def __init__(self, root: Path, *, check_digests: bool = True) -> None:
        self.root = root
        self.manifest: Manifest = read_manifest(root)
        self._truth = task_of(self.manifest.task, where=f"cache {self.manifest.name}").truth
        self.store = LocalStore(root)
        self._check = check_digests
        self._checked: set[str] = set()
        self._blocks: dict[int, SampleBlock] = {}
        self._tars: set[int] = set()  # blocks whose tar was checked

    @property
    def task(self) -> Task:
        return self.manifest.task

    @property
    def num_samples(self) -> int:
        return self.manifest.num_samples

    @property
    def shard_samples(self) -> int:
        return self.manifest.shard_samples

    @property
    def invalid(self) -> np.ndarray:
        """Sorted indices of samples that no epoch visits (marked by 'build --skip-bad')."""
        bad = [self._block(b).valid for b in range(self.manifest.num_blocks)]
        return np.flatnonzero(~np.concatenate(bad)) if bad else np.zeros(0, dtype=np.int64)

    def samples(self, index: int) -> tuple[SampleBlock, int]:
        block, row = self._place(index)
        return self._block(block), row

    def _place(self, index: int) -> tuple[int, int]:
        """The block of a sample and its row there. Raises IndexError."""
        if not 0 <= index < self.num_samples:
            raise IndexError(f"sample {index} of {self.num_samples}")
        return divmod(index, self.manifest.shard_samples)

    def image(self, index: int) -> np.ndarray:
        """The encoded image, 1-D uint8: a view of the mapped tar, whose digest is checked on first touch."""
        block, row = self._place(index)
        self._check_tar(block)
        return self._block(block).image(row)

    def truth(self, index: int) -> np.ndarray:
        """What is known of a sample, as the `parse` of its task's truth gives it; an encoded map is a view of
        the mapped tar. Raises BadSample for a sample that is marked invalid."""
        block, row = self.samples(index)
        block.require_valid(row)
        in_columns = self._truth.from_columns(block.columns, row)
        if in_columns is not None:
            return in_columns
        self._check_tar(index // self.shard_samples)
        return self._truth.parse(block.label(row).data)

    def column(self, name: str) -> np.ndarray:
        """(num_samples,) int64: one of the columns that the task's truth keeps, of every sample."""
        values = [self._block(block).columns[name] for block in range(self.manifest.num_blocks)]
        return np.concatenate(values) if values else np.zeros(0, dtype=np.int64)

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

    def find(self, key: str) -> int:
        """The index of a key. Raises BadOption naming the nearest key."""
        for block in range(self.manifest.num_blocks):
            keys = list(self._block(block).keys)
            if key in keys:
                return block * self.shard_samples + keys.index(key)
        close = nearest(key, [k for b in range(self.manifest.num_blocks) for k in self._block(b).keys])
        hint = f"did you mean '{close}'?" if close else "'kdcache show --keys' lists them"
        raise BadOption(f"no sample has the key '{key}'", where=f"cache {self.manifest.name}", fix=hint)

    def _block(self, block: int) -> SampleBlock:
        if block not in self._blocks:
            # Only the index is checked here: whoever asks for keys and sizes must not read every image.
            self._record(ShardKey(block), lambda name: name.endswith(".json"))
            samples = open_samples(self.store, block)
            self._check_truth(samples, block)
            self._blocks[block] = samples
        return self._blocks[block]

    def _check_truth(self, samples: SampleBlock, block: int) -> None:
        """Raises BadCache for a block whose columns are not those of the task, or cannot be true."""
        if set(samples.columns) != set(self._truth.columns):
            raise BadCache(
                f"samples of block {block:05d} are not of {self.task}, which the manifest claims",
                where=str(self.root),
                fix=REPAIR,
            )
        try:
            self._truth.check_columns(samples.columns, samples.valid)
        except ValueError as error:
            name = index_name(block)
            raise bad_object(f"'{name}' cannot be read: {error}", name) from error

    def _check_tar(self, block: int) -> None:
        if block not in self._tars:
            self._record(ShardKey(block))
            self._tars.add(block)

    def _record(self, key: ShardKey, checked: Callable[[str], bool] = lambda name: True) -> None:
        """Check the digests of a shard's objects, those whose name `checked` accepts."""
        for entry in read_record(self.root, key)["objects"]:
            if self._check and checked(entry.name):
                self.check_object(entry)

    def check_object(self, entry: ObjectRecord) -> None:
        """Compare one object's size and digest with its record; remembered, so that each is paid once."""
        if entry.name in self._checked:
            return
        problem = object_problem(self.root, entry)
        if problem:
            raise BadCache(problem, where=f"{self.root}/{entry.name}", fix=REPAIR)
        self._checked.add(entry.name)
