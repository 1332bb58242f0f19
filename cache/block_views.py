"""The views of one block under one view number, read from a record."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kdcache.cache.view import Geometry, View


class BlockViews:
    """The views of one (block, view number), as the numbers the image pipeline executes: 28 bytes a row."""

    def __init__(self, record: dict[str, Any], heights: Sequence[int], widths: Sequence[int]) -> None:
        self.valid = np.asarray(record["valid"], dtype=bool)
        self._numbers = np.zeros((len(self.valid), len(Geometry._fields)), dtype=np.int32)
        for row, (ops, height, width) in enumerate(zip(record["views"], heights, widths, strict=True)):
            if self.valid[row]:
                self._numbers[row] = View.from_json(ops).geometry(height, width)

    def geometry(self, row: int) -> Geometry:
        return Geometry(*self._numbers[row].tolist())
