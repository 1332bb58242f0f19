"""Who is mixed into a fresh view: a valid sample from nearby, in its own view of the same number."""

import numpy as np

from kdcache.cache.tasks.table import CLASSIFICATION
from kdcache.trainer.stream.batch import BatchLayout
from kdcache.trainer.stream.fresh import FRESH_VIEW, FreshStream

NUM, INVALID = 9, (2, 5)


class Keys:
    """Samples of which nobody reads a pixel."""

    task = CLASSIFICATION
    num_samples = NUM
    invalid = np.array(INVALID)

    def image(self, index: int) -> np.ndarray:
        raise AssertionError(f"image {index} was read")

    truth = image

    def key(self, index: int) -> str:
        return f"sample{index}"

    def size(self, index: int) -> tuple[int, int]:
        return 12, 12 + index


def stream() -> FreshStream:
    layout = BatchLayout(seed=1, global_batch=1)
    return FreshStream(Keys(), layout=layout, crop=(8, 8), augment="rrc,flip,mixup=1")


def test_a_sample_that_cannot_be_used_is_mixed_into_none() -> None:
    fresh = stream()
    rows = [fresh.row(index, epoch) for index in (0, 1, 8) for epoch in range(20)]
    partners = {row.partner.sample for row in rows if row.partner is not None}
    assert partners == set(range(NUM)) - set(INVALID)
    assert all(row.partner is not None and row.partner.sample != row.sample for row in rows)


def test_the_other_sample_is_in_its_own_view_of_the_same_epoch() -> None:
    fresh = stream()
    for epoch in range(4):
        row = fresh.row(0, epoch)
        assert row.partner is not None and row.view == row.partner.view == FRESH_VIEW + epoch
        assert row.partner.geometry == fresh.geometry(row.partner.sample, epoch)
        assert row.partner.geometry != fresh.geometry(row.partner.sample, epoch + 1)
