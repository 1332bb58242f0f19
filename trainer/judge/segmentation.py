"""Segmentation quality on whole images at their native size.

Each image is seen uncropped and unscaled; the logits are enlarged to the label's size (bilinear, corners
aligned) and their argmax is counted into one confusion matrix, pixels labelled 255 left out. Images of equal
size may share a batch; batches never change what is counted.

Axes: B batch, C classes, H W pixels. Cost: one forward per image, and C * H * W * 4 bytes for the
enlarged logits.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from kdcache.cache.errors import BadSample
from kdcache.cache.spec import IGNORE
from kdcache.cache.tasks.panels import class_colour, colour_classes, with_legend
from kdcache.cache.views.view import Geometry
from kdcache.trainer.judge.contract import Answers, JudgedImage, Leaving, ShownImage, Told
from kdcache.trainer.judge.contract import Judge as TaskJudge
from kdcache.trainer.judge.told import csv_bytes

SCORE = "miou"


class SegmentationMetrics(NamedTuple):
    """Ratios in 0..1; a class's IoU is nan when it never occurs.

    `miou` averages the classes that occur in labels or predictions. `miou_absent_zero` is the published
    form of the methods compared here: classes that never occur count as 0, so it is the smaller of the two.
    """

    miou: float
    per_class_iou: Mapping[str, float]
    pixel_accuracy: float
    num_images: int
    miou_absent_zero: float

    @property
    def score_name(self) -> str:
        return SCORE

    @property
    def score(self) -> float:
        return self.miou

    @property
    def per_class(self) -> Mapping[str, float]:
        return self.per_class_iou

    @property
    def per_class_key(self) -> str:
        return "per_class_iou"

    @property
    def per_class_title(self) -> str:
        return "IoU %"

    def named(self) -> dict[str, float]:
        return {
            "miou": self.miou,
            "miou_absent_zero": self.miou_absent_zero,
            "pixel_accuracy": self.pixel_accuracy,
        }


class Judge(TaskJudge):
    """The table: a confusion matrix (C * C), row = label, column = prediction; then the number of images."""

    batch_size = 1
    score_name = SCORE
    coloured = True
    no_teacher = "agreement with a teacher is measured for classification, and this run segments"
    no_predictions = ""
    leaving = Leaving(
        forms=("smp", "onnx", "pt2"),
        whole_images=True,
        answers="logits (batch, classes, height, width) at the size of the image; their argmax is the mask",
    )

    def geometry(self, size: tuple[int, int], input_size: tuple[int, int]) -> Geometry:
        """The whole image as it is."""
        del input_size
        height, width = size
        return Geometry(height, width, 0, 0, 0, height, width)

    def groups(
        self, indices: Sequence[int], batch_size: int, size_of: Callable[[int], tuple[int, int]]
    ) -> list[list[int]]:
        """At most `batch_size` images of one size; in index order when it is 1."""
        if batch_size == 1:
            return [[i] for i in indices]
        by_size: dict[tuple[int, int], list[int]] = {}
        for index in indices:
            by_size.setdefault(size_of(index), []).append(index)
        return [g[i : i + batch_size] for g in by_size.values() for i in range(0, len(g), batch_size)]

    def table(self, num_images: int, device: torch.device) -> Tensor:
        del num_images
        return torch.zeros(self.num_classes**2 + 1, dtype=torch.int64, device=device)

    def check_truth(self, truth: Tensor, key_of: Callable[[int], str]) -> None:
        """A value outside the classes would corrupt the counts of others: refuse it by name."""
        wrong = ((truth >= self.num_classes) & (truth != IGNORE)).flatten(1)
        if not bool(wrong.any()):
            return
        row = int(wrong.any(1).nonzero()[0])
        value = int(truth.flatten(1)[row][wrong[row]][0])
        raise BadSample(
            f"label of '{key_of(row)}' holds {value}, the network knows classes 0..{self.num_classes - 1}",
            where="evaluation",
            fix=f"evaluate a network with more than {value} classes, or use the data it was trained on",
        )

    def fill(
        self, table: Tensor, places: slice, answers: Answers, truth: Tensor, teacher_answers: Answers | None
    ) -> None:
        """`truth` (B, H, W) uint8, 255 = ignore."""
        del places, teacher_answers
        predicted_BHW = predict(answers["logits"], (truth.shape[1], truth.shape[2]))
        table[:-1] += confusion(predicted_BHW, truth, self.num_classes).flatten()
        table[-1] += len(truth)

    def metrics(
        self, table: Tensor, images: Iterable[JudgedImage], *, with_teacher: bool
    ) -> SegmentationMetrics:
        del images, with_teacher
        return metrics_of(table[:-1].reshape(self.num_classes, -1), self.class_names, int(table[-1]))

    def picture(self, answers: Answers, image_HWC: np.ndarray) -> np.ndarray:
        """Classes as colours."""
        height, width = image_HWC.shape[:2]
        classes_HW = predict(answers["logits"], (height, width))[0].numpy()
        return colour_classes(classes_HW.astype(np.uint8), self.num_classes, self.colours)

    def told(self, answers: Answers, images: Sequence[ShownImage]) -> list[Told]:
        classes_BHW = predict(answers["logits"], images[0].size).to(torch.uint8).cpu().numpy()
        return [Told(classes_HW) for classes_HW in classes_BHW]

    def told_files(self, told: Sequence[tuple[ShownImage, Any]]) -> Mapping[str, bytes]:
        """`classes.csv`: what the numbers and the colours of the masks stand for."""
        del told
        rows = [
            (number, name, *class_colour(number, self.colours))
            for number, name in enumerate(self.class_names)
        ]
        return {"classes.csv": csv_bytes(("id", "class", "red", "green", "blue"), rows)}

    def overlay(self, told: Told, image_HWC: np.ndarray) -> np.ndarray:
        """Half the image, half the colours of its classes; below it the names of those that occur."""
        assert told.map_HW is not None
        colours_HWC = colour_classes(told.map_HW, self.num_classes, self.colours)
        mixed_HWC = np.asarray((image_HWC.astype(np.uint16) + colours_HWC) // 2, dtype=np.uint8)
        there = [int(number) for number in np.unique(told.map_HW) if number < self.num_classes]
        named = [(self.class_names[number], class_colour(number, self.colours)) for number in there]
        return with_legend(mixed_HWC, named)


def predict(logits_BChw: Tensor, size: tuple[int, int]) -> Tensor:
    """Class per pixel (B, H, W) int64 at `size` = (H, W): argmax of the enlarged logits, in float32."""
    return interpolate(logits_BChw.float(), size=size, mode="bilinear", align_corners=True).argmax(1)


def confusion(predicted_BHW: Tensor, labels_BHW: Tensor, num_classes: int) -> Tensor:
    """Counts (C, C) int64: row = label, column = prediction. Pixels labelled 255 count nowhere."""
    # Here: a build asks this judge whether it looks first, and need not wait two seconds for the library.
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    counts: Tensor = multiclass_confusion_matrix(
        predicted_BHW, labels_BHW.long(), num_classes, ignore_index=IGNORE, validate_args=False
    )
    return counts


def metrics_of(counts_CC: Tensor, class_names: Sequence[str], num_images: int) -> SegmentationMetrics:
    """Metrics of a confusion matrix. Everything is nan when no pixel was counted."""
    counts = counts_CC.double()
    hits = counts.diagonal()
    union = counts.sum(0) + counts.sum(1) - hits
    iou = hits / union  # 0 / 0 = nan marks a class that never occurs
    nothing = bool(union.sum() == 0)
    return SegmentationMetrics(
        miou=float(iou.nanmean()),
        per_class_iou=dict(zip(class_names, iou.tolist(), strict=True)),
        pixel_accuracy=float(hits.sum() / counts.sum()),
        num_images=num_images,
        miou_absent_zero=math.nan if nothing else float(iou.nan_to_num(0.0).mean()),
    )
