"""What a judge answers, for every task: one number to compare by, named figures, figures per class."""

from collections.abc import Mapping
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


def shown(name: str, value: float) -> str:
    """'91.20 %' for a ratio, '0.3012 nats' for one in nats; 'best/top1' is read as 'top1'."""
    bare = name.rpartition("/")[2]
    if bare == "step":
        return f"{value:.0f}"
    return f"{value:.4f} nats" if bare in IN_NATS else f"{100 * value:.2f} %"
