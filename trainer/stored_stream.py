"""Stored views: pixels re-made from the cache's samples, targets read from its shards, both by the same
numbers.

Per micro step: positions -> (sample, epoch) -> row of the cache and window -> encoded bytes, geometry and
target parts, all views of mapped files -> image pipeline (one source for everything) -> Batch with parts
still encoded.
`targets` decodes them on the device that trains.

The pipeline takes no strided arrays, so windows are copied into a ring of preallocated buffers, prefetch
+ 2 deep: by the time a buffer is written again its batch has left the pipeline. Whole rows are not copied
in Python at all. Before the first batch some stored pixels are re-made and compared with their digests
(`pixel_check`).
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from kdcache.cache.cache import Cache
from kdcache.cache.images import Feed, ImagePipeline
from kdcache.cache.spec import Need, PartSpec
from kdcache.trainer.batch_layout import Batch, BatchLayout
from kdcache.trainer.order import samples_at
from kdcache.trainer.pixel_check import check_pixels
from kdcache.trainer.stored_views import StoredRow, StoredViews, cells, choose_views

PREFETCH = 2  # batches the pipeline prepares ahead


class PartReader:
    """One part of one need: a row's array, whole or cut to the window, in memory that outlives the batch."""

    def __init__(
        self, need: str, part: str, spec: PartSpec, stride: int, batch_size: int, *, cut: bool
    ) -> None:
        self.need, self.part = need, part
        self._stride = stride
        self._ring: list[np.ndarray] = []
        if cut and spec.spatial:
            shape = (batch_size, *spec.shape)
            self._ring = [np.empty(shape, dtype=spec.dtype) for _ in range(PREFETCH + 2)]

    def read(self, row: StoredRow, whole: np.ndarray, micro_step: int, place: int) -> np.ndarray:
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
    ) -> None:
        self.layout = layout
        self._cache = cache
        self._needs = tuple(dict.fromkeys(need.name for need in needs))
        cache.require(self._needs)
        self._invalid = np.asarray(cache.invalid, dtype=np.int64)
        self.views: StoredViews = choose_views(
            cache, self._needs, family=views, crop=crop, seed=layout.seed, invalid=self._invalid
        )
        self._readers = [r for need in self._needs for r in self._part_readers(need)]
        self._num_threads, self._device_id = num_threads, device_id
        self._pipeline: ImagePipeline | None = None
        self._checked = False

    def _part_readers(self, need: str) -> list[PartReader]:
        tap = self._cache.tap(need)
        parts = self._cache.codec(need).parts(tap.spec(*self.views.crop))
        size, cut = self.layout.micro_batch, self.views.sets[0].kind != "crops"
        return [PartReader(need, name, spec, tap.stride, size, cut=cut) for name, spec in parts.items()]

    @property
    def num_samples(self) -> int:
        return self._cache.num_samples - len(self._invalid)

    def rows(self, micro_step: int) -> list[StoredRow]:
        """The rows of one micro batch; a pure function of its number."""
        placed = samples_at(
            self.layout.seed,
            self.layout.positions(micro_step),
            num_samples=self._cache.num_samples,
            shard_samples=self._cache.shard_samples,
            invalid=self._invalid,
        )
        pairs = zip(placed.samples.tolist(), placed.epochs.tolist(), strict=True)
        return [self.views.row(index, epoch) for index, epoch in pairs]

    def feed(self, micro_step: int) -> Feed:
        """Encoded bytes, geometry and target parts of one micro batch."""
        rows = self.rows(micro_step)
        passengers: list[list[np.ndarray]] = [[] for _ in self._readers]
        for place, row in enumerate(rows):
            stored = {need: self._cache.parts(need, row.sample, row.view) for need in self._needs}
            for column, reader in zip(passengers, self._readers, strict=True):
                column.append(reader.read(row, stored[reader.need][reader.part], micro_step, place))
        return Feed(
            encoded=[self._cache.image(row.sample) for row in rows],
            labels=[self._cache.label(row.sample) for row in rows],
            geometry=[row.geometry for row in rows],
            passengers=passengers,
        )

    def run(self, start_micro_step: int = 0) -> Iterator[Batch]:
        """Endless batches from `start_micro_step` on. A second run ends the first.

        Raises BadCache when the pixels of today are not those that the teacher saw.
        """
        self.close()
        if not self._checked:
            check_pixels(self._cache, num_threads=self._num_threads, device_id=self._device_id)
            self._checked = True
        self._pipeline = ImagePipeline(
            self.feed,
            batch_size=self.layout.micro_batch,
            with_labels=True,
            num_passengers=len(self._readers),
            num_threads=self._num_threads,
            prefetch=PREFETCH,
            device_id=self._device_id,
            name_of=lambda step, row: self._cache.key(self.rows(step)[row].sample),
        )
        for step, found in enumerate(self._pipeline.run(start_micro_step), start_micro_step):
            assert found.labels_BHW is not None
            parts: dict[str, dict[str, Tensor]] = {need: {} for need in self._needs}
            for reader, tensor in zip(self._readers, found.passengers, strict=True):
                parts[reader.need][reader.part] = tensor
            epoch = self.layout.positions(step).start // self.num_samples
            yield Batch(found.images_BHWC, found.labels_BHW, parts, step, epoch)

    @torch.no_grad()
    def targets(self, batch: Batch) -> dict[str, Tensor]:
        """Decoded on the device where the parts are; move the batch first to decode elsewhere."""
        return {need: self._cache.codec(need).decode(parts) for need, parts in batch.parts.items()}

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
            *(f"tap/{n}" for n in self._needs),
        }
        return {
            "views": "stored",
            "crop": list(self.views.crop),
            "samples": self.num_samples,
            "entries": {name: digest for name, digest in entries.items() if name in read},
        }


def stored_stream(
    cache: Cache,
    *,
    needs: Sequence[Need],
    layout: BatchLayout,
    num_threads: int = 1,
    device_id: int | None = None,
    views: str | None = None,
    crop: tuple[int, int] | None = None,
) -> StoredStream:
    """Stored views of `cache` with the targets that `needs` name; no needs: pixels and labels only.

    `views` is 'crops' or 'full' (default: the family of the cache's first view set), `crop` the size of
    the batch in pixels: of stored crops it selects, of full views it is the window's (default: the
    manifest's). Raises BadOption for a need, a view or a window the cache cannot give, BadCache when its
    pixels cannot be re-made.
    """
    return StoredStream(
        cache,
        needs=needs,
        layout=layout,
        num_threads=num_threads,
        device_id=device_id,
        views=views,
        crop=crop,
    )
