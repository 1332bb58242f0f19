"""What a judge answers, for every task: one number to compare by, named figures, figures per class."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

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
    def per_class_key(self) -> str:
        """Under which these stand in records: 'per_class_iou'."""
        ...

    @property
    def per_class_title(self) -> str:
        """What these are, with the unit that people read them in: 'IoU %'."""
        ...

    @property
    def num_images(self) -> int: ...
    def named(self) -> dict[str, float]:
        """Figures of the whole split, in printing order."""
        ...


@dataclass(frozen=True)
class NoFigures:
    """What stands in place of the figures of a network whose answers are not all finite: no number is one."""

    judged: Metrics  # what was counted all the same; only its names are told
    not_finite: int  # images for which an answer is infinite or not a number

    @property
    def score_name(self) -> str:
        return self.judged.score_name

    @property
    def score(self) -> float:
        return math.nan

    @property
    def per_class(self) -> Mapping[str, float]:
        return dict.fromkeys(self.judged.per_class, math.nan)

    @property
    def per_class_key(self) -> str:
        return self.judged.per_class_key

    @property
    def per_class_title(self) -> str:
        return self.judged.per_class_title

    @property
    def num_images(self) -> int:
        return self.judged.num_images

    def named(self) -> dict[str, float]:
        return dict.fromkeys(self.judged.named(), math.nan)


def no_figures_said(metrics: Metrics, who: str) -> str:
    """'the student answers infinity or NaN for 3 of 12 images'; '' where every answer is finite."""
    if not isinstance(metrics, NoFigures):
        return ""
    return f"{who} answers infinity or NaN for {metrics.not_finite} of {metrics.num_images} images"


def plain(figures: Mapping[str, float]) -> dict[str, float | None]:
    """As JSON has them: NaN, of what never occurs, is null."""
    return {name: None if math.isnan(value) else value for name, value in figures.items()}


def shown(name: str, value: float) -> str:
    """'91.20 %' for a ratio, '0.3012 nats' for one in nats; 'best/top1' is read as 'top1'. What is not a
    number, of objects that do not occur or of answers that are not finite, is '-'."""
    if math.isnan(value):
        return "-"
    bare = name.rpartition("/")[2]
    if bare == "step":
        return f"{value:.0f}"
    return f"{value:.4f} nats" if bare in IN_NATS else f"{100 * value:.2f} %"
