"""The views of one block under one view number, read from a record."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from kdcache.cache.view import Geometry, Op, View


class BlockViews:
    """The views of one (block, view number), as the numbers the image pipeline executes: 28 bytes a row, and
    as much text as the record has where there are effects."""

    def __init__(self, record: dict[str, Any], heights: Sequence[int], widths: Sequence[int]) -> None:
        self.valid = np.asarray(record["valid"], dtype=bool)
        self._numbers = np.zeros((len(self.valid), len(Geometry._fields)), dtype=np.int32)
        self._effects: dict[int, str] = {}  # rows that have any, as JSON: a tenth of the objects' memory
        for row, (ops, height, width) in enumerate(zip(record["views"], heights, widths, strict=True)):
            if self.valid[row]:
                view = View.from_json(ops)
                self._numbers[row] = view.geometry(height, width)
                if view.effects:
                    self._effects[row] = json.dumps(view.effects)

    def geometry(self, row: int) -> Geometry:
        return Geometry(*self._numbers[row].tolist())

    def effects(self, row: int) -> tuple[Op, ...]:
        """What follows the crop, in order."""
        text = self._effects.get(row)
        return tuple(tuple(op) for op in json.loads(text)) if text else ()
