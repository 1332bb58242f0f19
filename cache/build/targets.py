"""Second phase of a build: views drawn, the teacher's forward over every missing shard, encoded and written.

Four threads in a row, and the teacher is one of them: views are drawn and images decoded ahead; the teacher
runs here; behind it rows are digested and encoded; one more packs, writes and commits the shard before.
Batches never cross a shard: what a shard holds depends neither on the rank that makes it nor on where a build
was killed.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch

from kdcache.cache.build.copies import Copies
from kdcache.cache.build.draw import Living, PackedImages, Shard, draw_shard
from kdcache.cache.build.plan import Plan, Work
from kdcache.cache.build.same_pixels import EarlierPixels
from kdcache.cache.build.stages.finish import Answered, Finisher
from kdcache.cache.build.stages.together import MOST_ROWS, turns
from kdcache.cache.build.write import Written, write_shard
from kdcache.cache.codecs.reduction import load_reduction
from kdcache.cache.codecs.table import make_codec
from kdcache.cache.images.feed import Feed, ImageBatch
from kdcache.cache.images.pipeline import ImagePipeline
from kdcache.cache.processes.in_order import Behind, ahead
from kdcache.cache.processes.progress import moved
from kdcache.cache.reader.rows import pixel_feed
from kdcache.cache.record.precision import in_precision
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
        self.network.lay_out(self.manifest.memory_format)
        self.device, self.batch_size, self.threads = torch.device(device), batch_size, threads
        self.codecs = {t.name: make_codec(t.codec) for t in self.manifest.taps}
        named = [t for t in self.manifest.taps if t.reduction]
        self.reductions = {t.name: load_reduction(t.reduction, may_import=False) for t in named}

    def run(self, todo: Sequence[Work], done: Callable[[int], None]) -> None:
        """Make every shard of `todo`; `done(rows)` is called after each batch. Finished shards survive any
        error."""
        packed = PackedImages(self.store, self.manifest.shard_samples)
        entries = {tap.name: tap for tap in self.manifest.taps}
        with ShardWriter(self._write) as writer:
            finisher = Finisher(entries, self.codecs, packed, partial(self._complete, writer), self.device)
            with Behind(finisher, name="encoder", waiting=2) as behind:
                made = self._decoded(todo, packed)
                decoded = ahead(lambda: made, name="decoder")
                try:
                    for batch, images_BHWC in decoded:
                        behind.put(self._answered(batch, images_BHWC))
                        moved()
                        done(len(batch.rows))
                finally:
                    decoded.close()

    def _complete(self, writer: "ShardWriter", shard: Shard) -> None:
        if self._compares:
            self._earlier.compare(shard, self.device.type)
        writer.put(shard)

    def _decoded(
        self, todo: Sequence[Work], packed: PackedImages
    ) -> Iterator[tuple[TeacherBatch, torch.Tensor | None]]:
        """Batches in order with their pixels; None for one without rows."""
        upcoming = self._upcoming(todo, packed)
        order: list[list[TeacherBatch]] = []  # as they were asked for ahead of what was decoded

        def feed(number: int) -> Feed | None:
            del number
            for turn in upcoming:
                order.append(turn)
                if rows := [row for batch in turn for row in batch.rows]:
                    return pixel_feed(packed, rows)
            return None

        pipeline = ImagePipeline(
            feed,
            batch_size=max(self.batch_size, MOST_ROWS),
            with_maps=False,
            mixes=self._mixes,
            num_threads=self.threads,
            device_id=None if self.device.type == "cpu" else self.device.index or 0,
        )
        return _in_order(order, pipeline, pipeline.run())

    def _upcoming(self, todo: Sequence[Work], packed: PackedImages) -> Iterator[list[TeacherBatch]]:
        """In turns of one shard: a shard that cannot be drawn takes nothing of the one before with it."""
        for work in todo:
            samples = packed.block(work.shard.block)
            partners = self._earlier.partners(work.shard, len(samples)) if self._mixes else {}
            shard = draw_shard(self.manifest, packed, work, self._living_of(work), partners)
            self._copies.fill(shard, packed)
            image_px = int((samples.heights * samples.widths).max(initial=0))
            yield from turns(batches(shard, self.batch_size), image_px)

    @torch.no_grad()
    def _answered(self, batch: TeacherBatch, images_BHWC: torch.Tensor | None) -> Answered:
        """One forward, its answer still where it was computed."""
        if images_BHWC is None:
            return Answered(*batch)
        entries = [self.manifest.tap(t) for t in batch.shard.work.targets]
        with in_precision(self.manifest.precision, self.device.type):
            values = self.network(images_BHWC.to(self.device), sorted({e.tap for e in entries}))
        reduced = {entry.name: values[entry.tap].float() for entry in entries}
        for name, reduce in self.reductions.items():
            if name in reduced:
                reduced[name] = reduce(reduced[name])
        ready = torch.cuda.current_stream(self.device).record_event() if self.device.type == "cuda" else None
        return Answered(*batch, images_BHWC, reduced, ready)


def _in_order(
    order: list[list[TeacherBatch]], pipeline: ImagePipeline, decoded: Iterator[ImageBatch]
) -> Iterator[tuple[TeacherBatch, torch.Tensor | None]]:
    try:
        for images in decoded:
            turn, first = order.pop(0), 0
            while not turn[0].rows:  # a turn of its own
                yield turn[0], None
                turn = order.pop(0)
            for batch in turn:
                yield batch, images.images_BHWC[first : first + len(batch.rows)]
                first += len(batch.rows)
        yield from ((turn[0], None) for turn in order)
    finally:
        pipeline.close()


class ShardWriter(Behind[Shard]):
    """A thread that writes finished shards in order, at most one waiting."""

    def __init__(self, write: Callable[[Written], None]) -> None:
        super().__init__(lambda shard: write(shard.written()), name="shard-writer")

    def __enter__(self) -> "ShardWriter":
        super().__enter__()
        return self
