"""Boxes and legends that a person can read: on any colour, on small and on large pictures."""

import numpy as np
import pytest

from kdcache.cache.tasks.panels import class_colour, draw_boxes, with_legend


def drawn(boxes: list[list[float]], texts: list[str], size: tuple[int, int] = (120, 320)) -> np.ndarray:
    grey = np.full((*size, 3), 100, dtype=np.uint8)
    return draw_boxes(grey, np.array(boxes, dtype=float), list(range(len(boxes))), texts)


def ink_of(picture_HWC: np.ndarray) -> int:
    """Pixels darker than the ground, as letters on a light class are."""
    return int((picture_HWC < 90).all(-1).sum())


def pixels_of(picture_HWC: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((picture_HWC == colour).all(-1).sum())


@pytest.mark.parametrize("number", range(20))
def test_a_text_is_dark_on_a_light_class_and_light_on_a_dark_one(number: int) -> None:
    grey = np.full((60, 320, 3), 100, dtype=np.uint8)
    picture = draw_boxes(grey, np.array([[10.0, 10, 200, 50]]), [number], ["name"])
    tag, colour = picture[10:24, 10:30].astype(int), np.array(class_colour(number))
    apart = np.abs(tag - colour).sum(-1).max()
    bright = colour @ (0.299, 0.587, 0.114) > 128
    light = tag.sum(-1)
    assert light.min() < 200 if bright else light.max() > 600
    assert apart > 250 and pixels_of(picture[10:24, 10:30], class_colour(number)) > 100


def test_a_text_at_the_edge_is_moved_into_the_picture() -> None:
    inside = drawn([[20, 20, 80, 80]], ["a long name 77%"])
    outside = drawn([[310, 110, 320, 120]], ["a long name 77%"])
    letters = [ink_of(picture) for picture in (inside, outside)]
    assert letters[0] == letters[1] > 20


def test_the_surest_of_two_boxes_lies_on_top() -> None:
    alone = drawn([[20, 20, 80, 80]], ["surest"])
    both = drawn([[20, 20, 80, 80], [22, 22, 90, 90]], ["surest", "hidden"])
    np.testing.assert_array_equal(both[20:34, 20:50], alone[20:34, 20:50])
    assert (both != alone).any()


def test_letters_grow_with_a_picture_that_is_shown_smaller() -> None:
    small, large = (drawn([[0, 0, 300, 90]], ["name"], (200, width)) for width in (640, 1280))
    assert ink_of(large) > 3 * ink_of(small) > 0
    legends = [with_legend(np.zeros((9, width, 3), np.uint8), [("a", (1, 2, 3))]) for width in (640, 1280)]
    assert [len(legend) - 9 for legend in legends] == [16, 32]
    assert pixels_of(legends[1], (1, 2, 3)) > 3 * pixels_of(legends[0], (1, 2, 3))


def test_a_box_without_a_text_is_a_frame_alone() -> None:
    picture = drawn([[20, 20, 80, 80]], [""])
    assert pixels_of(picture, class_colour(0)) == 4 * 59
