"""From rows to feeds: each row with its own image, its partner's, and the truth of both under their views."""

from collections.abc import Sequence

import numpy as np
import pytest

from kdcache.cache.reader.rows import feed_with_truth, pixel_feed, row_truth
from kdcache.cache.tasks.contract import Truth
from kdcache.cache.tasks.table import CLASSIFICATION, SEGMENTATION, task_of
from kdcache.cache.views.view import Geometry, Op, Row, View


class Samples:
    """Sample n has the image [n], the truth [10 n] and n rows of pixels."""

    def image(self, index: int) -> np.ndarray:
        return np.array([index], dtype=np.uint8)

    def truth(self, index: int) -> np.ndarray:
        return np.array([10 * index])

    def size(self, index: int) -> tuple[int, int]:
        return index, 8


class Moving(type(task_of(CLASSIFICATION).truth)):  # type: ignore[misc]
    """A truth that follows its pixels: its value, the place where its crop starts, its image's height."""

    def moved(
        self, value: np.ndarray, geometry: Geometry, effects: Sequence[Op], size: tuple[int, int]
    ) -> np.ndarray:
        return np.array([*value, geometry.crop_y, len(effects), size[0]])


def row(sample: int, *, y: int = 0, partner: Row | None = None) -> Row:
    mixing: tuple[Op, ...] = (("mixup", 300, "other"),) if partner else ()
    own = View((("crop", y, 0, 8, 8), *mixing)).row(sample, 0, (16, 8))
    return own.mixed_with(partner) if partner else own


def numbers(arrays: Sequence[np.ndarray | None]) -> list[int | None]:
    return [None if array is None else int(array[0]) for array in arrays]


def test_each_row_has_its_own_image_and_that_of_its_partner() -> None:
    rows = [row(3), row(5, partner=row(7))]
    feed = pixel_feed(Samples(), rows, [[np.zeros(1), np.ones(1)]])
    assert feed.rows == rows and numbers(feed.encoded) == [3, 5] and numbers(feed.mixed_in) == [None, 7]
    assert len(feed.passengers) == 1 and not feed.truths and not feed.maps


def test_where_nobody_is_mixed_no_second_image_is_read() -> None:
    assert pixel_feed(Samples(), [row(3), row(5)]).mixed_in == []


@pytest.mark.parametrize(("truth", "rides"), [(SEGMENTATION, [30, 50]), (CLASSIFICATION, [])])
def test_only_maps_ride_with_their_images(truth: str, rides: list[int]) -> None:
    feed = feed_with_truth(Samples(), [row(3), row(5)], task_of(truth).truth)
    assert numbers(feed.maps) == rides and [numbers([one.own]) for one in feed.truths] == [[30], [50]]
    assert all(one.other is None and one.own_share == 1.0 for one in feed.truths)


def test_a_mixed_row_has_both_truths_and_its_share_and_a_lone_one_its_own_twice() -> None:
    truth: Truth = task_of(CLASSIFICATION).truth
    mixed = row_truth(Samples(), row(5, partner=row(7)), truth, mixes=True)
    assert numbers([mixed.own, mixed.other]) == [50, 70] and mixed.own_share == 0.3
    lone = row_truth(Samples(), row(5), truth, mixes=True)
    assert numbers([lone.own, lone.other]) == [50, 50] and lone.own_share == 1.0


def test_a_truth_is_moved_as_the_view_of_its_own_sample_says() -> None:
    mixed = row_truth(Samples(), row(5, y=2, partner=row(7, y=6)), Moving(), mixes=True)
    assert mixed.own.tolist() == [50, 2, 1, 5] and mixed.other is not None
    assert mixed.other.tolist() == [70, 6, 0, 7]  # in its own view, unmixed
