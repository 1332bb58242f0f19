"""Batches out of arrays: pixels, truths and targets of a batch are gathered at once, not row by row.

What a row shows comes from the columns of the cache, its truth too where they hold it. A window of a whole
image is the exception: it is drawn for each row anew, and only its cells are copied of a map.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from kdcache.cache.reader.cache import Cache
from kdcache.cache.reader.row_batch import RowBatch
from kdcache.cache.reader.rows import row_truth
from kdcache.cache.spec import PartSpec
from kdcache.cache.tasks.contract import Mixed
from kdcache.cache.tasks.table import task_of
from kdcache.cache.views.block_views import NOBODY
from kdcache.cache.views.view import Row, Window
from kdcache.trainer.stream.arrays.view_table import ViewTable
from kdcache.trainer.stream.batch import Batch
from kdcache.trainer.stream.order import Placed
from kdcache.trainer.stream.pixel_check import PassingPixels
from kdcache.trainer.stream.stored_views import StoredViews, cells

Columns = Mapping[str, np.ndarray]  # (B,) int64 each


class Pixels(Protocol):
    """Finished pixels of rows, without a decoder."""

    def images(self, rows: RowBatch, windows: Sequence[Window]) -> Tensor:
        """(B, H, W, 3) uint8 in memory of its own."""
        ...

    def maps(self, rows: RowBatch, windows: Sequence[Window]) -> Tensor | None:
        """(B, H, W) uint8 train ids; None where the truth is no map."""
        ...


class ArrayBatches:
    """Makes the batches of a stream whose pixels need no decoder."""

    def __init__(
        self,
        cache: Cache,
        views: StoredViews,
        pixels: Pixels,
        *,
        table: ViewTable | None,
        targets: Mapping[str, Mapping[str, PartSpec]],
        mixes: bool,
        passing: PassingPixels,
    ) -> None:
        """`table`: of all rows, where there is one. `targets`: the parts of each target that is read;
        `mixes`: some views show two samples."""
        self._cache, self._views, self._pixels = cache, views, pixels
        self._targets, self._mixes, self._passing, self._table = targets, mixes, passing, table
        self._truth = task_of(cache.task).truth
        self._columns = {name: _column(cache, name) for name in self._truth.columns}

    def batch(self, placed: Placed, micro_step: int, epoch: int) -> Batch:
        """What the rows of these samples in these epochs show, and the answers to it."""
        rows, windows = self._views.batch(placed.samples, placed.epochs, self._table)
        images_BHWC = self._pixels.images(rows, windows)
        if not windows:
            self._passing.compare_batch(rows, images_BHWC)
        truth, mixed = self._truths(rows, windows)
        device = images_BHWC.device
        parts = {
            name: {
                part: self._gathered(name, part, spec, rows, windows).to(device) for part, spec in of.items()
            }
            for name, of in self._targets.items()
        }
        return Batch(
            images_BHWC=images_BHWC,
            truth=truth.to(device),
            parts=parts,
            micro_step=micro_step,
            epoch=epoch,
            samples_B=torch.from_numpy(rows.samples.astype(np.int64)).to(device),
            mixed=None if mixed is None else Mixed(*(value.to(device) for value in mixed)),
            rows_per_sample=self._views.rows_per_sample,
        )

    def _gathered(
        self, target: str, part: str, spec: PartSpec, rows: RowBatch, windows: Sequence[Window]
    ) -> Tensor:
        """(B, *part shape): one part of a target, or the cells of it that the windows cover."""
        out = np.empty((len(rows.samples), *spec.shape), dtype=spec.dtype)
        if not windows:
            self._cache.gather(target, rows, part, out)
            return torch.from_numpy(out)
        stride = self._cache.tap(target).stride
        pairs = zip(rows.samples.tolist(), rows.views.tolist(), windows, strict=True)
        for place, (sample, view, window) in enumerate(pairs):
            whole = self._cache.parts(target, sample, view)[part]
            out[place] = whole[cells(window, stride)] if spec.spatial else whole
        return torch.from_numpy(out)

    # ---- truth ---------------------------------------------------------------------------------------------

    def _truths(self, rows: RowBatch, windows: Sequence[Window]) -> tuple[Tensor, Mixed | None]:
        known = self._truth.collate_columns(*self._columns_of(rows)) if self._columns else None
        if known is not None:
            return known
        maps = self._pixels.maps(rows, windows)
        if maps is not None:
            return self._truth.collate([], maps)
        each = [row_truth(self._cache, row, self._truth, mixes=self._mixes) for row in _each(rows)]
        return self._truth.collate(each, None)

    def _columns_of(self, rows: RowBatch) -> tuple[Columns, Columns | None, np.ndarray | None]:
        """What the columns hold of a batch: of its samples, and where the views mix of who is mixed in, and
        how much is their own."""
        own = {name: column[rows.samples] for name, column in self._columns.items()}
        if not self._mixes:
            return own, None, None
        others = rows.samples
        if rows.partners is not None:
            others = np.where(rows.partners.samples == NOBODY, others, rows.partners.samples)
        shares = np.array([row.own_share for row in _each(rows)])
        return own, {name: column[others] for name, column in self._columns.items()}, shares


def _each(rows: RowBatch) -> Iterator[Row]:
    """The rows one by one, for what can only be asked of one."""
    return map(rows.row, range(len(rows.samples)))


def _column(cache: Cache, name: str) -> np.ndarray:
    """(num_samples,) int64: one of the columns that the task's truth keeps, of retired samples too: others
    are mixed with them."""
    values = np.zeros(cache.num_samples, dtype=np.int64)
    for number in cache.generation.block_numbers:
        first, column = number * cache.shard_samples, cache.block(number).columns[name]
        values[first : first + len(column)] = column
    return values
