"""What a build will cost, known before the first forward: every map's shape follows from its view."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from kdcache.cache.build.plan import Plan, Work
from kdcache.cache.build.size import CRC_BYTES, INDEX_BYTES, flight_bytes, header_size
from kdcache.cache.record.layout import bytes_per_row, target_layout
from kdcache.cache.record.manifest import Manifest, pass_id
from kdcache.cache.record.records import Coverage, list_records
from kdcache.cache.stores.contract import ShardKey
from kdcache.cache.stores.tar_pack import BLOCK

TAR_BYTES = 3 * (BLOCK + BLOCK // 2) + BLOCK  # three headers, padding, key and size: most of a tiny image


class Prediction(NamedTuple):
    """What a build will cost, known before the first forward."""

    target_bytes: int  # exact without entropy coding; an upper bound with it
    sample_bytes: int  # original image and label files; labels may be re-encoded smaller or larger
    free_bytes: int
    flight_bytes: int
    rows: int


def missing_work(root: Path, manifest: Manifest) -> list[Work]:
    """Shards that no record stands for, in the order a single rank makes them."""
    coverage = Coverage(list_records(root), manifest.passes)
    taps = {t.name: t for t in manifest.taps}
    works = []
    for view in range(manifest.num_views):
        for block in range(manifest.num_blocks):
            if targets := coverage.missing(manifest.tap_names, view, block):
                works.append(Work(ShardKey(block, view, pass_id(targets, taps)), targets))
    return works


def predict(plan: Plan, order: Sequence[str]) -> Prediction:
    """Bytes to write and to hold. Exact for targets: every map's shape follows from its view."""
    manifest = plan.manifest
    index_of = {key: i for i, key in enumerate(plan.source.keys)}
    full = any(v.crop is None for v in manifest.views)
    sizes = (
        [header_size(plan.source, index_of[k]) if k in index_of else (0, 0) for k in order] if full else []
    )
    targets = rows = 0
    for work in missing_work(plan.root, manifest):
        first, count = work.shard.block * manifest.shard_samples, manifest.block_rows(work.shard.block)
        crop = manifest.view_set(work.shard.view).crop
        inputs = [crop] * count if crop else [s for s in sizes[first : first + count] if s[0]]
        rows += len(inputs)
        targets += sum(_shard_bytes(manifest, name, inputs) for name in work.targets)
    have = Coverage(list_records(plan.root), manifest.passes).samples
    new = [k for i, k in enumerate(order) if i // manifest.shard_samples not in have and k in index_of]
    samples = sum(plan.source.num_bytes(index_of[k]) + TAR_BYTES for k in new)
    free = shutil.disk_usage(_existing(plan.root)).free
    return Prediction(
        targets, samples, free, flight_bytes(manifest, sizes or [plan.source.default_crop]), rows
    )


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
