"""Rows that lie uncompressed in one mapped object, as one array over it: a batch of them is one copy.

Whatever the offsets, their differences have a greatest common divisor: rows of that stride, one for every
multiple of it, are one (strided) array, and an offset is a number in it. Our shards have rows side by side,
so that the stride is a row and numpy gathers by `take`; members of tars are further apart. No byte is read
here.
"""

import numpy as np

from kdcache.cache.spec import PartSpec

ABSENT_RANK = -1
# Rows of more bytes are copied one by one where they go to scattered places: through a temporary array, as
# an index on both sides needs, they would be copied twice.
SCATTERED_BYTES = 1 << 10

Slots = slice | np.ndarray  # rows of a batch, a run of them or an index


class EvenRows:
    """Rows of one part by their place in the block. Read-only, and never outside the object."""

    def __init__(self, buffer: np.ndarray, offsets: np.ndarray, part: PartSpec) -> None:
        """`buffer` is the object, 1-D uint8; `offsets` int64 per place, negative where there is no row. Every
        other one lies `part.num_bytes` before the end or earlier and is a multiple of the element's size."""
        here = offsets >= 0
        start = int(offsets[here].min()) if here.any() else 0
        step = int(np.gcd.reduce(offsets[here] - start)) or part.num_bytes
        self.ranks = np.where(here, (offsets - start) // step, ABSENT_RANK)
        num_rows = int(self.ranks.max(initial=ABSENT_RANK)) + 1
        element = np.dtype(part.dtype)
        inner = np.cumprod([element.itemsize, *part.shape[:0:-1]], dtype=np.int64)[::-1]
        self.array = np.ndarray(
            (num_rows, *part.shape), element, buffer, start if num_rows else 0, (step, *inner.tolist())
        )
        self._dense = step == part.num_bytes
        # Rows that follow one another from the first place on have their place as their number.
        self._straight = bool((self.ranks[here] == np.flatnonzero(here)).all())
        self._scatter = part.num_bytes <= SCATTERED_BYTES

    def row(self, place: int) -> np.ndarray:
        """A view of the row at one place that holds one."""
        view: np.ndarray = self.array[self.ranks[place]]
        return view

    def copy(self, places: np.ndarray, out: np.ndarray, slots: Slots) -> None:
        """The rows at `places`, which all hold one, into these rows of `out` (B, *part.shape)."""
        ranks = places if self._straight else self.ranks[places]
        if self._dense and isinstance(slots, slice):
            # 'raise' would go through a buffer; `take` copies an array first that is not dense.
            self.array.take(ranks, 0, out[slots], "clip")
        elif isinstance(slots, slice) or self._scatter:
            out[slots] = self.array[ranks]
        else:
            for slot, rank in zip(slots.tolist(), ranks.tolist(), strict=True):
                out[slot] = self.array[rank]
