"""Average precision of boxes, COCO's: Lin et al. 2014, https://arxiv.org/abs/1405.0312.

Computed by faster-coco-eval, which answers pycocotools' figures (to 1e-15) in a sixth of its time: about 2 ms
of one core an image with 100 boxes. Boxes are float64 in pixels of the stored image, the truth is what
the data set says: crowds take any number of boxes without counting, sizes are the annotations' own areas.

Axes: N boxes of an image, M objects, T thresholds of overlap, R of recall, K classes, S sizes, D numbers of
boxes.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

SCORE = "ap"
OVERLAPS = np.linspace(0.5, 0.95, 10)  # float64: at a float32 0.55 other boxes count
RECALLS = np.linspace(0, 1, 101)
MOST_BOXES = (1, 10, 100)  # of a class in one image
# Annotations' areas in square pixels: from, to.
SIZES: Mapping[str, tuple[float, float]] = {
    "small": (0, 32**2),
    "medium": (32**2, 96**2),
    "large": (96**2, 1e5**2),
}
_CLASS, _CROWD, _AREA = 4, 5, 6  # columns of a parsed truth
_ABSENT = -1  # of a precision or recall that no object could have


class ImageBoxes(NamedTuple):
    """What a network said of one image, in pixels of the stored image, best first."""

    sample: int  # its index
    boxes_N4: np.ndarray  # float64 x1 y1 x2 y2
    scores_N: np.ndarray  # float64
    classes_N: np.ndarray  # int64


class CocoFigures(NamedTuple):
    """COCO's twelve, ratios in 0..1; nan where there is no object to be found."""

    ap: float  # mean over overlaps of 0.5 to 0.95, recalls and classes
    ap50: float
    ap75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    ar1: float  # recall with so many boxes of a class in an image
    ar10: float
    ar100: float
    ar_small: float
    ar_medium: float
    ar_large: float


class DetectionMetrics(NamedTuple):
    """Quality of boxes; a class that the truth never holds has nan."""

    figures: CocoFigures
    per_class_ap: Mapping[str, float]
    num_images: int
    said: Sequence[ImageBoxes] = ()

    @property
    def score_name(self) -> str:
        return SCORE

    @property
    def score(self) -> float:
        return self.figures.ap

    @property
    def per_class(self) -> Mapping[str, float]:
        return self.per_class_ap

    @property
    def per_class_key(self) -> str:
        return "per_class_ap"

    @property
    def per_class_title(self) -> str:
        return "AP %"

    def named(self) -> dict[str, float]:
        shown = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar100")
        return {name: getattr(self.figures, name) for name in shown}


def metrics_of(
    truths: Sequence[np.ndarray], said: Sequence[ImageBoxes], class_names: Sequence[str]
) -> DetectionMetrics:
    """Metrics of all images: `truths` are (M, 8) float64, x1 y1 x2 y2 class crowd area id, in the order of
    `said`. Equal boxes in equal order give equal bits."""
    classes = range(len(class_names))
    evaluation = _evaluated(_truth_set(truths, classes), said, classes)
    precision_TRKSD, recall_TKSD = evaluation["precision"], evaluation["recall"]
    ap = [_mean(precision_TRKSD[:, :, number, 0, -1]) for number in classes]
    return DetectionMetrics(
        _figures(precision_TRKSD, recall_TKSD),
        dict(zip(class_names, ap, strict=True)),
        len(truths),
        tuple(said),
    )


def result_records(
    said: Sequence[ImageBoxes], image_id: Callable[[int], int | str], category_ids: Sequence[int]
) -> list[dict[str, Any]]:
    """COCO's results: of each box its image, class, x y width height and score. `image_id` is asked by
    sample, `category_ids` are by class."""
    return [
        {
            "image_id": image_id(image.sample),
            "category_id": category_ids[number],
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": score,
        }
        for image in said
        for (x1, y1, x2, y2), score, number in zip(
            image.boxes_N4.tolist(), image.scores_N.tolist(), image.classes_N.tolist(), strict=True
        )
    ]


def _truth_set(truths: Sequence[np.ndarray], classes: Sequence[int]) -> COCO:
    """The truth in COCO's form. Objects are numbered from 1: 0 would be taken for 'matched by nothing'."""
    objects = [(image, row.tolist()) for image, one in enumerate(truths) for row in one]
    annotations = [
        {
            "id": number,
            "image_id": image,
            "category_id": int(row[_CLASS]),
            "bbox": [row[0], row[1], row[2] - row[0], row[3] - row[1]],
            "area": row[_AREA],
            "iscrowd": int(row[_CROWD]),
        }
        for number, (image, row) in enumerate(objects, 1)
    ]
    images = [{"id": image} for image in range(len(truths))]
    categories = [{"id": number, "name": str(number)} for number in classes]
    return COCO({"images": images, "annotations": annotations, "categories": categories})


def _evaluated(truth: COCO, said: Sequence[ImageBoxes], classes: Sequence[int]) -> Mapping[str, Any]:
    """'precision' (T, R, K, S, D) and 'recall' (T, K, S, D)."""
    placed = [image._replace(sample=place) for place, image in enumerate(said)]
    answers = truth.loadRes(result_records(placed, int, classes))
    evaluation = COCOeval_faster(truth, answers, "bbox", ranges={k: list(v) for k, v in SIZES.items()})
    evaluation.params.iouThrs, evaluation.params.recThrs = OVERLAPS, RECALLS
    evaluation.params.maxDets = list(MOST_BOXES)
    evaluation.evaluate()
    evaluation.accumulate()
    figures: Mapping[str, Any] = evaluation.eval
    return figures


def _figures(precision_TRKSD: np.ndarray, recall_TKSD: np.ndarray) -> CocoFigures:
    """Size 0 is all of them."""
    return CocoFigures(
        _mean(precision_TRKSD[:, :, :, 0, -1]),
        _mean(precision_TRKSD[0, :, :, 0, -1]),
        _mean(precision_TRKSD[5, :, :, 0, -1]),
        *(_mean(precision_TRKSD[:, :, :, size, -1]) for size in (1, 2, 3)),
        *(_mean(recall_TKSD[:, :, 0, most]) for most in (0, 1, 2)),
        *(_mean(recall_TKSD[:, :, size, -1]) for size in (1, 2, 3)),
    )


def _mean(values: np.ndarray) -> float:
    """Of what some object could have had."""
    counted = values[values > _ABSENT]
    return float(counted.mean()) if counted.size else math.nan
