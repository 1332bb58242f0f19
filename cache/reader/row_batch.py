"""The rows of a batch at once: an array for each thing that `Row` says, filled block by block.

    rows = cache.row_batch(samples, views)
    cache.gather('stage4', rows, 'values', out)      # (B, H, W, C), for every part of every target

Which block, view and map size a row lies in is worked out once and stays with the batch. Only what no array
can hold, effects and the keys of who is mixed in, costs Python for a row, and only for rows that have them.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from kdcache.cache.views.block_views import NOBODY, BlockViews
from kdcache.cache.views.view import Geometry, Op, Row, partner_key, unmixed


class RowGroup(NamedTuple):
    """The rows of a batch that lie in one block, under one view, with inputs of one size."""

    block: int
    view: int
    size: tuple[int, int]  # of the view's crop, height and width in pixels
    places: np.ndarray  # (n,) int64, in the block
    span: slice  # of the batch's `order`


class RowBatch(NamedTuple):
    """B rows; as `Row`, with arrays in place of numbers."""

    samples: np.ndarray  # (B,) int64; NOBODY in `partners` where nobody is mixed in
    views: np.ndarray  # (B,) int64, global view numbers
    geometry: np.ndarray  # (B, 7) int32, the fields of `Geometry`; 0 where there is nobody
    effects: Sequence[tuple[Op, ...]]  # per row, mixing included; the empty sequence where no row has any
    partners: "RowBatch | None"  # who is mixed in, in the same order; None where nobody is in any
    order: np.ndarray | None  # rows that somebody is in, group by group; None: all of them, in one group
    groups: tuple[RowGroup, ...]

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
    order, spans = grouped(blocks, views)
    sorted_places = places if order is None else places[order]
    geometry = np.empty((len(samples), len(Geometry._fields)), dtype=np.int32)
    valid, partners = np.ones(len(samples), dtype=bool), np.full(len(samples), NOBODY, dtype=np.int64)
    effects: list[tuple[Op, ...]] = []
    for block, view, span in _named(spans, order, blocks, views):
        columns, here = cache.block_views(block, view), sorted_places[span]
        # No place is beyond the columns; without 'clip' numpy goes through a buffer.
        columns.geometry.take(here, 0, geometry[span], "clip")
        columns.valid.take(here, 0, valid[span], "clip")
        if len(columns.partners):
            columns.partners.take(here, 0, partners[span], "clip")
        if columns.effects and valid[span].all():
            effects = effects or [()] * len(samples)
            effects[span] = [columns.row(place).effects for place in here.tolist()]
    if not valid.all():
        slot = int(np.flatnonzero(~valid)[0]) if order is None else int(order[~valid][0])
        cache.unmixed_row(int(blocks[slot]), int(places[slot]), int(views[slot]))  # raises
    if order is not None:
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        geometry, partners = geometry[back], partners[back]
        effects = [effects[place] for place in back.tolist()] if effects else []
    if len(samples) and not (geometry[:, 5:7] == geometry[0, 5:7]).all():
        order, spans = grouped(blocks, views, geometry[:, 5], geometry[:, 6])
        sorted_places = places if order is None else places[order]
    named = _named(spans, order, blocks, views, geometry[:, 5], geometry[:, 6])
    groups = tuple(RowGroup(b, v, (h, w), sorted_places[span], span) for b, v, h, w, span in named)
    whole = effects if any(effects) else ()
    return RowBatch(samples, views, geometry, whole, None, order, groups), partners


def _named(spans: Sequence[slice], order: np.ndarray | None, *keys: np.ndarray) -> Iterator[tuple[Any, ...]]:
    """The keys of every group as integers, and its span of the order."""
    firsts: Any = [span.start for span in spans]
    firsts = firsts if order is None else order[firsts]
    return zip(*(key[firsts].tolist() for key in keys), spans, strict=True)


def grouped(*keys: np.ndarray) -> tuple[np.ndarray | None, list[slice]]:
    """An order of (B,) rows in which those of the same keys follow one another, and where each such run lies
    in it. None for the order where all rows are one run."""
    num_rows = len(keys[0])
    order = np.lexsort(keys)
    starts = np.zeros(num_rows, dtype=bool)
    for key in keys:
        in_order = key[order]
        starts[1:] |= in_order[1:] != in_order[:-1]
    firsts = [0, *np.flatnonzero(starts).tolist(), num_rows] if num_rows else [0]
    spans = [slice(first, end) for first, end in zip(firsts, firsts[1:], strict=False)]
    return (None if len(spans) == 1 else order), spans


def _spread(mixed: RowBatch, slots: np.ndarray, num_rows: int) -> RowBatch:
    """Partners at the places of the rows that they are mixed into; their own mixing is not shown."""
    samples, views = np.full((2, num_rows), NOBODY, dtype=np.int64)
    samples[slots], views[slots] = mixed.samples, mixed.views
    geometry = np.zeros((num_rows, len(Geometry._fields)), dtype=np.int32)
    geometry[slots] = mixed.geometry
    effects: list[tuple[Op, ...]] = [()] * num_rows
    for slot, of_one in zip(slots.tolist(), mixed.effects, strict=False):
        effects[slot] = unmixed(of_one)
    order = slots if mixed.order is None else slots[mixed.order]
    whole = effects if any(effects) else ()
    return RowBatch(samples, views, geometry, whole, None, order, mixed.groups)
