"""Pixels that the cache keeps finished (`build --keep pixels`): a batch is a gather, no decoder runs.

Crops are read whole; of a whole image the window is read, with fill where it leaves the image.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from kdcache.cache.codecs.pixels import PART
from kdcache.cache.reader.cache import Cache
from kdcache.cache.reader.row_batch import RowBatch
from kdcache.cache.record.manifest import LABELS, PIXELS
from kdcache.cache.spec import FILL_RGB, IGNORE
from kdcache.cache.tasks.table import task_of
from kdcache.cache.views.view import Window
from kdcache.trainer.stream.stored_views import StoredViews


class KeptPixels:
    """The finished rows of a cache."""

    def __init__(self, cache: Cache, crop: tuple[int, int], device_id: int | None) -> None:
        """`crop`: (height, width) of a batch in pixels."""
        self._cache, self._crop = cache, crop
        self._rides = task_of(cache.task).truth.rides
        self._device = torch.device("cpu" if device_id is None else f"cuda:{device_id}")

    def images(self, rows: RowBatch, windows: Sequence[Window]) -> Tensor:
        """(B, H, W, 3) uint8 on the stream's device."""
        return self._read(PIXELS, FILL_RGB, rows, windows)

    def maps(self, rows: RowBatch, windows: Sequence[Window]) -> Tensor | None:
        """(B, H, W) uint8 train ids on the stream's device; None where the truth is no map."""
        return self._read(LABELS, (IGNORE,), rows, windows)[..., 0] if self._rides else None

    def _read(self, target: str, fill: tuple[int, ...], rows: RowBatch, windows: Sequence[Window]) -> Tensor:
        out = np.empty((len(rows.samples), *self._crop, len(fill)), dtype=np.uint8)
        if not windows:
            self._cache.gather(target, rows, PART, out)
        pairs = zip(rows.samples.tolist(), rows.views.tolist(), windows, strict=False)
        for place, (sample, view, window) in enumerate(pairs):
            whole = self._cache.parts(target, sample, view)[PART]
            shown = whole[window.y : window.y + window.height, window.x : window.x + window.width]
            if shown.shape != out.shape[1:]:
                out[place] = fill
            out[place, : shown.shape[0], : shown.shape[1]] = shown
        return torch.from_numpy(out).to(self._device)


def keeps_pixels(cache: Cache, views: StoredViews) -> bool:
    """Whether every row of these views is kept, for every sample."""
    names = (PIXELS, LABELS) if task_of(cache.task).truth.rides else (PIXELS,)
    if not set(names) <= set(cache.manifest.kept_names):
        return False
    complete = cache.complete_views(names)
    return all(one in complete for one in views.sets)
