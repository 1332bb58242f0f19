"""Second phase of a build: views drawn, the teacher's forward over every missing shard, encoded and written.

Four things overlap: the image pipeline decodes ahead in its own threads, the teacher runs here, and one
writer thread packs, writes and commits the shard before. Batches never cross a shard: what a shard holds
depends neither on the rank that makes it nor on where a build was killed.
"""

from collections.abc import Callable, Iterator, Sequence
from queue import Queue
from threading import Thread
from typing import NamedTuple

import torch

from kdcache.cache.build.copies import Copies
from kdcache.cache.build.draw import Living, PackedImages, Shard, draw_shard
from kdcache.cache.build.plan import Plan, Work
from kdcache.cache.build.same_pixels import EarlierPixels
from kdcache.cache.build.write import Written, write_shard
from kdcache.cache.codecs.reduction import load_reduction
from kdcache.cache.codecs.table import make_codec
from kdcache.cache.errors import BadSample
from kdcache.cache.images.feed import Feed, pixel_digests
from kdcache.cache.images.pipeline import ImagePipeline
from kdcache.cache.processes.progress import moved
from kdcache.cache.reader.rows import pixel_feed
from kdcache.cache.record.precision import in_precision
from kdcache.cache.spec import TensorSpec
from kdcache.cache.stores.local import LocalStore
from kdcache.cache.views.view import Row


class TeacherBatch(NamedTuple):
    """Rows of one shard that go through the teacher together: equal input sizes, never from two shards."""

    shard: Shard
    rows: list[Row]
    last: bool  # the shard is complete after this batch


def batches(shard: Shard, batch_size: int) -> Iterator[TeacherBatch]:
    """The batches of a shard; one without rows where the teacher has nothing to do."""
    groups: dict[tuple[int, int], list[Row]] = {}
    for row in shard.to_compute():
        groups.setdefault((row.geometry.crop_h, row.geometry.crop_w), []).append(row)
    pieces = [rows[i : i + batch_size] for rows in groups.values() for i in range(0, len(rows), batch_size)]
    for number, rows in enumerate(pieces or [[]]):
        yield TeacherBatch(shard, rows, number >= len(pieces) - 1)


class TargetBuilder:
    """Runs the teacher over a list of work. One instance, one call of `run`."""

    def __init__(
        self,
        plan: Plan,
        *,
        device: str,
        batch_size: int,
        threads: int,
        living_of: Callable[[Work], Living],
        copies: Copies | None = None,
        write: Callable[[Written], None] | None = None,
    ) -> None:
        """`living_of` says which rows a shard has; `write` takes the finished shards in place of storing
        them."""
        self.plan, self.manifest = plan, plan.manifest
        self._copies = copies or Copies(None, {})
        self._living_of = living_of
        self.store = LocalStore(plan.root)
        self._earlier = EarlierPixels(self.store, plan.manifest)
        # What is put back is compared with its record, which holds the digests of its pixels too.
        self._compares = write is None
        self._mixes = any(views.recipe.mixes for views in plan.manifest.views)
        self._write = write or (lambda shard: write_shard(self.store, self.manifest, shard))
        self.network = plan.network.eval().to(device)
        self.device, self.batch_size, self.threads = torch.device(device), batch_size, threads
        self.codecs = {t.name: make_codec(t.codec) for t in self.manifest.taps}
        named = [t for t in self.manifest.taps if t.reduction]
        self.reductions = {t.name: load_reduction(t.reduction, may_import=False) for t in named}

    def run(self, todo: Sequence[Work], done: Callable[[int], None]) -> None:
        """Make every shard of `todo`; `done(rows)` is called after each batch. Finished shards survive any
        error."""
        queued: dict[int, TeacherBatch] = {}  # batches that the pipeline decodes ahead, by number
        packed = PackedImages(self.store, self.manifest.shard_samples)
        with ShardWriter(self._write) as writer:
            upcoming = self._upcoming(todo, packed, writer)

            def feed(number: int) -> Feed | None:
                batch = next(upcoming, None)
                if batch is None:
                    return None
                queued[number] = batch
                return pixel_feed(packed, batch.rows)

            device_id = None if self.device.type == "cpu" else self.device.index or 0
            pipeline = ImagePipeline(
                feed,
                batch_size=self.batch_size,
                with_maps=False,
                mixes=self._mixes,
                num_threads=self.threads,
                device_id=device_id,
            )
            for number, images in enumerate(pipeline.run()):
                batch = queued.pop(number)
                self._forward(batch, images.images_BHWC, packed)
                moved()
                done(len(batch.rows))
                if batch.last:
                    if self._compares:
                        self._earlier.compare(batch.shard, self.device.type)
                    writer.put(batch.shard)
            pipeline.close()

    def _upcoming(
        self, todo: Sequence[Work], packed: PackedImages, writer: "ShardWriter"
    ) -> Iterator[TeacherBatch]:
        """Batches in order; a shard that the teacher has nothing to do with goes to the writer at once."""
        for work in todo:
            rows = len(packed.block(work.shard.block))
            partners = self._earlier.partners(work.shard, rows) if self._mixes else {}
            shard = draw_shard(self.manifest, packed, work, self._living_of(work), partners)
            self._copies.fill(shard, packed)
            for batch in batches(shard, self.batch_size):
                if batch.rows:
                    yield batch
                else:
                    writer.put(shard)

    @torch.no_grad()
    def _forward(self, batch: TeacherBatch, images_BHWC: torch.Tensor, packed: PackedImages) -> None:
        digests = pixel_digests(images_BHWC)
        for digest, row in zip(digests, batch.rows, strict=True):
            batch.shard.pixels[row.sample - batch.shard.first] = digest
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
                    where=f"one of {', '.join(packed.key(row.sample) for row in batch.rows)}",
                    fix=error.fix,
                ) from error
            spec = TensorSpec((*value.shape[2:], value.shape[1]), entry.stride)
            for number, row in enumerate(batch.rows):
                place = row.sample - batch.shard.first
                batch.shard.targets[entry.name][place] = {k: v[number] for k, v in parts.items()}
                batch.shard.sizes[entry.name][place] = spec


class ShardWriter:
    """A thread that writes finished shards in order, at most one waiting."""

    def __init__(self, write: Callable[[Written], None]) -> None:
        self._write = write
        self._queue: Queue[Shard | None] = Queue(maxsize=1)
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

    def put(self, shard: Shard) -> None:
        """Hand over a finished shard. Raises what an earlier write failed with."""
        if self._failure is not None:
            raise self._failure
        self._queue.put(shard)

    def _work(self) -> None:
        while (shard := self._queue.get()) is not None:
            if self._failure is None:
                try:
                    self._write(shard.written())
                except BaseException as error:  # raised again in the thread that builds
                    self._failure = error
