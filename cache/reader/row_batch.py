"""The rows of a batch as arrays: one for each thing that `Row` says.

    rows = cache.row_batch(samples, views)
    cache.gather('stage4', rows, 'values', out)      # (B, H, W, C), for every part of every target

Only what no array can hold, effects and the keys of who is mixed in, costs Python for a row, and only for
rows that have them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kdcache.cache.stores.even_rows import Slots
from kdcache.cache.views.block_views import NOBODY
from kdcache.cache.views.view import Geometry, Op, Row, unmixed


class RowGroup(NamedTuple):
    """The rows of a batch that lie in one block, under one view, with inputs of one size."""

    block: int
    view: int
    size: tuple[int, int]  # of the view's crop, height and width in pixels
    places: np.ndarray  # (n,) int64, in the block
    slots: Slots  # in the batch, as many


class RowBatch(NamedTuple):
    """B rows; as `Row`, with arrays in place of numbers."""

    samples: np.ndarray  # (B,) int64; NOBODY in `partners` where nobody is mixed in
    views: np.ndarray  # (B,) int64, global view numbers
    geometry: np.ndarray  # (B, 7) int32, the fields of `Geometry`; 0 where there is nobody
    effects: Sequence[tuple[Op, ...]]  # per row, mixing included; the empty sequence where no row has any
    partners: "RowBatch | None"  # who is mixed in, in the same order; None where nobody is in any
    groups: tuple[RowGroup, ...] = ()  # where the rows lie; empty: `Cache.gather` works it out

    def row(self, place: int) -> Row:
        """One row as an object."""
        partners = self.partners
        partner = None if partners is None or partners.samples[place] == NOBODY else partners.row(place)
        effects = self.effects[place] if self.effects else ()
        geometry = Geometry(*self.geometry[place].tolist())
        return Row(int(self.samples[place]), int(self.views[place]), geometry, effects, partner)


def spread(mixed: RowBatch, slots: np.ndarray, num_rows: int) -> RowBatch:
    """Partners at the places of the rows that they are mixed into; their own mixing is not shown."""
    samples, views = np.full((2, num_rows), NOBODY, dtype=np.int64)
    samples[slots], views[slots] = mixed.samples, mixed.views
    geometry = np.zeros((num_rows, len(Geometry._fields)), dtype=np.int32)
    geometry[slots] = mixed.geometry
    effects: list[tuple[Op, ...]] = [()] * num_rows
    for slot, of_one in zip(slots.tolist(), mixed.effects, strict=False):
        effects[slot] = unmixed(of_one)
    return RowBatch(samples, views, geometry, effects if any(effects) else (), None)


def groups_of(rows: RowBatch, shard_samples: int) -> tuple[RowGroup, ...]:
    """Where the rows of a batch lie; those of nobody are left out."""
    blocks, places = np.divmod(rows.samples, shard_samples)
    height, width = rows.geometry[:, 5], rows.geometry[:, 6]
    groups = []
    for slots in grouped(blocks, rows.views, height, width):
        first = slots.start if isinstance(slots, slice) else slots[0]
        if rows.samples[first] != NOBODY:
            size = int(height[first]), int(width[first])
            groups.append(RowGroup(int(blocks[first]), int(rows.views[first]), size, places[slots], slots))
    return tuple(groups)


def grouped(*keys: np.ndarray) -> list[Slots]:
    """The places of (B,) rows at which all keys are one: all of them, or indices in their order."""
    if not len(keys[0]):
        return []
    differing = [key for key in keys if not (key == key[0]).all()]
    if not differing:
        return [slice(0, len(keys[0]))]
    order = np.lexsort(differing)
    starts = np.zeros(len(order), dtype=bool)
    for key in differing:
        in_order = key[order]
        starts[1:] |= in_order[1:] != in_order[:-1]
    firsts = [0, *np.flatnonzero(starts).tolist(), len(order)]
    return [order[first:end] for first, end in zip(firsts, firsts[1:], strict=False)]
