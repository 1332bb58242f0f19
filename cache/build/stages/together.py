"""Batches of tiny rows that are decoded in one turn: what a turn of the image pipeline costs is shared by
more rows than the teacher takes at once. Pixels do not depend on who is decoded beside them.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

from kdcache.cache.views.view import Row

MOST_ROWS = 256  # of a turn of several batches
TURN_PX = 1 << 18  # so many rows of 32x32 pixels, 768 KiB: a few turns lie ready


class Batch(Protocol):
    """Rows of one input size; one without rows is the only one of its shard."""

    @property
    def rows(self) -> Sequence[Row]: ...


AnyBatch = TypeVar("AnyBatch", bound=Batch)


def turns(batches: Iterable[AnyBatch], image_px: int) -> Iterator[list[AnyBatch]]:
    """Runs of batches of one input size, in order: one batch, or several of at most `MOST_ROWS` rows that
    show at most `TURN_PX` pixels, of crops and of stored images of `image_px` each."""
    run: list[AnyBatch] = []
    for batch in batches:
        if run and not _fit([*run, batch], image_px):
            yield run
            run = []
        run.append(batch)
    if run:
        yield run


def _fit(run: Sequence[Batch], image_px: int) -> bool:
    sizes = {(row.geometry.crop_h, row.geometry.crop_w) for batch in run for row in batch.rows[:1]}
    num_rows = sum(len(batch.rows) for batch in run)
    row_px = max(image_px, *(height * width for height, width in sizes)) if sizes else image_px
    return len(sizes) <= 1 and num_rows <= min(MOST_ROWS, TURN_PX // max(1, row_px))
