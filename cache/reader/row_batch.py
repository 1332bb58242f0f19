"""The rows of a batch at once: an array for each thing that `Row` says, filled block by block.

    rows = cache.row_batch(samples, views)
    cache.gather('stage4', rows, 'values', out)      # (B, H, W, C), for every part of every target

Which block, view and map size a row lies in is worked out once and stays with the batch. Only what no array
can hold, effects and the keys of who is mixed in, costs Python for a row, and only for rows that have them.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from kdcache.cache.stores.even_rows import Slots
from kdcache.cache.views.block_views import NOBODY, BlockViews
from kdcache.cache.views.view import Geometry, Op, Row, partner_key, unmixed


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
    groups: tuple[RowGroup, ...]  # of all rows that somebody is in

    def row(self, place: int) -> Row:
        """One row as an object."""
        partners = self.partners
        partner = None if partners is None or partners.samples[place] == NOBODY else partners.row(place)
        effects = self.effects[place] if self.effects else ()
        geometry = Geometry(*self.geometry[place].tolist())
        return Row(int(self.samples[place]), int(self.views[place]), geometry, effects, partner)


class RowSource(Protocol):
    """What a batch is read from: a cache."""

    def places(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The block of every sample and its row there, (B,) each. Raises IndexError."""
        ...

    def block_views(self, block: int, view: int) -> BlockViews: ...

    def unmixed_row(self, block: int, place: int, view: int) -> Row:
        """The row of one sample, nobody mixed in. Raises BadCache for one that holds no targets."""
        ...

    def partner_place(self, row: Row, partner: int | None) -> tuple[int, int]:
        """Block and row of who is mixed in. Raises BadCache where effects and column name two."""
        ...


def read_rows(cache: RowSource, samples: np.ndarray, views: np.ndarray) -> RowBatch:
    """The rows (samples[i], views[i]), with who is mixed in. Raises as `Cache.row` for each of them."""
    rows, partners = _alone(cache, samples, views)
    named = [partner_key(effects) is not None for effects in rows.effects]
    asked = (partners != NOBODY) | np.array(named or [False], dtype=bool)
    if not asked.any():
        return rows
    slots = np.flatnonzero(asked)
    for slot in slots.tolist():
        partner = int(partners[slot])
        cache.partner_place(rows.row(slot), None if partner == NOBODY else partner)
    mixed, _ = _alone(cache, partners[slots], rows.views[slots])
    return rows._replace(partners=_spread(mixed, slots, len(samples)))


def _alone(cache: RowSource, samples: np.ndarray, views: np.ndarray) -> tuple[RowBatch, np.ndarray]:
    """Rows with nobody mixed in, and the indices of who will be, (B,), NOBODY where no one."""
    blocks, places = cache.places(samples)
    geometry = np.empty((len(samples), len(Geometry._fields)), dtype=np.int32)
    partners = np.full(len(samples), NOBODY, dtype=np.int64)
    effects: list[tuple[Op, ...]] = []
    groups: list[RowGroup] = []
    for slots in runs(blocks, views):
        block, view = int(blocks[slots][0]), int(views[slots][0])
        columns, here = cache.block_views(block, view), places[slots]
        for place in here[~columns.valid[here]].tolist():
            cache.unmixed_row(block, place, view)  # raises
        geometry[slots] = columns.geometry[here]
        if len(columns.partners):
            partners[slots] = columns.partners[here]
        if columns.effects:
            effects = effects or [()] * len(samples)
            for slot, place in zip(np.arange(len(samples))[slots].tolist(), here.tolist(), strict=True):
                effects[slot] = columns.row(place).effects
        groups += _of_one_size(RowGroup(block, view, (0, 0), here, slots), geometry[slots, 5:7])
    whole = effects if any(effects) else ()
    return RowBatch(samples, views, geometry, whole, None, tuple(groups)), partners


def runs(*keys: np.ndarray) -> Iterator[Slots]:
    """The places of a batch at which all keys, (B,) each, are one: the whole batch, or indices in their
    order."""
    if not len(keys[0]):
        return
    if all(bool((key == key[0]).all()) for key in keys):
        yield slice(0, len(keys[0]))
        return
    order = np.lexsort(keys)
    starts = np.zeros(len(order), dtype=bool)
    for key in keys:
        in_order = key[order]
        starts[1:] |= in_order[1:] != in_order[:-1]
    yield from np.split(order, np.flatnonzero(starts))


def _of_one_size(group: RowGroup, sizes: np.ndarray) -> Iterator[RowGroup]:
    """The group cut where `sizes`, (n, 2), differ."""
    index = np.arange(group.slots.stop) if isinstance(group.slots, slice) else group.slots
    for slots in runs(sizes[:, 0], sizes[:, 1]):
        if isinstance(slots, slice):
            yield group._replace(size=(int(sizes[0, 0]), int(sizes[0, 1])))
        else:
            height, width = sizes[slots[0]].tolist()
            yield group._replace(size=(height, width), places=group.places[slots], slots=index[slots])


def _spread(mixed: RowBatch, slots: np.ndarray, num_rows: int) -> RowBatch:
    """Partners at the places of the rows that they are mixed into; their own mixing is not shown."""
    samples, views = np.full((2, num_rows), NOBODY, dtype=np.int64)
    samples[slots], views[slots] = mixed.samples, mixed.views
    geometry = np.zeros((num_rows, len(Geometry._fields)), dtype=np.int32)
    geometry[slots] = mixed.geometry
    effects: list[tuple[Op, ...]] = [()] * num_rows
    for slot, of_one in zip(slots.tolist(), mixed.effects, strict=False):
        effects[slot] = unmixed(of_one)
    moved = (group._replace(slots=slots[group.slots]) for group in mixed.groups)
    return RowBatch(samples, views, geometry, effects if any(effects) else (), None, tuple(moved))
