"""`build --keep pixels`: the finished pixels of every stored view and its label map, as targets.

A pass like one of the teacher, without the teacher: the image pipeline makes the rows once more, and what it
makes is stored. Each row is compared with the digest of what the teacher saw before it is written.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch

from kdcache.cache.build.draw import Living, PackedImages, Shard, draw_shard
from kdcache.cache.build.plan import Plan, Work
from kdcache.cache.build.same_pixels import EarlierPixels
from kdcache.cache.build.write import Written, write_shard
from kdcache.cache.codecs.pixels import PART
from kdcache.cache.images.feed import Feed, ImageBatch, pixel_digests
from kdcache.cache.images.pipeline import ImagePipeline
from kdcache.cache.processes.progress import moved
from kdcache.cache.reader.rows import pixel_feed
from kdcache.cache.record.manifest import LABELS, PIXELS
from kdcache.cache.spec import TensorSpec
from kdcache.cache.stores.local import LocalStore
from kdcache.cache.tasks.table import task_of
from kdcache.cache.views.view import Row

BATCH_ROWS = 32  # that are decoded at a time

Piece = tuple[Shard, list[Row], bool]  # rows of one size, and whether the shard is complete after them


def keeps(work: Work) -> bool:
    """Whether a shard holds pixels, and no answers of the teacher."""
    return PIXELS in work.targets


class PixelKeeper:
    """Makes shards of pixels. One instance, one call of `run`."""

    def __init__(
        self,
        plan: Plan,
        *,
        device: str,
        threads: int,
        living_of: Callable[[Work], Living],
        write: Callable[[Written], None] | None = None,
    ) -> None:
        """`living_of` says which rows a shard has; `write` takes the finished shards in place of storing
        them: what is put back is compared with its record."""
        self._manifest, self._threads, self._living_of = plan.manifest, threads, living_of
        self._store = LocalStore(plan.root)
        self._packed = PackedImages(self._store, plan.manifest.shard_samples)
        self._earlier = EarlierPixels(self._store, plan.manifest)
        self._compares = write is None
        self._write = write or (lambda shard: write_shard(self._store, plan.manifest, shard))
        self._truth = task_of(plan.manifest.task).truth
        self._mixes = any(views.recipe.mixes for views in plan.manifest.views)
        self._device = torch.device(device)

    def run(self, todo: Sequence[Work], done: Callable[[int], None]) -> None:
        """Make every shard of `todo`; `done(rows)` is called after each batch. Finished shards survive any
        error."""
        waiting: dict[int, Piece] = {}
        upcoming = self._upcoming(todo)

        def feed(number: int) -> Feed | None:
            piece = next(upcoming, None)
            if piece is None:
                return None
            waiting[number] = piece
            return self._feed(piece[1])

        pipeline = ImagePipeline(
            feed,
            batch_size=BATCH_ROWS,
            with_maps=self._truth.rides,
            mixes=self._mixes,
            num_threads=self._threads,
            device_id=None if self._device.type == "cpu" else self._device.index or 0,
            name_of=lambda number, row: self._packed.key(waiting[number][1][row].sample),
        )
        for number, batch in enumerate(pipeline.run()):
            shard, rows, last = waiting.pop(number)
            _fill(shard, rows, batch)
            moved()
            done(len(rows))
            if last:
                self._finish(shard)
        pipeline.close()

    def _finish(self, shard: Shard) -> None:
        if self._compares:
            self._earlier.compare(shard, self._device.type)
        self._write(shard.written())

    def _upcoming(self, todo: Sequence[Work]) -> Iterator[Piece]:
        """Pieces in order; a shard in which nobody lives is written at once."""
        for work in todo:
            count = len(self._packed.block(work.shard.block))
            partners: Mapping[int, int] = self._earlier.partners(work.shard, count) if self._mixes else {}
            shard = draw_shard(self._manifest, self._packed, work, self._living_of(work), partners)
            by_size: dict[tuple[int, int], list[Row]] = {}
            for row in (one for one in shard.rows if one is not None):
                by_size.setdefault((row.geometry.crop_h, row.geometry.crop_w), []).append(row)
            pieces = [
                rows[start : start + BATCH_ROWS]
                for rows in by_size.values()
                for start in range(0, len(rows), BATCH_ROWS)
            ]
            if not pieces:
                self._finish(shard)
            for number, rows in enumerate(pieces, 1):
                yield shard, rows, number == len(pieces)

    def _feed(self, rows: list[Row]) -> Feed:
        feed = pixel_feed(self._packed, rows)
        if not self._truth.rides:
            return feed
        size = self._packed.shard_samples
        labels = (self._packed.block(row.sample // size).label(row.sample % size) for row in rows)
        return feed._replace(maps=[self._truth.parse(label.data) for label in labels])


def _fill(shard: Shard, rows: Sequence[Row], batch: ImageBatch) -> None:
    """Put a batch into its shard."""
    kept = {PIXELS: batch.images_BHWC.cpu().numpy()}
    if batch.maps_BHW is not None:
        kept[LABELS] = batch.maps_BHW[..., None].cpu().numpy()
    digests = pixel_digests(batch.images_BHWC)
    for number, row in enumerate(rows):
        place = row.sample - shard.first
        shard.pixels[place] = digests[number]
        for name, values in kept.items():
            shard.targets[name][place] = {PART: values[number]}
            shard.sizes[name][place] = TensorSpec(values.shape[1:], 1)
