"""The views of one block under one number, as columns: what is known of a row without a Python object for
it."""

import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kdcache.cache.views.view import Geometry, Op, Row, View, bad_operation

NOBODY = -1  # partner of a row that is not mixed
MAX_RESIZED = 1 << 24  # pixels a side of the image of which a crop shows a part


class BlockViews(NamedTuple):
    """36 bytes a row, 8 more where views mix, and as much text as there are effects."""

    first: int  # index of the block's first sample
    number: int  # of the view
    valid: np.ndarray  # (rows,) bool: rows that hold targets
    geometry: np.ndarray  # (rows, 7) int32, the fields of `Geometry`; 0 where a row is not valid
    pixels: np.ndarray  # (rows,) uint64, `pixel_digests` of the teacher's input; 0 where not valid
    partners: np.ndarray  # (rows,) int64 index of the sample that is mixed in, NOBODY; or empty
    effects: Sequence[str]  # per row its effects as JSON, "" for none; or empty

    def geometry_of(self, place: int) -> Geometry:
        """What `row` says of pixels alone: a read of targets asks this once per tap."""
        return Geometry(*self.geometry[place].tolist())

    def partner(self, place: int) -> int | None:
        """Index of the sample that is mixed into this one."""
        partner = int(self.partners[place]) if len(self.partners) else NOBODY
        return None if partner == NOBODY else partner

    def row(self, place: int) -> Row:
        """The sample at one place of the block, nobody mixed in yet. Raises BadCache for unknown effects,
        and for a quarter turn of what is not square: its pixels would have another shape."""
        geometry, effects = self.geometry_of(place), self._effects_of(place)
        if geometry.crop_h != geometry.crop_w and any(op[0] == "turn" and int(op[1]) % 2 for op in effects):
            raise bad_operation(f"a quarter turn of {geometry.crop_h}x{geometry.crop_w} pixels")
        return Row(self.first + place, self.number, geometry, effects)

    def _effects_of(self, place: int) -> tuple[Op, ...]:
        text = self.effects[place] if self.effects else ""
        if not text:
            return ()
        try:
            plain = json.loads(text)
        except (ValueError, RecursionError):
            plain = text
        return View.from_json(plain).effects


def block_views(first: int, number: int, rows: Sequence[Row | None], pixels: np.ndarray) -> BlockViews:
    """The columns of rows in the order of their places; None where a place holds no targets."""
    valid = np.array([row is not None for row in rows], dtype=bool)
    geometry = np.zeros((len(rows), len(Geometry._fields)), dtype=np.int32)
    partners = np.full(len(rows), NOBODY, dtype=np.int64)
    effects = [""] * len(rows)
    for place, row in enumerate(rows):
        if row is None:
            continue
        geometry[place] = row.geometry
        partners[place] = NOBODY if row.partner is None else row.partner.sample
        effects[place] = json.dumps(row.effects, separators=(",", ":")) if row.effects else ""
    mixed = bool((partners != NOBODY).any())
    return BlockViews(
        first, number, valid, geometry, pixels,
        partners if mixed else partners[:0], effects if any(effects) else [],
    )  # fmt: skip


def check_block_views(views: BlockViews, crop: tuple[int, int] | None, sizes: np.ndarray) -> None:
    """Raises ValueError for geometry that no view set of this crop draws (None: the whole image) from images
    of these sizes, (rows, 2) height and width in pixels."""
    g = views.geometry[views.valid].astype(np.int64)
    resized, flip, corner, shape = g[:, 0:2], g[:, 2], g[:, 3:5], g[:, 5:7]
    wanted = sizes[views.valid] if crop is None else np.broadcast_to(np.array(crop), shape.shape)
    good = (shape == wanted).all(1) & (resized >= 1).all(1) & ((flip == 0) | (flip == 1))
    good &= ((-shape < corner) & (corner < resized)).all(1) & (resized <= MAX_RESIZED).all(1)
    if not good.all():
        place = int(np.flatnonzero(views.valid)[np.flatnonzero(~good)[0]])
        raise ValueError(f"the view of row {place} cannot be: {views.geometry[place].tolist()}")
