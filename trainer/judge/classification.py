"""Classification quality: accuracy, calibration, and agreement with a teacher.

An image of the network's input size is taken as it is; another is resized until it covers the input size
divided by 0.875 and its centre is cut out (Krizhevsky et al. 2012 as ResNet's authors and timm evaluate), so
no border is ever filled.

Every image leaves one row of figures.

Axes: B batch, K classes, N images. Cost: one forward per image and 56 bytes a row.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from kdcache.cache.errors import BadOption, BadSample
from kdcache.cache.tasks.panels import caption
from kdcache.cache.views.draw import centre_view
from kdcache.cache.views.view import Geometry
from kdcache.trainer.judge.contract import Answers, JudgedImage, Leaving, ShownImage, Told
from kdcache.trainer.judge.contract import Judge as TaskJudge
from kdcache.trainer.judge.told import csv_bytes

ECE_BINS = 15
SCORE = "top1"


class ClassificationMetrics(NamedTuple):
    """Ratios in 0..1, `nll` and `teacher_kl` in nats; a class's accuracy is nan when it has no image.

    `top5` looks at min(5, classes) answers. `ece` is the expected calibration error over 15 bins of equal
    width (Guo et al. 2017). With a teacher, `agreement` is the share of images to which both give the same
    first answer, and `teacher_kl` the mean KL(teacher || student) of their distributions at temperature 1.
    """

    top1: float
    top5: float
    nll: float
    ece: float
    per_class_accuracy: Mapping[str, float]
    num_images: int
    agreement: float | None = None
    teacher_kl: float | None = None

    @property
    def score_name(self) -> str:
        return SCORE

    @property
    def score(self) -> float:
        return self.top1

    @property
    def per_class(self) -> Mapping[str, float]:
        return self.per_class_accuracy

    @property
    def per_class_key(self) -> str:
        return "per_class_accuracy"

    @property
    def per_class_title(self) -> str:
        return "accuracy %"

    def named(self) -> dict[str, float]:
        figures = {"top1": self.top1, "top5": self.top5, "nll": self.nll, "ece": self.ece}
        beside = {"agreement": self.agreement, "teacher_kl": self.teacher_kl}
        return figures | {name: value for name, value in beside.items() if value is not None}


class Figures(NamedTuple):
    """What is kept of every image; the columns of the table, float64 (B,) or (N,)."""

    label: Tensor
    hit: Tensor  # 1 where the first answer is the label
    hit5: Tensor
    nll: Tensor
    confidence: Tensor
    agrees: Tensor  # 1 where the teacher's first answer is the same
    kl: Tensor


class Judge(TaskJudge):
    """The table: (N, 7), one row of `Figures` per image."""

    batch_size = 64
    score_name = SCORE
    no_predictions = ""
    leaving = Leaving(
        forms=("timm", "onnx", "pt2"),
        answers="logits (batch, classes); their softmax are probabilities",
    )
    no_pictures = "pictures of what networks say are of segmentation, and {source} has one class an image"

    def geometry(self, size: tuple[int, int], input_size: tuple[int, int]) -> Geometry:
        """The centre at the input size."""
        (resized_h, resized_w), (y, x) = centre_view(*size, input_size)
        return Geometry(resized_h, resized_w, 0, y, x, *input_size)

    def table(self, num_images: int, device: torch.device) -> Tensor:
        return torch.zeros(num_images, len(Figures._fields), dtype=torch.float64, device=device)

    def check_truth(self, truth: Tensor, key_of: Callable[[int], str]) -> None:
        wrong = ((truth < 0) | (truth >= self.num_classes)).nonzero().flatten().tolist()
        if wrong:
            raise BadSample(
                f"class of '{key_of(wrong[0])}' is {int(truth[wrong[0]])}, the network knows "
                f"classes 0..{self.num_classes - 1}",
                where="evaluation",
                fix="evaluate a network of as many classes, or use the data it was trained on",
            )

    def fill(
        self, table: Tensor, places: slice, answers: Answers, truth: Tensor, teacher_answers: Answers | None
    ) -> None:
        """`truth` (B,) int64."""
        beside = None if teacher_answers is None else teacher_answers["logits"]
        table[places] = torch.stack(figures_of(answers["logits"], truth, beside), dim=1)

    def metrics(
        self, table: Tensor, images: Iterable[JudgedImage], *, with_teacher: bool
    ) -> ClassificationMetrics:
        del images
        return metrics_of(Figures(*table.unbind(1)), self.class_names, with_teacher=with_teacher)

    def words(self, answers: Answers) -> str:
        """The first answer and its probability: 'cat, 93 %'."""
        share, number = answers["logits"][0].float().softmax(0).max(0)
        return f"{self.class_names[int(number)]}, {100 * float(share):.0f} %"

    def truth_words(self, truth: np.ndarray) -> str:
        return self.class_names[int(truth[0])]

    def is_right(self, answers: Answers, truth: np.ndarray) -> bool:
        return int(answers["logits"][0].argmax()) == int(truth[0])

    def told(self, answers: Answers, images: Sequence[ShownImage]) -> list[Told]:
        """Of each image (K,) probabilities."""
        del images
        return [Told(None, p_K) for p_K in answers["logits"].float().softmax(1).cpu().numpy()]

    def told_files(self, told: Sequence[tuple[ShownImage, Any]]) -> Mapping[str, bytes]:
        """`predictions.csv`: the first answer of each image, its probability, and those of all classes."""
        rows = [
            (image.file, int(p_K.argmax()), self.class_names[int(p_K.argmax())], p_K.max(), *p_K)
            for image, p_K in told
        ]
        head = ("image", "id", "class", "probability", *(f"p({name})" for name in self.class_names))
        return {"predictions.csv": csv_bytes(head, rows)}

    def overlay(self, told: Told, image_HWC: np.ndarray) -> np.ndarray:
        """The first answer in a corner."""
        best = int(told.rows.argmax())
        return caption(image_HWC, f"{self.class_names[best]} {told.rows[best]:.0%}", best)


def figures_of(logits_BK: Tensor, labels_B: Tensor, teacher_BK: Tensor | None) -> Figures:
    """Figures of each image; the teacher's are 0 without one. Formulas in float32. Raises BadOption for a
    teacher of other classes."""
    if teacher_BK is not None and teacher_BK.shape != logits_BK.shape:
        raise BadOption(
            f"the teacher answers {teacher_BK.shape[-1]} classes, the student {logits_BK.shape[-1]}",
            where="--teacher",
            fix="name a teacher of the student's own classes",
        )
    logits_BK = logits_BK.float()
    log_p_BK = log_softmax(logits_BK, dim=1)
    best_B5 = logits_BK.topk(min(5, logits_BK.shape[1]), dim=1).indices
    hits_B5 = best_B5 == labels_B[:, None]
    agrees_B = kl_B = torch.zeros_like(log_p_BK[:, 0])
    if teacher_BK is not None:
        log_t_BK = log_softmax(teacher_BK.float(), dim=1)
        agrees_B = log_t_BK.argmax(1) == best_B5[:, 0]
        kl_B = kl_div(log_p_BK, log_t_BK, reduction="none", log_target=True).sum(1)
    columns = Figures(
        label=labels_B,
        hit=hits_B5[:, 0],
        hit5=hits_B5.any(1),
        nll=cross_entropy(logits_BK, labels_B, reduction="none"),
        confidence=log_p_BK.max(1).values.exp(),
        agrees=agrees_B,
        kl=kl_B,
    )
    return Figures(*(column.double() for column in columns))


def metrics_of(figures: Figures, class_names: Sequence[str], *, with_teacher: bool) -> ClassificationMetrics:
    """Metrics of all images' figures."""
    # Here: a build asks this judge whether it looks first, and need not wait two seconds for the library.
    from torchmetrics.functional.classification import binary_calibration_error

    num_classes, labels_N = len(class_names), figures.label.long()
    counts_K = labels_N.bincount(minlength=num_classes).double()
    hits_K = labels_N.bincount(weights=figures.hit, minlength=num_classes)
    accuracy_K = hits_K / counts_K  # 0 / 0 = nan marks a class without images
    # The error of a first answer given with its confidence is a binary calibration error.
    ece = binary_calibration_error(
        figures.confidence.clamp(max=1.0), figures.hit.long(), n_bins=ECE_BINS, norm="l1", validate_args=False
    )
    return ClassificationMetrics(
        top1=float(figures.hit.mean()),
        top5=float(figures.hit5.mean()),
        nll=float(figures.nll.mean()),
        ece=float(ece),
        per_class_accuracy=dict(zip(class_names, accuracy_K.tolist(), strict=True)),
        num_images=len(labels_N),
        agreement=float(figures.agrees.mean()) if with_teacher else None,
        teacher_kl=float(figures.kl.mean()) if with_teacher else None,
    )
