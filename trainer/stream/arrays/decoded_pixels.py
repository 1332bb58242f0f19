"""Pixels of images that were decoded once: every image that a stream reads, in memory, from the start on.

The image pipeline decodes them, each at its own size; from then on a batch is a gather (`images.decoded`) and
its effects. The same pixels bit for bit, label maps too, as long as no view resizes.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from kdcache.cache.images.decoded import Decoded, Layout
from kdcache.cache.images.feed import Feed, ImageBatch, finished
from kdcache.cache.images.pipeline import ImagePipeline
from kdcache.cache.processes.progress import moved
from kdcache.cache.reader.cache import Cache
from kdcache.cache.reader.row_batch import RowBatch
from kdcache.cache.reader.rows import feed_with_truth, pixel_feed
from kdcache.cache.spec import FILL_RGB, IGNORE
from kdcache.cache.tasks.table import task_of
from kdcache.cache.views.block_views import NOBODY
from kdcache.cache.views.view import Geometry, Row, Window
from kdcache.trainer.stream.arrays.shared import shared_arrays

BATCH_PIXELS = 1 << 22  # that are decoded at a time, 12 MB; at least one image
MOST_ROWS = 256


class Group(NamedTuple):
    """Images of one size that are decoded together."""

    size: tuple[int, int]
    samples: list[int]


class DecodedPixels:
    """The images of a stream, and their label maps where the truth rides with the pixels."""

    def __init__(
        self, cache: Cache, layout: Layout, *, num_threads: int, device_id: int | None, world: int = 1
    ) -> None:
        """Decodes every image of the layout, one of the ranks of a machine for all of them. Raises BadSample
        for one that cannot be."""
        self._device = torch.device("cpu" if device_id is None else f"cuda:{device_id}")
        fills = [FILL_RGB, (IGNORE,)] if task_of(cache.task).truth.rides else [FILL_RGB]
        sizes = [layout.num_pixels * len(fill) for fill in fills]
        with shared_arrays(sizes, world) as (memory, mine):
            kinds = [Decoded(layout, *one, written=not mine) for one in zip(memory, fills, strict=True)]
            if mine:
                for group, decoded in _decoded(cache, layout, len(kinds) > 1, num_threads, device_id):
                    for kind, pixels in zip(kinds, decoded, strict=True):
                        for index, one in zip(group.samples, pixels, strict=True):
                            kind.put(index, one)
                    moved()
        self._images, self._maps = kinds[0], kinds[1] if len(kinds) > 1 else None

    def images(self, rows: RowBatch, windows: Sequence[Window] = ()) -> Tensor:
        """(B, H, W, 3) uint8, finished, on the stream's device."""
        del windows  # a window is a crop like any other
        own = self._crops(rows.samples, rows.geometry)
        if rows.partners is None:
            return finished(own, rows.effects)
        others = rows.partners
        mixed = others.samples != NOBODY
        samples = np.where(mixed, others.samples, rows.samples)
        geometry = np.where(mixed[:, None], others.geometry, rows.geometry)
        return finished(own, rows.effects, self._crops(samples, geometry), others.effects)

    def maps(self, rows: RowBatch, windows: Sequence[Window] = ()) -> Tensor | None:
        """(B, H, W) uint8 train ids on the stream's device; None where the truth is no map."""
        del windows
        if self._maps is None:
            return None
        return torch.from_numpy(self._maps.crops(rows.samples, rows.geometry)[..., 0]).to(self._device)

    def _crops(self, samples: np.ndarray, geometry: np.ndarray) -> Tensor:
        return torch.from_numpy(self._images.crops(samples, geometry)).to(self._device)


def _groups(layout: Layout) -> list[Group]:
    """The images of a layout by size, a batch of the decoder each."""
    by_size: dict[tuple[int, int], list[int]] = {}
    for index in np.flatnonzero(layout.offsets >= 0).tolist():
        height, width = layout.sizes[index].tolist()
        by_size.setdefault((height, width), []).append(index)
    groups = []
    for (height, width), samples in by_size.items():
        rows = max(1, min(MOST_ROWS, BATCH_PIXELS // (height * width)))
        groups += [Group((height, width), samples[i : i + rows]) for i in range(0, len(samples), rows)]
    return groups


def _decoded(
    cache: Cache, layout: Layout, with_maps: bool, num_threads: int, device_id: int | None
) -> Iterator[tuple[Group, list[np.ndarray]]]:
    """Each group with its images (R, H, W, 3), and its maps (R, H, W, 1)."""
    groups, truth = _groups(layout), task_of(cache.task).truth

    def feed(number: int) -> Feed | None:
        if number >= len(groups):
            return None
        height, width = groups[number].size
        whole = Geometry(height, width, 0, 0, 0, height, width)
        rows = [Row(index, 0, whole) for index in groups[number].samples]
        return feed_with_truth(cache, rows, truth) if with_maps else pixel_feed(cache, rows)

    pipeline = ImagePipeline(
        feed,
        batch_size=MOST_ROWS,
        with_maps=with_maps,
        num_threads=num_threads,
        device_id=device_id,
        name_of=lambda number, row: cache.key(groups[number].samples[row]),
    )
    try:
        for group, batch in zip(groups, pipeline.run(), strict=True):
            yield group, _arrays(batch)
    finally:
        pipeline.close()


def _arrays(batch: ImageBatch) -> list[np.ndarray]:
    images = batch.images_BHWC.cpu().numpy()
    return [images] if batch.maps_BHW is None else [images, batch.maps_BHW[..., None].cpu().numpy()]
