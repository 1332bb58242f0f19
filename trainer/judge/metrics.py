"""What an evaluation answers, for every task: one number to compare by, named figures, figures per class."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

IN_NATS = frozenset({"nll", "teacher_kl"})  # every other figure is a ratio in 0..1


class Metrics(Protocol):
    """Quality of one network on one split."""

    @property
    def score_name(self) -> str:
        """Which of the named figures decides between two students."""
        ...

    @property
    def score(self) -> float:
        """That figure; larger is better."""
        ...

    @property
    def per_class(self) -> Mapping[str, float]:
        """Class name -> ratio in 0..1; nan for a class that never occurs."""
        ...

    @property
    def num_images(self) -> int: ...
    def named(self) -> dict[str, float]:
        """Figures of the whole split, in printing order."""
        ...


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
        return "miou"

    @property
    def score(self) -> float:
        return self.miou

    @property
    def per_class(self) -> Mapping[str, float]:
        return self.per_class_iou

    def named(self) -> dict[str, float]:
        return {
            "miou": self.miou,
            "miou_absent_zero": self.miou_absent_zero,
            "pixel_accuracy": self.pixel_accuracy,
        }


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
        return "top1"

    @property
    def score(self) -> float:
        return self.top1

    @property
    def per_class(self) -> Mapping[str, float]:
        return self.per_class_accuracy

    def named(self) -> dict[str, float]:
        figures = {"top1": self.top1, "top5": self.top5, "nll": self.nll, "ece": self.ece}
        beside = {"agreement": self.agreement, "teacher_kl": self.teacher_kl}
        return figures | {name: value for name, value in beside.items() if value is not None}


def shown(name: str, value: float) -> str:
    """'91.20 %' for a ratio, '0.3012 nats' for one in nats; 'best/top1' is read as 'top1'."""
    bare = name.rpartition("/")[2]
    if bare == "step":
        return f"{value:.0f}"
    return f"{value:.4f} nats" if bare in IN_NATS else f"{100 * value:.2f} %"
