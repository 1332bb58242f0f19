"""Detection quality: COCO's average precision on whole images, fitted onto the canvas that training used.

Each image is resized until it fits the canvas, at its top left; boxes come back in pixels of the stored image
and are cut to it. The truth is read as the data set has it: crowds and areas too, whatever the view shows.

Axes: B batch, N boxes of an image, D places of the table. Cost: one forward per image and 4.8 kB a row.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from kdcache.cache.errors import BadOption, BadSample
from kdcache.cache.grid import BOX, CLS, CTR, DenseGrid
from kdcache.cache.sources.contract import Source
from kdcache.cache.tasks.detection import DECODE, DRAWN_SCORE
from kdcache.cache.tasks.panels import draw_boxes
from kdcache.cache.tasks.table import load
from kdcache.cache.views.draw import fit_view
from kdcache.cache.views.view import Geometry
from kdcache.trainer.judge.contract import Answers, Ask, JudgedImage, Leaving, ShownImage, Told
from kdcache.trainer.judge.contract import Judge as TaskJudge
from kdcache.trainer.judge.detection_metrics import (
    SCORE,
    DetectionMetrics,
    ImageBoxes,
    metrics_of,
    result_records,
)
from kdcache.trainer.judge.metrics import Metrics
from kdcache.trainer.judge.told import json_bytes

MOST = 100  # boxes of an image that count, of all classes together
_KINDS = (CLS, BOX, CTR)
_COLUMNS = 6  # of a place: x1 y1 x2 y2 in pixels of the canvas, score, class + 1; all 0 where there is no box
# maps, grid, number of classes, (height, width) of the canvas -> per image boxes_N4, scores_N, classes_N
Decode = Callable[
    [Mapping[str, Tensor], DenseGrid, int, tuple[int, int]], list[tuple[Tensor, Tensor, Tensor]]
]


@runtime_checkable
class OwnNumbers(Protocol):
    """A source that says what its images and classes are called in files of results."""

    def image_id(self, index: int) -> int | str: ...
    @property
    def category_ids(self) -> Sequence[int]:
        """By class."""
        ...


class Judge(TaskJudge):
    """The table: (images, 100, 6), the boxes of each image on the canvas."""

    batch_size = 8
    score_name = SCORE
    no_teacher = (
        "agreement with a teacher is measured for classification; boxes are compared by their own average "
        "precision"
    )
    first_images = 32
    usual_causes = (
        "a teacher that finds nothing has nothing to teach. The usual causes: its classes stand in another "
        "order than the data's, or it expects pixels of another mean and deviation"
    )
    no_records = ""
    no_predictions = ""
    leaving = Leaving(
        decoder=True,
        answers="maps of classes and boxes for every level of the pyramid; decode.py makes boxes",
    )
    grid: DenseGrid | None = None
    canvas: tuple[int, int] = (0, 0)

    def can_judge(self, network: nn.Module) -> bool:
        """Not several at once: the answers of each are maps of its own, and nobody unites boxes."""
        grid = _grid_in(network)
        return grid is not None and set(_taps(grid)) <= set(getattr(network, "taps", ()))

    def meet(self, network: nn.Module | Ask, input_size: tuple[int, int]) -> None:
        self.grid = _grid_of(network)
        self.canvas = input_size
        self.taps = _taps(self.grid)

    def geometry(self, size: tuple[int, int], input_size: tuple[int, int]) -> Geometry:
        """All of the image, as large as the canvas holds it, at the top left."""
        return fit_view(*size, input_size).geometry(*size)

    def table(self, num_images: int, device: torch.device) -> Tensor:
        return torch.zeros(num_images, MOST, _COLUMNS, dtype=torch.float64, device=device)

    def check_truth(self, truth: Tensor, key_of: Callable[[int], str]) -> None:
        """`truth` (B, M, 5)."""
        wrong = (truth[..., 4] >= self.num_classes).nonzero().tolist()
        if wrong:
            row, place = wrong[0]
            raise BadSample(
                f"an object of '{key_of(row)}' has class {int(truth[row, place, 4])}, the network knows "
                f"classes 0..{self.num_classes - 1}",
                where="evaluation",
                fix="evaluate a network of as many classes, or use the data it was trained on",
            )

    def fill(
        self, table: Tensor, places: slice, answers: Answers, truth: Tensor, teacher_answers: Answers | None
    ) -> None:
        del truth, teacher_answers
        for place, row_D6 in zip(range(places.start, places.stop), self._best(answers), strict=True):
            table[place, : len(row_D6)] = row_D6

    def metrics(
        self, table: Tensor, images: Iterable[JudgedImage], *, with_teacher: bool
    ) -> DetectionMetrics:
        del with_teacher
        truths, said = [], []
        for image, row_D6 in zip(images, table.numpy(), strict=True):
            truths.append(image.truth)
            shown = row_D6[row_D6[:, 5] > 0]
            said.append(_on_stored(shown, image.sample, image.size, image.geometry))
        return metrics_of(truths, said, self.class_names)

    def picture(self, answers: Answers, image_HWC: np.ndarray) -> np.ndarray:
        """Boxes of at least 0.3, with class and score."""
        ((boxes_N4, scores_N, classes_N),) = self._decoded(answers)
        sure = scores_N >= DRAWN_SCORE
        return self._drawn(image_HWC, boxes_N4[sure].numpy(), classes_N[sure].numpy(), scores_N[sure].numpy())

    def records(self, metrics: Metrics, source: Source) -> list[dict[str, Any]]:
        """COCO's results. Of a source without numbers of its own: samples by key, classes from 0."""
        assert isinstance(metrics, DetectionMetrics)
        if isinstance(source, OwnNumbers):
            return result_records(metrics.said, source.image_id, source.category_ids)
        return result_records(metrics.said, source.keys.__getitem__, range(self.num_classes))

    def told(self, answers: Answers, images: Sequence[ShownImage]) -> list[Told]:
        """Of each image its `ImageBoxes`, in pixels of the stored image."""
        pairs = zip(images, self._best(answers), strict=True)
        return [
            Told(None, _on_stored(row_D6.cpu().numpy(), 0, image.size, image.geometry))
            for image, row_D6 in pairs
        ]

    def told_files(self, told: Sequence[tuple[ShownImage, Any]]) -> Mapping[str, bytes]:
        """`boxes.json`: a COCO json whose annotations carry a score. Classes are numbered from 0, as the data
        are, images and boxes from 1."""
        said = [boxes._replace(sample=number) for number, (_, boxes) in enumerate(told, 1)]
        records = result_records(said, int, range(self.num_classes))
        boxes = [
            {"id": number, **record, "area": record["bbox"][2] * record["bbox"][3], "iscrowd": 0}
            for number, record in enumerate(records, 1)
        ]
        images = [
            {"id": number, "file_name": image.file, "height": image.size[0], "width": image.size[1]}
            for number, (image, _) in enumerate(told, 1)
        ]
        classes = [{"id": number, "name": name} for number, name in enumerate(self.class_names)]
        return {"boxes.json": json_bytes({"images": images, "annotations": boxes, "categories": classes})}

    def overlay(self, told: Told, image_HWC: np.ndarray) -> np.ndarray:
        """Boxes of at least 0.3, with class and score."""
        said: ImageBoxes = told.rows
        sure = said.scores_N >= DRAWN_SCORE
        return self._drawn(image_HWC, said.boxes_N4[sure], said.classes_N[sure], said.scores_N[sure])

    def _drawn(
        self, image_HWC: np.ndarray, boxes_N4: np.ndarray, classes_N: np.ndarray, scores_N: np.ndarray
    ) -> np.ndarray:
        pairs = zip(classes_N.tolist(), scores_N.tolist(), strict=True)
        texts = [f"{self.class_names[number]} {score:.0%}" for number, score in pairs]
        return draw_boxes(image_HWC, boxes_N4, classes_N, texts)

    def _best(self, answers: Answers) -> list[Tensor]:
        """Of each image (N, 6) float64: its best boxes on the canvas, score, class + 1."""
        rows = []
        for boxes_N4, scores_N, classes_N in self._decoded(answers):
            best = scores_N.argsort(descending=True, stable=True)[:MOST]
            columns = [boxes_N4[best], scores_N[best, None], classes_N[best, None] + 1]
            rows.append(torch.cat([column.double() for column in columns], dim=1))
        return rows

    def _decoded(self, answers: Answers) -> list[tuple[Tensor, Tensor, Tensor]]:
        assert self.grid is not None, "`meet` comes first"
        return _decode()(answers, self.grid, self.num_classes, self.canvas)


def _taps(grid: DenseGrid) -> tuple[str, ...]:
    return tuple(tap for kind in _KINDS for tap in grid.groups.get(kind, ()))


def _grid_in(network: nn.Module | Ask) -> DenseGrid | None:
    """The grid of a network, or of the one that is wrapped."""
    parts = network.modules() if isinstance(network, nn.Module) else [network]
    grids = (getattr(part, "grid", None) for part in parts)
    return next((one for one in grids if isinstance(one, DenseGrid)), None)


def _grid_of(network: nn.Module | Ask) -> DenseGrid:
    """The same. Raises BadOption where there is none."""
    grid = _grid_in(network)
    if grid is None:
        raise BadOption(
            "this network answers no dense maps of boxes, which are judged by average precision",
            where="evaluation",
            fix="judge a detector, such as a run of --student gfl:r18",
        )
    return grid


def _decode() -> Decode:
    """From maps to boxes, as the detectors themselves do it: one way for judges, peek and pictures."""
    decode: Decode = load(DECODE)
    return decode


def _on_stored(boxes_N6: np.ndarray, sample: int, size: tuple[int, int], geometry: Geometry) -> ImageBoxes:
    """Boxes of the canvas in pixels of the stored image, cut to it."""
    height, width = size
    scale = np.array([width / geometry.resize_w, height / geometry.resize_h] * 2)
    boxes_N4 = np.clip(boxes_N6[:, :4] * scale, 0.0, [width, height, width, height])
    return ImageBoxes(sample, boxes_N4, boxes_N6[:, 4], boxes_N6[:, 5].astype(np.int64) - 1)
