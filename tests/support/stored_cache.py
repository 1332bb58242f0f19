"""A small cache written by hand, for tests of what a reader takes and refuses: no teacher, no pipeline.

Images of 8x8 pixels that nobody decodes, one int8 tap of 2x2 cells. The target of sample `index` under view
`view` holds the number 10 * index + view in every cell, so that a wrong pair shows.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from stored_shard import put_samples, put_shard

from kdcache.cache.record.generation import (
    LOST,
    BlockEntry,
    Pair,
    RecordEntry,
    generation_bytes,
    generation_name,
)
from kdcache.cache.record.layout import target_layout
from kdcache.cache.record.manifest import FILE_NAME, Manifest, TapEntry, manifest_bytes, pass_id
from kdcache.cache.record.records import SamplesRecord, TargetsRecord, record_bytes, record_name
from kdcache.cache.record.row_columns import columns_name, pack_views
from kdcache.cache.record.sealed import seal_of
from kdcache.cache.spec import RowParts, Task, TensorSpec
from kdcache.cache.stores.contract import ShardKey
from kdcache.cache.stores.local import LocalStore
from kdcache.cache.stores.sample_tars import SampleEntry
from kdcache.cache.stores.table import target_format
from kdcache.cache.tasks.table import SEGMENTATION, written
from kdcache.cache.views.block_views import BlockViews, block_views
from kdcache.cache.views.recipe import Recipe
from kdcache.cache.views.sets import ViewSet
from kdcache.cache.views.view import Op, Row, View

SHARD, CROP, SPEC = 3, (8, 8), TensorSpec((2, 2, 3), 4)
TAP = TapEntry(name="stage4", tap="stage4", module="body", stride=4, channels=3, codec="int8")
PASS = pass_id(("stage4",), {"stage4": TAP})
KEYS = (("a", "b", "c"), ("d", "e"))
Mixed = Mapping[tuple[int, int], int]  # (sample, view) -> who is mixed in


def small_manifest(task: Task = SEGMENTATION, **changes: object) -> Manifest:
    described = {"name": "some", "split": "train", "class_names": ["x", "y"], **written(task)}
    whole = Manifest(
        name="some-t-00000000", identity={"weights": "w"}, teacher="t", network={}, teacher_origin="t",
        teacher_weights="", data=described, data_spec="some:here", crop=CROP, output_stride=4,
        precision="fp32", pipeline={}, target_format="zarr", zstd=False, shard_samples=SHARD,
        views=(ViewSet(kind="crops", first=0, count=2, crop=CROP, recipe=Recipe(mixup=0.2)),),
        taps=(TAP,), passes={PASS: ("stage4",)},
    )  # fmt: skip
    return replace(whole, **changes)


def entry(key: str) -> SampleEntry:
    image, label = f"\x89PNG image of {key}", f"\x89PNG label of {key}"
    return SampleEntry(key, "png", image.encode("latin-1"), "label.png", label.encode("latin-1"), *CROP)


class HandWritten:
    """A cache folder that grows by calls; what a generation counts is what was added until then."""

    def __init__(self, root: Path, manifest: Manifest | None = None) -> None:
        self.root, self.manifest, self.store = root, manifest or small_manifest(), LocalStore(root)
        self.blocks: list[BlockEntry] = []
        self.records: list[RecordEntry] = []
        self.store.put(FILE_NAME, manifest_bytes(self.manifest))

    def add_block(self, entries: Sequence[SampleEntry]) -> int:
        """The samples of the next block; its number."""
        block = len(self.blocks)
        objects = put_samples(self.store, block, self.manifest.shard_samples, entries)
        record = SamplesRecord(block=block, rows=len(entries), objects=objects)
        self.blocks.append(BlockEntry(self._create(record), len(entries)))
        return block

    def add_lost(self) -> None:
        self.blocks.append(LOST)

    def add_targets(
        self, block: int, view: int, keys: Sequence[str], mixed: Mixed | None = None, *, samples: str = ""
    ) -> ShardKey:
        """The targets of every row of a block; `samples` is the seal that the record links to."""
        first = block * self.manifest.shard_samples
        rows = [_row(first + place, view, mixed or {}, self._key) for place in range(len(keys))]
        pixels = np.array([1000 + 10 * row.sample + view for row in rows], dtype=np.uint64)
        shard = ShardKey(block, view, PASS)
        self.write_targets(shard, block_views(first, view, rows, pixels), samples or self.blocks[block].seal)
        return shard

    def write_targets(self, shard: ShardKey, views: BlockViews, samples: str, *, rows: int = -1) -> None:
        """A shard of targets with these columns; `rows` is the number that its record claims."""
        numbers = [10 * (views.first + place) + shard.view for place in range(len(views.valid))]
        columns = self.store.put(columns_name(shard), pack_views(views))
        layout = target_layout(self.manifest, {TAP.name: [SPEC]})
        objects = put_shard(
            target_format(self.manifest.target_format), self.store, layout, shard,
            targets={TAP.name: [_parts(number) for number in numbers]},
            sizes={TAP.name: [SPEC] * len(numbers)},
        )  # fmt: skip
        record = TargetsRecord(
            block=shard.block, view=shard.view, pass_id=shard.pass_id, targets=(TAP.name,), samples=samples,
            rows=len(numbers) if rows < 0 else rows, views=columns, objects=tuple(objects),
        )  # fmt: skip
        kept = [old for old in self.records if old.shard != shard]
        self.records = [*kept, RecordEntry(*shard, self._create(record))]

    def settle(self, *, retired: Iterable[int] = ()) -> int:
        """Write the next generation; its number."""
        number = len(self.store.list("generations/")) + 1
        content = generation_bytes(
            number, self.manifest, blocks=self.blocks, retired=retired, complete=[Pair(0, TAP.name)],
            records=self.records,
        )  # fmt: skip
        self.store.create(generation_name(number), content)
        return number

    def _create(self, record: SamplesRecord | TargetsRecord) -> str:
        content = record_bytes(record)
        self.store.put(record_name(record.shard), content)
        return seal_of(content)

    def _key(self, index: int) -> str:
        block, row = divmod(index, self.manifest.shard_samples)
        return KEYS[block][row]


def write_cache(root: Path, *, mixed: Mixed | None = None, manifest: Manifest | None = None) -> HandWritten:
    """Samples a, b, c and d, e in two blocks under two views, and their first generation."""
    cache = HandWritten(root, manifest)
    for keys in KEYS:
        cache.add_block([entry(key) for key in keys])
    for view in range(cache.manifest.num_views):
        for block, keys in enumerate(KEYS):
            cache.add_targets(block, view, keys, mixed)
    cache.settle()
    return cache


def _row(index: int, view: int, mixed: Mixed, key_of: Callable[[int], str]) -> Row:
    partner = mixed.get((index, view))
    effects: tuple[Op, ...] = ()
    if partner is not None:
        effects = (("mixup", 300, key_of(partner)),)
    own = View((("crop", 0, 0, *CROP), *effects)).row(index, view, CROP)
    return own if partner is None else own.mixed_with(_row(partner, view, {}, key_of))


def _parts(number: int) -> RowParts:
    return {"values": np.full(SPEC.shape, number % 256, np.uint8), "scale": np.ones((2, 3), np.float32)}
