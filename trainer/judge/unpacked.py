"""Images that their source holds unpacked: rows of an array are judged as they lie, nothing encodes them.

The pixels that the image pipeline would make of their PNGs, bit for bit, because it changes nothing of an
image that is shown whole: the tests compare them.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from kdcache.cache.images.feed import Feed, ImageBatch
from kdcache.cache.reader.rows import row_truth
from kdcache.cache.tasks.contract import Truth
from kdcache.cache.views.view import Row
from kdcache.trainer.stream.batch import SampleSource
from kdcache.trainer.stream.source_samples import SourceSamples


@runtime_checkable
class Unpacked(Protocol):
    """A source whose images need no decoder."""

    def unpacked_image(self, index: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB, the pixels of `image_bytes`."""
        ...


def shown_unpacked(samples: SampleSource, rows: Iterable[Row]) -> bool:
    """Whether all of these rows show whole images of such a source."""
    source = samples.source if isinstance(samples, SourceSamples) else None
    return isinstance(source, Unpacked) and all(_whole(row, source.size(row.sample)) for row in rows)


def unpacked_batch(
    samples: SampleSource, rows: Sequence[Row], truth: Truth | None, device: torch.device
) -> ImageBatch:
    """What the image pipeline would give for these rows; with `truth` None nothing is known of them."""
    assert isinstance(samples, SourceSamples) and isinstance(samples.source, Unpacked)
    images = np.stack([samples.source.unpacked_image(row.sample) for row in rows])
    truths = [] if truth is None else [row_truth(samples, row, truth, mixes=False) for row in rows]
    return ImageBatch(torch.from_numpy(images).to(device), None, [], Feed(rows, [], truths=truths))


def _whole(row: Row, size: tuple[int, int]) -> bool:
    """Whether a row shows its image of (height, width) pixels as it is."""
    g = row.geometry
    unmoved = (g.crop_y, g.crop_x) == (0, 0) and not g.flip
    shown = (g.resize_h, g.resize_w) == (g.crop_h, g.crop_w) == size
    return unmoved and shown and not row.effects and row.partner is None
