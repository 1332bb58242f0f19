"""What each task stores, reads, collates and draws as truth."""

import numpy as np
import pytest
import torch

from kdcache.cache.tasks.classification import top_lines
from kdcache.cache.tasks.contract import RowTruth
from kdcache.cache.tasks.panels import colour_classes, text_panel
from kdcache.cache.tasks.table import CLASSIFICATION, SEGMENTATION, task_of

CLASSES = task_of(CLASSIFICATION).truth
MAPS = task_of(SEGMENTATION).truth
NAMES = ("cat", "dog", "owl")


def one(class_id: int) -> np.ndarray:
    return np.array([class_id], dtype=np.int64)


@pytest.mark.parametrize("encoded", [b"7", memoryview(b"7")])
def test_a_class_is_parsed_from_ascii(encoded: bytes | memoryview) -> None:
    assert CLASSES.parse(encoded).tolist() == [7] and CLASSES.parse(encoded).dtype == np.int64
    assert CLASSES.column_values(b"7", (8, 8)) == {"classes": 7} and CLASSES.column_values(None, (0, 0)) == {"classes": -1}


def test_a_class_is_known_from_its_column() -> None:
    columns = {"classes": np.array([3, -1, 5], dtype=np.int64)}
    assert [CLASSES.from_columns(columns, row).tolist() for row in (0, 2)] == [[3], [5]]


def test_an_encoded_map_stays_encoded_and_is_not_copied() -> None:
    encoded = np.frombuffer(b"\x89PNG map", dtype=np.uint8)
    assert np.shares_memory(MAPS.parse(encoded.data), encoded)
    assert MAPS.column_values(b"x", (8, 8)) == MAPS.column_values(None, (0, 0)) == {} and MAPS.from_columns({}, 0) is None


@pytest.mark.parametrize("share", [0.0, 0.49, 0.5, 0.51, 1.0])
def test_of_two_mixed_classes_the_one_with_the_larger_share_comes_first(share: float) -> None:
    labels_B, mixed = CLASSES.collate([RowTruth(one(1), one(2), share)], None)
    assert mixed is not None and labels_B.dtype == mixed.labels_B.dtype == torch.int64
    kept = share >= 0.5
    assert (labels_B.item(), mixed.labels_B.item()) == ((1, 2) if kept else (2, 1))
    assert mixed.share_B.item() == pytest.approx(max(share, 1 - share))


def test_what_is_not_mixed_has_no_second_class() -> None:
    labels_B, mixed = CLASSES.collate([RowTruth(one(1)), RowTruth(one(0))], None)
    assert labels_B.tolist() == [1, 0] and mixed is None
    maps_BHW = torch.zeros((2, 3, 4), dtype=torch.uint8)
    assert MAPS.collate([], maps_BHW) == (maps_BHW, None)


def test_panels_show_names_or_colours() -> None:
    alone, mixed = (CLASSES.panel(RowTruth(one(1), *rest), None, NAMES) for rest in ((), (one(2), 0.7)))
    assert alone.shape == mixed.shape == (320, 320, 3) and (alone != mixed).any()
    map_HW = np.array([[0, 2, 255]], dtype=np.uint8)
    shown = MAPS.panel(RowTruth(one(0)), map_HW, NAMES)
    np.testing.assert_array_equal(shown, colour_classes(map_HW, 3))
    assert shown[0, 2].tolist() == [0, 0, 0] and shown[0, 0].any()


def test_answers_are_shown_as_names_or_colours() -> None:
    likely = CLASSES.answer_panel(np.log([0.25, 0.5, 0.25]), NAMES)
    np.testing.assert_array_equal(likely, text_panel(["50.0% dog", "25.0% cat", "25.0% owl"]))
    logits_HWK = np.array([[[0, 1, 2], [5, 4, 3]]], dtype=np.float32)
    expected = colour_classes(np.array([[2, 0]], dtype=np.uint8), 3)
    np.testing.assert_array_equal(MAPS.answer_panel(logits_HWK, NAMES), expected)


def test_the_five_likeliest_classes_are_listed_with_their_probabilities() -> None:
    logits = np.log([0.05, 0.4, 0.1, 0.2, 0.05, 0.2])
    assert top_lines(logits + 1000, "abcdef") == ["40.0% b", "20.0% d", "20.0% f", "10.0% c", "5.0% a"]
