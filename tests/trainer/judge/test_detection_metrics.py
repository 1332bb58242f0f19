"""Average precision: the figures of pycocotools, whatever the boxes; closed forms; where there is nothing."""

import contextlib
import io
import math
from collections.abc import Sequence

import numpy as np
import pytest
from boxes_scene import CLASSES, truth_of
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from kdcache.trainer.judge.detection_metrics import ImageBoxes, metrics_of

NAMES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
NAMES += ("ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large")


def said(image: int, *rows: Sequence[float]) -> ImageBoxes:
    """Rows x1 y1 x2 y2 score class."""
    table = np.array(rows, dtype=np.float64).reshape(-1, 6)
    return ImageBoxes(image, table[:, :4], table[:, 4], table[:, 5].astype(np.int64))


def by_pycocotools(truths: Sequence[np.ndarray], answers: Sequence[ImageBoxes]) -> list[float]:
    """The twelve figures of the library that the data set's authors wrote; its -1 is our nan."""
    annotations, results = [], []
    for image, (truth, answer) in enumerate(zip(truths, answers, strict=True)):
        for x1, y1, x2, y2, kind, crowd, area, _ in truth.tolist():
            annotations.append({"id": len(annotations) + 1, "image_id": image, "category_id": int(kind),
                                "bbox": [x1, y1, x2 - x1, y2 - y1], "area": area,
                                "iscrowd": int(crowd)})  # fmt: skip
        for (x1, y1, x2, y2), score, kind in zip(
            answer.boxes_N4.tolist(), answer.scores_N.tolist(), answer.classes_N.tolist(), strict=True
        ):
            results.append({"image_id": image, "category_id": kind, "score": score,
                            "bbox": [x1, y1, x2 - x1, y2 - y1]})  # fmt: skip
    truth_set = COCO()
    truth_set.dataset = {
        "images": [{"id": image} for image in range(len(truths))],
        "annotations": annotations,
        "categories": [{"id": number} for number in range(len(CLASSES))],
        "info": {},
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth_set.createIndex()
        answer_set = truth_set.loadRes(results) if results else COCO()
        if not results:
            answer_set.dataset = {**truth_set.dataset, "annotations": []}
            answer_set.createIndex()
        evaluation = COCOeval(truth_set, answer_set, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [math.nan if value == -1 else float(value) for value in evaluation.stats]


def assert_same_figures(truths: Sequence[np.ndarray], answers: Sequence[ImageBoxes]) -> None:
    metrics = metrics_of(truths, answers, CLASSES)
    assert metrics.figures._fields == NAMES
    # It divides by one ulp more than the number of boxes, so as not to divide by 0.
    np.testing.assert_allclose(list(metrics.figures), by_pycocotools(truths, answers), rtol=0, atol=1e-14)


def scene(seed: int, *, crowds: bool, ties: bool, most: int) -> tuple[list[np.ndarray], list[ImageBoxes]]:
    """Images with up to 12 objects and up to `most` boxes near them or anywhere; some have none of either."""
    rng = np.random.default_rng(seed)
    truths, answers = [], []
    for image in range(int(rng.integers(1, 7))):
        num_objects, num_boxes = int(rng.integers(0, 12)), int(rng.integers(0, most))
        corners = rng.uniform(0, 300, (num_objects, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(2, 200, (num_objects, 2))], axis=1)
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(1) * rng.uniform(0.3, 1.0, num_objects)  # as of a mask
        kinds = rng.integers(0, len(CLASSES) - 1, num_objects)
        crowd = rng.random(num_objects) < (0.3 if crowds else 0.0)
        columns = [kinds, crowd, areas, rng.integers(0, 1000, num_objects)]
        truths.append(np.concatenate([boxes, np.stack(columns, axis=1).astype(np.float64)], axis=1))
        copied = rng.integers(0, num_objects, num_boxes) if num_objects else np.zeros(0, dtype=np.int64)
        near = boxes[copied] + rng.normal(0, 6, (len(copied), 4))
        far = rng.uniform(0, 300, (num_boxes - len(copied), 4))
        guessed = np.concatenate([near, np.concatenate([far[:, :2], far[:, :2] + far[:, 2:]], axis=1)])
        scores = rng.integers(0, 4, num_boxes) / 4 if ties else rng.random(num_boxes)
        right = np.concatenate([kinds[copied], np.zeros(num_boxes - len(copied), dtype=np.int64)])
        guesses = np.where(rng.random(num_boxes) < 0.8, right, rng.integers(0, len(CLASSES), num_boxes))
        answers.append(ImageBoxes(image, guessed, scores, guesses.astype(np.int64)))
    return truths, answers


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans(), st.booleans(), st.sampled_from([2, 30, 150]))
def test_all_twelve_figures_are_those_of_pycocotools(seed: int, crowds: bool, ties: bool, most: int) -> None:
    assert_same_figures(*scene(seed, crowds=crowds, ties=ties, most=most))


def test_the_hundred_and_first_box_of_a_class_counts_nowhere() -> None:
    wrong = [(200.0 + n, 200.0, 210.0 + n, 210.0, 0.9 - n / 1000, 0) for n in range(100)]
    right = (0.0, 0.0, 10.0, 10.0, 0.1, 0)
    truths = [truth_of((0, 0, 10, 10, 0))]
    for boxes, recall in ((wrong + [right], 0.0), (wrong[:99] + [right], 1.0)):
        answers = [said(0, *boxes)]
        assert_same_figures(truths, answers)
        assert metrics_of(truths, answers, CLASSES).figures.ar100 == recall


def test_a_box_exactly_at_a_threshold_is_a_hit_there() -> None:
    """IoU 0.55 in float64: 11 of 20; a float32 0.55 is larger and would miss it."""
    truths = [truth_of((0, 0, 20, 1, 0))]
    answers = [said(0, (0, 0, 11, 1, 0.9, 0))]
    assert_same_figures(truths, answers)
    assert metrics_of(truths, answers, CLASSES).figures.ap == pytest.approx(2 / 10)


def test_the_figures_of_a_case_that_can_be_counted_by_hand() -> None:
    """Class 0: two objects, best box hits one at IoU 1, the second box misses: recall 0.5, so 51 of 101
    recalls have precision 1. Class 1: one object that nothing hits. Class 2 is never there."""
    truths = [truth_of((0, 0, 40, 40, 0), (100, 100, 140, 140, 0)), truth_of((0, 0, 200, 200, 1))]
    answers = [said(0, (0, 0, 40, 40, 0.9, 0), (300, 300, 310, 310, 0.8, 0)), said(1, (0, 0, 10, 10, 1.0, 2))]
    metrics = metrics_of(truths, answers, CLASSES)
    assert metrics.per_class["cell"] == pytest.approx(51 / 101) and metrics.per_class["disc"] == 0
    assert math.isnan(metrics.per_class["rod"]), "a class that the truth never holds has no figure"
    assert metrics.score == metrics.figures.ap == pytest.approx(51 / 202)
    assert metrics.named() == {
        "ap": metrics.score,
        "ap50": pytest.approx(51 / 202),
        "ap75": pytest.approx(51 / 202),
        "ap_small": pytest.approx(math.nan, nan_ok=True),
        "ap_medium": pytest.approx(51 / 101),
        "ap_large": 0.0,
        "ar100": pytest.approx(0.25),
    }
    assert (metrics.num_images, metrics.per_class_key, metrics.per_class_title) == (2, "per_class_ap", "AP %")


def test_a_class_has_the_figure_of_all_its_boxes_in_an_image() -> None:
    truths = [truth_of((0, 0, 40, 40, 0), (100, 100, 140, 140, 0))]
    answers = [said(0, (0, 0, 40, 40, 0.9, 0), (100, 100, 140, 140, 0.8, 0))]
    assert metrics_of(truths, answers, CLASSES).per_class["cell"] == 1.0


def test_a_box_on_a_crowd_is_neither_right_nor_wrong() -> None:
    crowd = (0.0, 0.0, 100.0, 100.0, 0, 1)
    answers = [said(0, (10, 10, 20, 20, 0.9, 0), (30, 30, 40, 40, 0.8, 0), (200, 200, 240, 240, 0.7, 0))]
    with_crowd = metrics_of([truth_of(crowd, (200, 200, 240, 240, 0))], answers, CLASSES)
    without = metrics_of([truth_of((200, 200, 240, 240, 0))], answers, CLASSES)
    assert with_crowd.figures.ap == 1.0 and without.figures.ap == pytest.approx(1 / 3)


def test_sizes_are_the_annotations_own_areas() -> None:
    """A box of 40 x 40 whose mask has 500 square pixels is small."""
    answers = [said(0, (0, 0, 40, 40, 0.9, 0))]
    figures = metrics_of([truth_of((0, 0, 40, 40, 0, 0, 500))], answers, CLASSES).figures
    assert figures.ap_small == 1.0 and math.isnan(figures.ap_medium)


def test_nothing_in_the_truth_is_nan_and_nothing_said_is_zero() -> None:
    nothing, objects = truth_of(), truth_of((0, 0, 10, 10, 0))
    empty = metrics_of([nothing, nothing], [said(0, (0, 0, 5, 5, 0.9, 0)), said(1)], CLASSES)
    assert all(math.isnan(value) for value in empty.figures) and empty.num_images == 2
    silent = metrics_of([objects, nothing], [said(0), said(1)], CLASSES)
    assert silent.figures.ap == silent.figures.ar100 == 0.0


def test_a_class_of_one_is_judged_like_any_other() -> None:
    metrics = metrics_of([truth_of((0, 0, 10, 10, 0))], [said(0, (0, 0, 10, 10, 0.9, 0))], ("cell",))
    assert metrics.per_class == {"cell": 1.0} and metrics.score == 1.0
