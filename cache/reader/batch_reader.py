"""Many rows of a cache at once: their views, and their targets into one array.

What is small is resident (`resident`) and taken with one index. The rest is grouped by block and view: a
group's columns, or its shard, are resolved once and gathered at once.
"""

from functools import partial
from typing import Protocol

import numpy as np

from kdcache.cache.reader.resident import Columns, Resident
from kdcache.cache.reader.row_batch import RowBatch, RowGroup, grouped, groups_of, spread
from kdcache.cache.record.manifest import Manifest
from kdcache.cache.stores.contract import BlockRows
from kdcache.cache.views.block_views import NOBODY, BlockViews
from kdcache.cache.views.view import Geometry, Op, Row, partner_key

_VALID, _GEOMETRY, _PARTNERS, _EFFECTS, _VALUES = "valid", "geometry", "partners", "effects", "values"
_VIEW_COLUMNS = {
    _VALID: ((), "bool"),
    _GEOMETRY: ((len(Geometry._fields),), "int32"),
    _PARTNERS: ((), "int64"),
    _EFFECTS: ((), "bool"),  # whether there are any
}


class RowSource(Protocol):
    """What batches are read from: a cache."""

    manifest: Manifest

    @property
    def num_samples(self) -> int: ...

    def places(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The block of every sample and its row there, (B,) each. Raises IndexError."""
        ...

    def block_views(self, block: int, view: int) -> BlockViews: ...

    def block_rows(self, target: str, block: int, view: int, size: tuple[int, int]) -> BlockRows:
        """The rows of a target under a view of which inputs have this size."""
        ...

    def valid_rows(self, target: str, block: int, view: int) -> np.ndarray:
        """(rows,) bool: which rows of a block the target has under a view."""
        ...

    def unmixed_row(self, block: int, place: int, view: int) -> Row:
        """The row of one sample, nobody mixed in. Raises BadCache for one that holds no targets."""
        ...

    def partner_place(self, row: Row, partner: int | None) -> tuple[int, int]:
        """Block and row of who is mixed in. Raises BadCache where effects and column name two."""
        ...


class BatchReader:
    """Reads rows of a cache by the batch; gives and refuses what `Cache.row` and `Cache.parts` do."""

    def __init__(self, cache: RowSource) -> None:
        self._cache = cache
        self._rows = cache.manifest.num_views * cache.num_samples
        self._views = self._resident(_VIEW_COLUMNS)
        self._vectors: dict[tuple[str, str], Resident | None] = {}
        # Parts of one batch are asked for one after another.
        self._last: tuple[RowBatch, tuple[RowGroup, ...]] | None = None

    def rows(self, samples: np.ndarray, views: np.ndarray) -> RowBatch:
        """The rows (samples[i], views[i]), with who is mixed in."""
        rows, partners = self._unmixed(samples, views)
        named = [partner_key(effects) is not None for effects in rows.effects]
        asked = (partners != NOBODY) | np.array(named or [False], dtype=bool)
        if not asked.any():
            return rows
        slots = np.flatnonzero(asked)
        for slot in slots.tolist():
            partner = int(partners[slot])
            self._cache.partner_place(rows.row(slot), None if partner == NOBODY else partner)
        mixed, _ = self._unmixed(partners[slots], rows.views[slots])
        return rows._replace(partners=spread(mixed, slots, len(samples)))

    def gather(self, target: str, rows: RowBatch, part: str, out: np.ndarray) -> None:
        """One part of the target of every row into `out` (B, *part.shape)."""
        if not self._take_vectors(target, rows, part, out):
            for group in self._groups(rows):
                stored = self._cache.block_rows(target, group.block, group.view, group.size)
                stored.gather(group.places, part, out, group.slots)

    # ---- views ---------------------------------------------------------------------------------------------

    def _unmixed(self, samples: np.ndarray, views: np.ndarray) -> tuple[RowBatch, np.ndarray]:
        """Rows with nobody mixed in, and the indices of who will be, (B,), NOBODY where no one."""
        blocks, places = self._cache.places(samples)
        columns = self._columns(samples, views, blocks, places)
        for slot in np.flatnonzero(~columns[_VALID]).tolist():
            self._cache.unmixed_row(int(blocks[slot]), int(places[slot]), int(views[slot]))  # raises
        effects: list[tuple[Op, ...]] = []
        if columns[_EFFECTS].any():
            each = zip(blocks.tolist(), places.tolist(), views.tolist(), strict=True)
            effects = [self._cache.unmixed_row(*one).effects for one in each]
        rows = RowBatch(samples, views, columns[_GEOMETRY], effects if any(effects) else (), None)
        return rows, columns[_PARTNERS]

    def _columns(
        self, samples: np.ndarray, views: np.ndarray, blocks: np.ndarray, places: np.ndarray
    ) -> Columns:
        """`_VIEW_COLUMNS` of the rows of a batch. Raises as `Cache.block_views`."""
        index = self._views.index(samples, views, self._block_columns) if self._views else None
        if self._views and index is not None:
            return {name: array[index] for name, array in self._views.arrays.items()}
        batch = {n: np.empty((len(samples), *s), d) for n, (s, d) in _VIEW_COLUMNS.items()}
        for slots in grouped(blocks, views):
            first = slots.start if isinstance(slots, slice) else slots[0]
            for name, column in self._block_columns(int(blocks[first]), int(views[first])).items():
                batch[name][slots] = column[places[slots]]
        return batch

    def _block_columns(self, block: int, view: int) -> Columns:
        views = self._cache.block_views(block, view)
        partners = views.partners if len(views.partners) else np.broadcast_to(NOBODY, views.valid.shape)
        effects = np.broadcast_to(bool(len(views.effects)), views.valid.shape)
        return {_VALID: views.valid, _GEOMETRY: views.geometry, _PARTNERS: partners, _EFFECTS: effects}

    # ---- targets -------------------------------------------------------------------------------------------

    def _groups(self, rows: RowBatch) -> tuple[RowGroup, ...]:
        if rows.groups:
            return rows.groups
        last = self._last
        if last is None or last[0] is not rows:
            last = self._last = rows, groups_of(rows, self._cache.manifest.shard_samples)
        return last[1]

    def _take_vectors(self, target: str, rows: RowBatch, part: str, out: np.ndarray) -> bool:
        """Fill `out` from memory, where that is how this part is read, and every row is there."""
        if self._cache.manifest.tap(target).stride:
            return False
        if (target, part) not in self._vectors:
            kind = {_VALUES: (out.shape[1:], out.dtype.name), _VALID: ((), "bool")}
            self._vectors[target, part] = self._resident(kind)
        vectors = self._vectors[target, part]
        if vectors is None or (rows.samples == NOBODY).any():
            return False
        read = partial(self._block_vectors, target, part, out)
        index = vectors.index(rows.samples, rows.views, read)
        if index is None or not vectors.arrays[_VALID][index].all():
            return False
        vectors.arrays[_VALUES].take(index, 0, out, "clip")
        return True

    def _block_vectors(self, target: str, part: str, out: np.ndarray, block: int, view: int) -> Columns:
        """Every row of a block that the target has; `out` says of which shape and type."""
        valid = self._cache.valid_rows(target, block, view)
        places, values = np.flatnonzero(valid), np.zeros((len(valid), *out.shape[1:]), out.dtype)
        self._cache.block_rows(target, block, view, (0, 0)).gather(places, part, values, places)
        return {_VALID: valid, _VALUES: values}

    def _resident(self, columns: dict[str, tuple[tuple[int, ...], str]]) -> Resident | None:
        if not Resident.fits(self._rows, columns):
            return None
        manifest = self._cache.manifest
        return Resident(manifest.num_views, self._cache.num_samples, manifest.shard_samples, columns)
