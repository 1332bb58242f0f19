"""Caches whose targets are drawn numbers, for benchmarks of reading: what a build would have written."""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kdcache.cache.build.write import Written, write_shard
from kdcache.cache.codecs.table import make_codec
from kdcache.cache.reader.cache import Cache, open_cache
from kdcache.cache.record.generation import (
    BlockEntry,
    Pair,
    RecordEntry,
    generation_bytes,
    generation_name,
)
from kdcache.cache.record.manifest import FILE_NAME, Manifest, TapEntry, manifest_bytes, pass_id
from kdcache.cache.record.records import SamplesRecord, record_bytes, record_name
from kdcache.cache.record.sealed import seal_of
from kdcache.cache.spec import PartSpec, RowParts, TensorSpec
from kdcache.cache.stores.contract import ShardKey
from kdcache.cache.stores.local import LocalStore
from kdcache.cache.stores.zarr_shards import VECTOR_BYTES
from kdcache.cache.tasks.table import SEGMENTATION, written
from kdcache.cache.views.block_views import block_views
from kdcache.cache.views.recipe import Recipe
from kdcache.cache.views.sets import ViewSet
from kdcache.cache.views.view import Row, View

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))
TARGET = "target"
MAX_SHARD_BYTES, MAX_SHARD_SAMPLES = 256 << 20, 4096


def rows_cache(
    root: Path, spec: TensorSpec, codec: str, num_samples: int, *, views: int = 1, shard_samples: int = 0
) -> Cache:
    """`num_samples` rows of one target under each view, in shards as a build would choose them."""
    crop = (spec.shape[0] * spec.stride, spec.shape[1] * spec.stride) if spec.stride else (32, 32)
    tap = TapEntry(
        name=TARGET, tap=TARGET, module="body", stride=spec.stride, channels=spec.channels, codec=codec
    )
    parts = make_codec(codec).parts(spec)
    largest = max(part.num_bytes for part in parts.values())
    size = shard_samples or min(MAX_SHARD_SAMPLES, MAX_SHARD_BYTES // largest, num_samples)
    made = pass_id((TARGET,), {TARGET: tap})
    about = {"name": "drawn", "split": "train", "class_names": ["a", "b"], **written(SEGMENTATION)}
    manifest = Manifest(
        name="drawn-t-00000000", identity={}, teacher="t", network={}, teacher_origin="t", teacher_weights="",
        data=about, data_spec="folder:none", crop=crop, output_stride=8, precision="fp32", pipeline={},
        target_format="zarr", zstd=False, shard_samples=size, taps=(tap,), passes={made: (TARGET,)},
        views=(ViewSet(kind="crops", first=0, count=views, crop=crop, recipe=Recipe()),),
        vector_bytes=VECTOR_BYTES,
    )  # fmt: skip
    store, rng = LocalStore(root), np.random.default_rng(0)
    store.put(FILE_NAME, manifest_bytes(manifest))
    blocks, records = [], []
    for block, first in enumerate(range(0, num_samples, size)):
        rows = min(size, num_samples - first)
        blocks.append(_samples(store, manifest, block, first, rows, crop))
        for view in range(views):
            shard = ShardKey(block, view, made)
            _targets(store, manifest, shard, rows, blocks[-1].seal, spec, parts, rng)
            records.append(RecordEntry(*shard, seal_of(bytes(store.get(record_name(shard))[0]))))
    generation = generation_bytes(
        1, manifest, blocks=blocks, retired=(), complete=[Pair(0, TARGET)], records=records
    )
    store.create(generation_name(1), generation)
    return open_cache(root)


def _samples(
    store: LocalStore, manifest: Manifest, block: int, first: int, rows: int, crop: tuple[int, int]
) -> BlockEntry:
    from stored_cache import entry  # on the path since the lines above
    from stored_shard import put_samples

    entries = [entry(f"{first + place:08d}")._replace(height=crop[0], width=crop[1]) for place in range(rows)]
    objects = put_samples(store, block, manifest.shard_samples, entries)
    content = record_bytes(SamplesRecord(block=block, rows=rows, objects=objects))
    store.put(record_name(ShardKey(block)), content)
    return BlockEntry(seal_of(content), rows)


def _targets(
    store: LocalStore,
    manifest: Manifest,
    shard: ShardKey,
    rows: int,
    samples: str,
    spec: TensorSpec,
    parts: dict[str, PartSpec],
    rng: np.random.Generator,
) -> None:
    drawn = {name: _drawn(rng, rows, part) for name, part in parts.items()}
    targets: Sequence[RowParts] = [{name: drawn[name][place] for name in parts} for place in range(rows)]
    first = shard.block * manifest.shard_samples
    own: list[Row | None] = [View(()).row(first + i, shard.view, manifest.crop) for i in range(rows)]
    columns = block_views(first, shard.view, own, np.arange(1, rows + 1, dtype=np.uint64))
    sizes = {TARGET: [spec] * rows}
    write_shard(store, manifest, Written(shard, (TARGET,), samples, columns, {TARGET: targets}, sizes))


def _drawn(rng: np.random.Generator, rows: int, part: PartSpec) -> np.ndarray:
    if part.dtype == "uint8":
        return rng.integers(0, 256, (rows, *part.shape), dtype=np.uint8)
    return rng.standard_normal((rows, *part.shape), dtype=np.float32).astype(part.dtype)
