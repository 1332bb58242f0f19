"""What is small of every row, in memory: a batch takes it with one index, whatever blocks its rows lie in.

Arrays of (views x samples) rows, filled block by block when a row of theirs is first asked for, so that what
is read is checked as before. Memory that is not filled is not taken either. Caches that are larger than
`RESIDENT_BYTES` an array go without: their batches are put together block by block.
"""

from collections.abc import Callable, Mapping

import numpy as np

RESIDENT_BYTES = 32 << 20  # 32 MiB: the views of 800,000 rows, ten logits of 1.6 million

Columns = Mapping[str, np.ndarray]  # of one block, (rows, ...) each
Wanted = Mapping[str, tuple[tuple[int, ...], str]]  # shape of a row and type, by name


class Resident:
    """Some columns of every row of a cache."""

    def __init__(self, num_views: int, num_samples: int, shard_samples: int, columns: Wanted) -> None:
        self._num_samples, self._shard_samples = num_samples, shard_samples
        rows = num_views * num_samples
        self.arrays = {name: np.zeros((rows, *shape), dtype) for name, (shape, dtype) in columns.items()}
        self._here = np.zeros((num_views, num_samples // shard_samples), dtype=bool)

    @staticmethod
    def fits(num_rows: int, columns: Wanted) -> bool:
        row_bytes = sum(np.dtype(d).itemsize * int(np.prod(s, dtype=np.int64)) for s, d in columns.values())
        return num_rows * row_bytes <= RESIDENT_BYTES

    def index(
        self, samples: np.ndarray, views: np.ndarray, read: Callable[[int, int], Columns]
    ) -> np.ndarray | None:
        """Numbers of rows in the arrays, (B,); `read(block, view)` gives what is not there yet. None where a
        view is none of them."""
        if len(views) and (views.min() < 0 or views.max() >= len(self._here)):
            return None
        blocks = samples // self._shard_samples
        lacking = ~self._here[views, blocks]
        for block, view in dict.fromkeys(zip(blocks[lacking].tolist(), views[lacking].tolist(), strict=True)):
            first = view * self._num_samples + block * self._shard_samples
            for name, column in read(block, view).items():
                self.arrays[name][first : first + len(column)] = column
            self._here[view, block] = True
        index: np.ndarray = views * self._num_samples + samples
        return index
