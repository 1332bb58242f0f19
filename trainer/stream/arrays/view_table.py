"""What the crops of a stream show, of all its samples under all its views, in one array.

A batch takes its rows from it at once, whatever blocks they lie in: asking block after block costs more than
cropping the pixels. For views without effects, whose rows say nothing that no number holds.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kdcache.cache.reader.cache import Cache
from kdcache.cache.reader.row_batch import RowBatch, RowGroup
from kdcache.cache.views.block_views import NOBODY
from kdcache.cache.views.view import Geometry


class ViewTable(NamedTuple):
    """V views of N indices, of which only those that live count."""

    numbers: np.ndarray  # (V,) int64 global view numbers
    geometry: np.ndarray  # (V, N, 7) int32, the fields of `Geometry`; 0 where a row holds no targets
    mixed: np.ndarray  # (N,) bool: samples that are mixed into others
    whole: bool  # whether the numbers say everything: no row has effects, every living sample has every row

    def batch(self, samples: np.ndarray, columns: np.ndarray, shard_samples: int) -> RowBatch:
        """The rows of (B,) samples under the views in (B,) columns of the table, as `Cache.row_batch` gives
        them."""
        assert self.whole, "rows with effects are asked of the cache"
        geometry = self.geometry[columns, samples]
        blocks, places = np.divmod(samples, shard_samples)
        codes = blocks * len(self.numbers) + columns
        order = np.argsort(codes, kind="stable")
        in_order, there = codes[order], places[order]
        starts = [0, *(np.flatnonzero(in_order[1:] != in_order[:-1]) + 1).tolist()]
        size = int(geometry[0, 5]), int(geometry[0, 6])
        groups = []
        for start, end in zip(starts, [*starts[1:], len(order)], strict=True):
            block, column = divmod(int(in_order[start]), len(self.numbers))
            view = int(self.numbers[column])
            groups.append(RowGroup(block, view, size, there[start:end], order[start:end]))
        return RowBatch(samples, self.numbers[columns], geometry, (), None, tuple(groups))


def read_table(cache: Cache, numbers: Sequence[int], living: np.ndarray) -> ViewTable:
    """The table of these views; `living` (N,) bool. Raises BadCache for damage."""
    count = cache.num_samples
    geometry = np.zeros((len(numbers), count, len(Geometry._fields)), dtype=np.int32)
    valid = np.zeros((len(numbers), count), dtype=bool)
    mixed, effects = np.zeros(count, dtype=bool), False
    for column, number in enumerate(numbers):
        for block in cache.generation.block_numbers:
            stored = cache.block_views(block, number)
            rows = slice(stored.first, stored.first + len(stored.valid))
            geometry[column, rows], valid[column, rows] = stored.geometry, stored.valid
            effects = effects or bool(len(stored.effects))
            partners = stored.partners
            mixed[partners[partners != NOBODY]] = True
    return ViewTable(np.array(numbers), geometry, mixed, not effects and bool(valid[:, living].all()))
