"""Stored views: pixels re-made from the cache's samples, targets read from its shards, both by the same
numbers.

Per micro step: positions -> (sample, epoch) -> `Row`s of the cache -> `Feed`: encoded bytes and target parts,
all views of mapped files, beside rows and truths -> image pipeline -> `Batch` with parts still encoded.
`targets` decodes them on the device that trains.

The pipeline takes no strided arrays, so windows are copied into a ring of preallocated buffers, prefetch
+ 2 deep: by the time a buffer is written again its batch has left the pipeline. Whole rows are not copied
in Python at all. Pixels are compared with the digests of what the teacher saw (`pixel_check`).
"""

from collections.abc import Iterator, Sequence
from itertools import count

import numpy as np
import torch
from torch import Tensor

from kdcache.cache.images.feed import Feed
from kdcache.cache.images.pipeline import ImagePipeline
from kdcache.cache.reader.cache import Cache
from kdcache.cache.reader.rows import feed_with_truth
from kdcache.cache.spec import Need, PartSpec
from kdcache.cache.tasks.table import task_of
from kdcache.cache.views.view import Row
from kdcache.trainer.stream.arrays.batches import ArrayBatches, Pixels
from kdcache.trainer.stream.arrays.decoded_pixels import DecodedPixels
from kdcache.trainer.stream.arrays.kept_pixels import KeptPixels
from kdcache.trainer.stream.arrays.levels import Rule, choose_level
from kdcache.trainer.stream.arrays.shared import shared_arrays
from kdcache.trainer.stream.batch import Batch, BatchLayout, batch_of
from kdcache.trainer.stream.mean_targets import check_alike, mean_of, sources_of
from kdcache.trainer.stream.options import DALI
from kdcache.trainer.stream.order import Placed, samples_at
from kdcache.trainer.stream.pixel_check import PassingPixels, check_pixels
from kdcache.trainer.stream.stored_views import StoredViews, cells, choose_views

DECODED_EVERY_EPOCH = Rule(DALI)
PREFETCH = 2  # batches the pipeline prepares ahead


class PartReader:
    """One part of one target: a row's array, whole or cut to the window, in memory that outlasts a batch."""

    def __init__(
        self, target: str, part: str, spec: PartSpec, stride: int, batch_size: int, *, cut: bool
    ) -> None:
        self.target, self.part = target, part
        self._stride = stride
        self._ring: list[np.ndarray] = []
        if cut and spec.spatial:
            shape = (batch_size, *spec.shape)
            self._ring = [np.empty(shape, dtype=spec.dtype) for _ in range(PREFETCH + 2)]

    def read(self, row: Row, whole: np.ndarray, micro_step: int, place: int) -> np.ndarray:
        """`whole` as stored, or the window's cells of it in slot `place` of this step's buffer."""
        if not self._ring or row.window is None:
            return whole
        slot: np.ndarray = self._ring[micro_step % len(self._ring)][place]
        rows, columns = cells(row.window, self._stride)
        np.copyto(slot, whole[rows, columns])
        return slot


class StoredStream:
    """A cache's stored views with its targets. See `Stream`."""

    def __init__(
        self,
        cache: Cache,
        *,
        needs: Sequence[Need],
        layout: BatchLayout,
        num_threads: int = 1,
        device_id: int | None = None,
        views: str | None = None,
        crop: tuple[int, int] | None = None,
        keep_empty: bool = False,
        rule: Rule = DECODED_EVERY_EPOCH,
    ) -> None:
        """`needs` name the targets; none: pixels and truth only. `views` is 'crops', 'full', 'fit' or
        'turns', by default the family of the cache's first view set; `crop` the size of the batch in pixels:
        of stored crops it selects, of full views it is the window's (default: the manifest's). `keep_empty`:
        also samples from which nothing can be learnt. `rule`: where the pixels come from.

        Raises BadOption for a need, a view or a window the cache cannot give.
        """
        self.layout = layout
        self._cache = cache
        self._sources = sources_of(cache.manifest.tap_names, [need.name for need in needs])
        self._stored = tuple(dict.fromkeys(name for names in self._sources.values() for name in names))
        cache.require(self._stored)
        check_alike(self._sources, lambda n: cache.tap(n).spec(*cache.manifest.crop), cache.manifest.name)
        self._invalid = np.asarray(cache.without(keep_empty), dtype=np.int64)
        self.views: StoredViews = choose_views(
            cache, self._stored, family=views, crop=crop, seed=layout.seed, invalid=self._invalid
        )
        self._truth = task_of(cache.task).truth
        self._mixes = any(one.recipe.mixes for one in self.views.sets)
        self._readers = [r for target in self._stored for r in self._part_readers(target)]
        self._num_threads, self._device_id = num_threads, device_id
        self._pipeline: ImagePipeline | None = None
        self._checked = False
        self._passing = PassingPixels(cache)
        self._level = choose_level(cache, self.views, self._invalid, rule)
        self._rule = rule
        self._arrays: ArrayBatches | None = None

    def _parts_of(self, target: str) -> dict[str, PartSpec]:
        """The parts of a target for one row of a batch."""
        return self._cache.codec(target).parts(self._cache.tap(target).spec(*self.views.crop))

    def _part_readers(self, target: str) -> list[PartReader]:
        tap, parts = self._cache.tap(target), self._parts_of(target)
        cut = self.views.sets[0].crop is None
        return [
            PartReader(target, name, spec, tap.stride, self._batch_rows, cut=cut)
            for name, spec in parts.items()
        ]

    @property
    def _batch_rows(self) -> int:
        return self.layout.micro_batch * self.views.rows_per_sample

    @property
    def num_samples(self) -> int:
        return self._cache.num_samples - len(self._invalid)

    @property
    def pixels(self) -> str:
        """Where the pixels come from and why, for the header of a run."""
        return self._level.said

    def _placed(self, micro_step: int) -> Placed:
        return samples_at(
            self.layout.seed,
            self.layout.positions(micro_step),
            num_samples=self._cache.num_samples,
            shard_samples=self._cache.shard_samples,
            invalid=self._invalid,
        )

    def rows(self, micro_step: int) -> list[Row]:
        """The rows of one micro batch; a pure function of its number."""
        placed = self._placed(micro_step)
        pairs = zip(placed.samples.tolist(), placed.epochs.tolist(), strict=True)
        quarters = range(self.views.rows_per_sample)
        return [self.views.row(index, epoch, quarter) for index, epoch in pairs for quarter in quarters]

    def feed(self, micro_step: int) -> Feed:
        """Encoded bytes, views, truths and target parts of one micro batch."""
        rows = self.rows(micro_step)
        passengers: list[list[np.ndarray]] = [[] for _ in self._readers]
        for place, row in enumerate(rows):
            stored = {name: self._cache.parts(name, row.sample, row.view) for name in self._stored}
            for column, reader in zip(passengers, self._readers, strict=True):
                column.append(reader.read(row, stored[reader.target][reader.part], micro_step, place))
        return feed_with_truth(self._cache, rows, self._truth, mixes=self._mixes, passengers=passengers)

    def run(self, start_micro_step: int = 0) -> Iterator[Batch]:
        """Endless batches from `start_micro_step` on. A second run ends the first.

        Raises BadCache when the pixels of today are not those that the teacher saw.
        """
        self.close()
        if not self._checked:
            check_pixels(self._cache, num_threads=self._num_threads, device_id=self._device_id)
            # Now, and not when the first batch is asked for: ranks share what they decode.
            self._arrays = self._gathering()
            self._checked = True
        if self._arrays is None:
            return self._through_pipeline(start_micro_step)
        return self._from(self._arrays, start_micro_step)

    def _gathering(self) -> ArrayBatches | None:
        """What gathers batches of pixels that are there already; None: the image pipeline makes them."""
        pixels: Pixels | None = None
        if self._level.decoded is not None:
            pixels = DecodedPixels(
                self._cache,
                self._level.decoded,
                num_threads=self._num_threads,
                device_id=self._device_id,
                world=self.layout.world,
            )
        elif self._rule.stream != DALI:
            with shared_arrays((), self.layout.world):
                pass  # another rank may have more room
        if self._level.kept:
            pixels = KeptPixels(self._cache, self.views.crop, self._device_id)
        if pixels is None:
            return None
        return ArrayBatches(
            self._cache,
            self.views,
            pixels,
            table=self._level.table,
            targets={name: self._parts_of(name) for name in self._stored},
            mixes=self._mixes,
            passing=self._passing,
        )

    def _from(self, arrays: ArrayBatches, start: int) -> Iterator[Batch]:
        for step in count(start):
            yield arrays.batch(
                self._placed(step), step, self.layout.positions(step).start // self.num_samples
            )

    def _through_pipeline(self, start_micro_step: int) -> Iterator[Batch]:
        self._pipeline = ImagePipeline(
            self.feed,
            batch_size=self._batch_rows,
            with_maps=self._truth.rides,
            num_passengers=len(self._readers),
            mixes=self._mixes,
            num_threads=self._num_threads,
            prefetch=PREFETCH,
            device_id=self._device_id,
            name_of=lambda step, row: self._cache.key(self.rows(step)[row].sample),
        )
        for step, decoded in enumerate(self._pipeline.run(start_micro_step), start_micro_step):
            self._passing.compare(decoded.feed.rows, decoded.images_BHWC)
            parts: dict[str, dict[str, Tensor]] = {name: {} for name in self._stored}
            for reader, tensor in zip(self._readers, decoded.passengers, strict=True):
                parts[reader.target][reader.part] = tensor
            yield batch_of(
                decoded,
                self._truth,
                micro_step=step,
                epoch=self.layout.positions(step).start // self.num_samples,
                rows_per_sample=self.views.rows_per_sample,
                parts=parts,
            )

    @torch.no_grad()
    def targets(self, batch: Batch) -> dict[str, Tensor]:
        """Decoded on the device where the parts are; move the batch first to decode elsewhere."""
        values = {name: self._cache.codec(name).decode(parts) for name, parts in batch.parts.items()}
        return mean_of(values, self._sources)

    def key(self, sample: int) -> str:
        return self._cache.key(sample)

    def close(self) -> None:
        if self._pipeline is not None:
            self._pipeline.close()
            self._pipeline = None

    def describe(self) -> dict[str, object]:
        """The digests of what was read: the cache, the view sets, the taps."""
        entries = self._cache.entry_digests()
        read = {
            "cache",
            "samples",
            *(f"views/{s.first}" for s in self.views.sets),
            *(f"tap/{n}" for n in self._stored),
        }
        return {
            "views": "stored",
            "crop": list(self.views.crop),
            "samples": self.num_samples,
            "generation": self._cache.generation.number,
            "entries": {name: digest for name, digest in entries.items() if name in read},
        }
