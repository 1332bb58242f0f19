"""What a build will cost, known before the first forward: every map's shape follows from its view."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from kdcache.cache.build.plan import Plan, Work
from kdcache.cache.build.size import CRC_BYTES, INDEX_BYTES, flight_bytes, header_size
from kdcache.cache.record.layout import bytes_per_row, target_layout
from kdcache.cache.record.manifest import Manifest, pass_id
from kdcache.cache.record.packed import open_packed
from kdcache.cache.record.records import Coverage, list_records
from kdcache.cache.stores.contract import ShardKey
from kdcache.cache.stores.local import LocalStore
from kdcache.cache.stores.tar_pack import BLOCK

ROW_BYTES = 37  # of the columns of a shard's rows
FILE_BYTES = 512  # of their header
TAR_BYTES = 3 * (BLOCK + BLOCK // 2) + BLOCK  # three headers, padding, key and size: most of a tiny image


class Prediction(NamedTuple):
    """What a build will cost, known before the first forward."""

    target_bytes: int  # exact without entropy coding; an upper bound with it
    sample_bytes: int  # original image and label files; labels may be re-encoded smaller or larger
    free_bytes: int
    flight_bytes: int
    rows: int


def missing_work(root: Path, manifest: Manifest, blocks: Iterable[int]) -> list[Work]:
    """Shards of these blocks that no record stands for, in the order a single rank makes them."""
    blocks = tuple(blocks)
    coverage = Coverage(list_records(root), manifest.passes)
    taps = {t.name: t for t in manifest.taps}
    works = []
    for view in range(manifest.num_views):
        for block in blocks:
            if targets := coverage.missing(manifest.tap_names, view, block):
                shard = ShardKey(block, view, pass_id(targets, taps))
                works.append(Work(shard, tuple(sorted(targets))))
    return works


def predict(plan: Plan, works: Sequence[Work], to_pack: Mapping[int, Sequence[str]]) -> Prediction:
    """Bytes to write and to hold. Exact for targets: every map's shape follows from its view."""
    manifest = plan.manifest
    inputs = _BlockInputs(plan, to_pack)
    targets = rows = 0
    for work in works:
        crop = manifest.view_set(work.shard.view).crop
        sizes = inputs.sizes(work.shard.block)
        shown = [crop] * len(sizes) if crop else [size for size in sizes if size[0]]
        rows += len(shown)
        targets += sum(_shard_bytes(manifest, name, shown) for name in work.targets)
        targets += len(shown) * ROW_BYTES + FILE_BYTES
    new = [inputs.index_of[key] for keys in to_pack.values() for key in keys]
    samples = sum(plan.source.num_bytes(index) + TAR_BYTES for index in new)
    free = shutil.disk_usage(_existing(plan.root)).free
    flight = flight_bytes(manifest, inputs.seen or [plan.source.default_crop])
    return Prediction(targets, samples, free, flight, rows)


class _BlockInputs:
    """(height, width) of the samples of a block, of those that are packed and of those that will be."""

    def __init__(self, plan: Plan, to_pack: Mapping[int, Sequence[str]]) -> None:
        self.index_of = {key: i for i, key in enumerate(plan.source.keys)}
        self.seen: set[tuple[int, int]] = set()
        self._plan, self._to_pack = plan, to_pack
        self._store = LocalStore(plan.root)
        self._full = any(v.crop is None for v in plan.manifest.views)
        self._sizes: dict[int, list[tuple[int, int]]] = {}

    def sizes(self, block: int) -> list[tuple[int, int]]:
        """(0, 0) of one whose header cannot be read; of no consequence where every view is a crop."""
        if block not in self._sizes:
            self._sizes[block] = self._read(block)
            self.seen |= set(self._sizes[block]) if self._full else set()
        return self._sizes[block]

    def _read(self, block: int) -> list[tuple[int, int]]:
        if block not in self._to_pack:
            return open_packed(self._store, block).valid_sizes
        keys = self._to_pack[block]
        if not self._full:
            return [(1, 1)] * len(keys)
        return [header_size(self._plan.source, self.index_of[key]) for key in keys]


def _shard_bytes(manifest: Manifest, name: str, inputs: Sequence[tuple[int, int]]) -> int:
    tap = manifest.tap(name)
    by_size: dict[tuple[int, int], int] = {}
    for size in inputs:
        by_size[size] = by_size.get(size, 0) + 1
    values = sum(count * bytes_per_row(manifest, name, tap.spec(*size)) for size, count in by_size.items())
    specs = {tap.spec(*size) for size in by_size}
    layout = target_layout(manifest, {name: specs})
    files = sum(len(parts) for parts in layout.taps[name].parts.values())
    return values + files * (manifest.shard_samples * INDEX_BYTES + CRC_BYTES)


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path
