"""Second phase of a build: views drawn, the teacher's forward over every missing shard, encoded and written.

Four things overlap: the image pipeline decodes ahead in its own threads, the teacher runs here, and one
writer thread packs, writes and commits the shard before. Batches never cross a shard, and a sample is mixed
with one of its own shard only: what a shard holds depends on nothing but its own samples, neither on the rank
that makes it nor on where a build was killed.
"""

from collections.abc import Callable, Iterator, Sequence
from queue import Queue
from threading import Thread
from typing import Any, NamedTuple

import torch

from kdcache.cache.build.plan import Plan, Work
from kdcache.cache.codecs.reduction import load_reduction
from kdcache.cache.codecs.table import make_codec
from kdcache.cache.errors import BadSample
from kdcache.cache.images.feed import Feed, pixel_digest
from kdcache.cache.images.pipeline import ImagePipeline
from kdcache.cache.reader.rows import pixel_feed
from kdcache.cache.record.layout import target_layout
from kdcache.cache.record.manifest import Manifest
from kdcache.cache.record.precision import in_precision
from kdcache.cache.record.records import read_record, record_name
from kdcache.cache.spec import RowParts, TensorSpec
from kdcache.cache.stores.contract import ShardKey, TargetFormat
from kdcache.cache.stores.local import LocalStore
from kdcache.cache.stores.sample_tars import SampleBlock, open_samples
from kdcache.cache.stores.table import target_format
from kdcache.cache.views.view import Row, View, partner_key


class Shard(NamedTuple):
    """One shard before and after the teacher, in sample order; None where the sample is invalid."""

    work: Work
    views: list[View | None]  # for the record
    rows: list[Row | None]  # whose samples are numbered within the block
    targets: dict[str, list[RowParts | None]]
    sizes: dict[str, list[TensorSpec | None]]


class TeacherBatch(NamedTuple):
    """Rows of one shard that go through the teacher together: equal input sizes, never from two shards."""

    shard: Shard
    samples: SampleBlock
    rows: list[Row]
    last: bool  # the shard is complete after this batch

    @property
    def keys(self) -> list[str]:
        return [self.samples.keys[row.sample] for row in self.rows]


def draw_shard(manifest: Manifest, samples: SampleBlock, work: Work) -> Shard:
    """The views of every row of a shard, drawn from (seed, key, view number) and the keys of the shard."""
    number = work.shard.view
    drawn = manifest.view_set(number)
    valid = [key for key, valid in zip(samples.keys, samples.valid, strict=True) if valid]
    views: list[View | None] = []
    rows: list[Row | None] = []
    sizes = zip(samples.heights.tolist(), samples.widths.tolist(), strict=True)
    for place, (key, size) in enumerate(zip(samples.keys, sizes, strict=True)):
        view = drawn.view(key, number, *size, valid) if samples.valid[place] else None
        views.append(view)
        rows.append(None if view is None else view.row(place, number, size))
    empty = [None] * len(rows)
    return Shard(
        work,
        views,
        _with_partners(rows, samples.keys),
        {t: list(empty) for t in work.targets},
        {t: list(empty) for t in work.targets},
    )


def _with_partners(rows: Sequence[Row | None], keys: Sequence[str]) -> list[Row | None]:
    """The rows with those that are mixed into them: samples of the same shard, which are valid."""
    place_of = {key: place for place, key in enumerate(keys)}
    mixed: list[Row | None] = []
    for row in rows:
        key = None if row is None else partner_key(row.effects)
        if row is None or key is None:
            mixed.append(row)
            continue
        partner = rows[place_of[key]]
        assert partner is not None, "partners are valid"
        mixed.append(row.mixed_with(partner))
    return mixed


def batches(
    store: LocalStore, manifest: Manifest, todo: Sequence[Work], batch_size: int
) -> Iterator[TeacherBatch]:
    """The batches of a build in order; a shard whose samples are all invalid gives one empty batch."""
    for work in todo:
        samples = open_samples(store, work.shard.block)
        shard = draw_shard(manifest, samples, work)
        groups: dict[tuple[int, int], list[Row]] = {}
        for row in shard.rows:
            if row is not None:
                groups.setdefault((row.geometry.crop_h, row.geometry.crop_w), []).append(row)
        pieces = [
            rows[i : i + batch_size] for rows in groups.values() for i in range(0, len(rows), batch_size)
        ]
        for number, rows in enumerate(pieces or [[]]):
            yield TeacherBatch(shard, samples, rows, number >= len(pieces) - 1)


class TargetBuilder:
    """Runs the teacher over a list of work. One instance, one call of `run`."""

    def __init__(self, plan: Plan, *, device: str, batch_size: int, threads: int) -> None:
        self.plan, self.manifest = plan, plan.manifest
        self.store = LocalStore(plan.root)
        self.network = plan.network.eval().to(device)
        self.device, self.batch_size, self.threads = torch.device(device), batch_size, threads
        self.codecs = {t.name: make_codec(t.codec) for t in self.manifest.taps}
        named = [t for t in self.manifest.taps if t.reduction]
        self.reductions = {t.name: load_reduction(t.reduction, may_import=False) for t in named}

    def run(self, todo: Sequence[Work], done: Callable[[int], None]) -> None:
        """Make every shard of `todo`; `done(rows)` is called after each batch. Finished shards survive any
        error."""
        queued: dict[int, TeacherBatch] = {}  # batches that the pipeline decodes ahead, by number
        empty: list[Shard] = []
        upcoming = batches(self.store, self.manifest, todo, self.batch_size)

        def feed(number: int) -> Feed | None:
            for batch in upcoming:
                if not batch.rows:
                    empty.append(batch.shard)
                    continue
                queued[number] = batch
                return pixel_feed(batch.samples, batch.rows)
            return None

        device_id = None if self.device.type == "cpu" else self.device.index or 0
        pipeline = ImagePipeline(
            feed,
            batch_size=self.batch_size,
            with_maps=False,
            mixes=any(views.recipe.mixes for views in self.manifest.views),
            num_threads=self.threads,
            device_id=device_id,
        )
        with ShardWriter(self.store, self.manifest) as writer:
            for number, images in enumerate(pipeline.run()):
                batch = queued.pop(number)
                self._forward(batch, images.images_BHWC)
                done(len(batch.rows))
                if batch.last:
                    writer.put(batch.shard, _pixels(batch, images.images_BHWC, self.manifest))
            for shard in empty:  # no valid sample: a record with no objects
                writer.put(shard, None)
        pipeline.close()

    @torch.no_grad()
    def _forward(self, batch: TeacherBatch, images_BHWC: torch.Tensor) -> None:
        entries = [self.manifest.tap(t) for t in batch.shard.work.targets]
        with in_precision(self.manifest.precision, self.device.type):
            values = self.network(images_BHWC.to(self.device), sorted({e.tap for e in entries}))
        for entry in entries:
            value = values[entry.tap].float()
            if entry.name in self.reductions:
                value = self.reductions[entry.name](value)
            try:
                parts = self.codecs[entry.name].encode(value)
            except BadSample as error:
                raise BadSample(
                    f"tap '{entry.name}': {error.what}",
                    where=f"one of {', '.join(batch.keys)}",
                    fix=error.fix,
                ) from error
            spec = TensorSpec((*value.shape[2:], value.shape[1]), entry.stride)
            for place, row in enumerate(batch.rows):
                batch.shard.targets[entry.name][row.sample] = {k: v[place] for k, v in parts.items()}
                batch.shard.sizes[entry.name][row.sample] = spec


def _pixels(
    batch: TeacherBatch, images_BHWC: torch.Tensor, manifest: Manifest
) -> tuple[int, int, str] | None:
    """The digest of one teacher input of this shard, which a training run re-makes before its first step.

    Of the last row of the last batch: which row that is does not depend on the batch size.
    """
    if not batch.rows:
        return None
    key = batch.shard.work.shard
    index = key.block * manifest.shard_samples + batch.rows[-1].sample
    return index, key.view, pixel_digest(images_BHWC[-1:])[0]


class ShardWriter:
    """A thread that writes and commits finished shards in order, at most one waiting."""

    def __init__(self, store: LocalStore, manifest: Manifest) -> None:
        self._store, self._manifest = store, manifest
        self._format: TargetFormat = target_format(manifest.target_format)
        self._queue: Queue[tuple[Shard, tuple[int, int, str] | None] | None] = Queue(maxsize=1)
        self._failure: BaseException | None = None
        self._thread = Thread(target=self._work, name="shard-writer", daemon=True)

    def __enter__(self) -> "ShardWriter":
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._queue.put(None)
        self._thread.join()
        if self._failure is not None and kind is None:
            raise self._failure

    def put(self, shard: Shard, pixels: tuple[int, int, str] | None) -> None:
        """Hand over a finished shard. Raises what an earlier write failed with."""
        if self._failure is not None:
            raise self._failure
        self._queue.put((shard, pixels))

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            if self._failure is None:
                try:
                    write_shard(self._store, self._manifest, self._format, *item)
                except BaseException as error:  # raised again in the thread that builds
                    self._failure = error


def write_shard(
    store: LocalStore,
    manifest: Manifest,
    form: TargetFormat,
    shard: Shard,
    pixels: tuple[int, int, str] | None,
) -> None:
    """Objects first, then the record: only the record says that the shard exists."""
    key = shard.work.shard
    specs = {t: {s for s in sizes if s is not None} for t, sizes in shard.sizes.items()}
    layout = target_layout(manifest, specs)
    objects = form.write(store, layout, key, targets=shard.targets, sizes=shard.sizes)
    record: dict[str, Any] = {
        "kind": "targets",
        "block": key.block,
        "view": key.view,
        "targets": list(shard.work.targets),
        "samples": read_record(store.root, ShardKey(key.block))["digest"],
        "rows": len(shard.views),
        "valid": [int(v is not None) for v in shard.views],
        "views": [v.to_json() if v is not None else [] for v in shard.views],
        "pixels": pixels,
        "objects": objects,
    }
    store.commit(record_name(key), record)
