"""Synthetic caches of any number of samples, for measuring: real manifest, generation, records, indexes and
columns, through the project's own writers; images and targets are a few bytes.

What is the same in every block is one file under many names (hard links): columns of views, tars, shards of
targets. Keys, and so indexes of samples, differ.
"""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kdcache.cache.build.lock import FILE_NAME as BUILD_LOCK
from kdcache.cache.fingerprint import digest_bytes
from kdcache.cache.record.generation import (
    BlockEntry,
    Pair,
    RecordEntry,
    Total,
    generation_bytes,
    generation_name,
)
from kdcache.cache.record.layout import target_layout
from kdcache.cache.record.manifest import FILE_NAME, Manifest, TapEntry, manifest_bytes, pass_id
from kdcache.cache.record.records import SamplesRecord, TargetsRecord, record_bytes, record_name
from kdcache.cache.record.row_columns import columns_name, pack_views
from kdcache.cache.record.sealed import seal_of
from kdcache.cache.spec import Task, ceil_div
from kdcache.cache.stores.columns import pack_columns
from kdcache.cache.stores.contract import ObjectRecord, ShardKey
from kdcache.cache.stores.local import LocalStore
from kdcache.cache.stores.sample_tars import index_name, tar_name
from kdcache.cache.stores.table import target_format
from kdcache.cache.tasks.table import task_of, written
from kdcache.cache.views.block_views import BlockViews
from kdcache.cache.views.sets import parse_views

CROP = (32, 32)
TAP = TapEntry(name="logits", tap="logits", module="head", stride=0, channels=1, codec="raw")
PASS = pass_id((TAP.name,), {TAP.name: TAP})
PICTURE = b"\x89PNG synthetic"
CLASSES = ("a", "b")
NETWORK = {"name": "t", "num_classes": len(CLASSES), "output_stride": 8, "aux": False, "taps": {}}
SUMS = (0, 40, 50)  # samples that teach nothing, smallest height and width


class Size(NamedTuple):
    """How large a synthetic cache is."""

    samples: int
    shard_samples: int = 4096
    views: int = 8
    task: Task = "classification"  # type: ignore[assignment]


def make_cache(root: Path, size: Size) -> Manifest:
    """A finished cache; its manifest."""
    manifest = made_manifest(size)
    store = LocalStore(root)
    store.put(FILE_NAME, manifest_bytes(manifest))
    (root / BUILD_LOCK).touch()  # its builder ended well
    for folder in ("records", "generations", "views", "samples"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    once = Once(store, manifest)
    blocks = [write_block(once, block, size) for block in range(ceil_div(size.samples, size.shard_samples))]
    records = [
        RecordEntry(*shard, write_targets(once, shard, entry))
        for block, entry in enumerate(blocks)
        for shard in (ShardKey(block, view, PASS) for view in range(size.views))
    ]
    layout = target_layout(manifest, {TAP.name: [TAP.spec(*CROP)]}, len(blocks))
    target_format(manifest.target_format).prepare(store, layout, ())
    (root / generation_name(1)).write_bytes(
        generation_bytes(
            1,
            manifest,
            blocks=blocks,
            retired=(),
            complete=[Pair(0, TAP.name)],
            records=records,
            totals=[Total(TAP.name, 2 * size.samples * size.views, size.samples * size.views)],
        )
    )
    return manifest


def made_manifest(size: Size) -> Manifest:
    about = {"name": "none", "split": "train", "class_names": list(CLASSES), **written(size.task)}
    return Manifest(
        name="synthetic", identity={"weights": "w"}, teacher="t",
        network={**NETWORK, **written(size.task)}, teacher_origin="t",
        teacher_weights="", data=about, data_spec="folder:none", crop=CROP, output_stride=8,
        precision="fp32", pipeline={}, target_format="zarr", zstd=False, shard_samples=size.shard_samples,
        views=tuple(parse_views(f"crops:{size.views}", crop=CROP, seed=0, mirror=False)),
        taps=(TAP,), passes={PASS: (TAP.name,)},
    )  # fmt: skip


class Once:
    """Objects that are written once and linked to wherever the same bytes belong."""

    def __init__(self, store: LocalStore, manifest: Manifest) -> None:
        self.store, self.manifest = store, manifest
        self._first: dict[object, ObjectRecord] = {}

    def put(self, key: object, name: str, content: bytes) -> ObjectRecord:
        """`key` is what the bytes depend on."""
        first = self._first.get(key)
        if first is None or os.stat(self.store.root / first.name).st_nlink > 60000:
            self._first[key] = self.store.put(name, content)
            return self._first[key]
        path = self.store.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(self.store.root / first.name, path)
        return first._replace(name=name)


def rows_of(block: int, size: Size) -> int:
    return min(size.shard_samples, size.samples - block * size.shard_samples)


def write_block(once: Once, block: int, size: Size) -> BlockEntry:
    """The samples of one block, recorded."""
    rows, first = rows_of(block, size), block * size.shard_samples
    tar = once.put("tar", tar_name(block), PICTURE)
    index = _plain_put(once.store.root, index_name(block), index_bytes(first, rows, size.task))
    record = SamplesRecord(block=block, rows=rows, objects=(tar, index))
    content = record_bytes(record)
    (once.store.root / record_name(record.shard)).write_bytes(content)
    return BlockEntry(seal_of(content), rows, *SUMS)


def _plain_put(root: Path, name: str, content: bytes) -> ObjectRecord:
    """Without the fsync of a store: ten thousand of them would take minutes."""
    (root / name).write_bytes(content)
    return ObjectRecord(name, len(content), digest_bytes(content))


def index_bytes(first: int, rows: int, task: Task) -> bytes:
    """The index of a block whose samples all lie at one place of the tar."""
    span = np.tile(np.array([0, len(PICTURE)], dtype=np.int64), (rows, 1))
    keys = [f"class/{number:08d}" for number in range(first, first + rows)]
    of_truth = {f"truth.{name}": np.ones(rows, np.int64) for name in task_of(task).truth.columns}
    return pack_columns(
        {
            "keys": keys, "suffixes": ["png"] * rows, "valid": np.ones(rows, np.uint8),
            "heights": np.full(rows, 40, np.int32), "widths": np.full(rows, 50, np.int32),
            "image_digests": np.zeros((rows, 16), np.uint8), "label_digests": np.zeros((rows, 16), np.uint8),
            "images": span, "labels": span, **of_truth,
        }
    )  # fmt: skip


def write_targets(once: Once, shard: ShardKey, block: BlockEntry) -> str:
    rows = block.rows
    columns = once.put(("views", rows), columns_name(shard), _views_bytes(rows))
    name = f"targets.zarr/t/{TAP.name}/{TAP.spec(*CROP).size_key}/value/c/{shard.view}/{shard.block}/0"
    objects = once.put(("targets", rows), name, bytes(2 * rows))
    record = TargetsRecord(
        block=shard.block, view=shard.view, pass_id=PASS, targets=(TAP.name,), samples=block.seal, rows=rows,
        views=columns, objects=(objects,),
    )  # fmt: skip
    content = record_bytes(record)
    (once.store.root / record_name(shard)).write_bytes(content)
    return seal_of(content)


def _views_bytes(rows: int) -> bytes:
    geometry = np.tile(np.array([40, 50, 0, 3, 7, *CROP], np.int32), (rows, 1))
    pixels = np.arange(1, rows + 1, dtype=np.uint64)
    nobody = np.zeros(0, np.int64)
    return pack_views(BlockViews(0, 0, np.ones(rows, bool), geometry, pixels, nobody, []))
