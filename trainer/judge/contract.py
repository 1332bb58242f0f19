"""What a task's judge does: which answers it reads, of which view of an image, and what it counts of them.

The loop in `judge` owns everything else: images, ranks, precision, modes. A judge fills one table of numbers;
ranks fill tables of their own, which are summed, so that several ranks answer bit for bit what one answers.

Axes: B images of a group, H W pixels. Sizes are (height, width) in pixels.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from kdcache.cache.views.view import Geometry
from kdcache.trainer.judge.metrics import Metrics

Answers = Mapping[str, Tensor]  # tap -> what a network says there, (B, ...)


class Judge(ABC):
    """Judges networks of one task that know the classes `class_names`."""

    taps: ClassVar[tuple[str, ...]] = ("logits",)  # what it reads of a network
    batch_size: ClassVar[int]  # images that are asked about at once, where nobody says how many
    score_name: ClassVar[str]  # of its metrics
    no_teacher: ClassVar[str] = ""  # why no teacher can be asked beside the network; '' where one can
    no_pictures: ClassVar[str] = ""  # why answers cannot be drawn, with {source}'s name; '' where they can

    def __init__(self, class_names: Sequence[str]) -> None:
        self.class_names = tuple(class_names)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @abstractmethod
    def geometry(self, size: tuple[int, int], input_size: tuple[int, int]) -> Geometry:
        """The view of an image of `size` to judge, for a network that was made for `input_size`."""

    def groups(
        self, indices: Sequence[int], batch_size: int, size_of: Callable[[int], tuple[int, int]]
    ) -> list[list[int]]:
        """Images that go through the network together, at most `batch_size`; `size_of` gives an image's size.

        In index order, for judges whose views all have one size.
        """
        del size_of
        return [list(indices[i : i + batch_size]) for i in range(0, len(indices), batch_size)]

    @abstractmethod
    def table(self, num_images: int, device: torch.device) -> Tensor:
        """Zeros, for what is counted of `num_images` images."""

    @abstractmethod
    def check_truth(self, truth: Tensor, key_of: Callable[[int], str]) -> None:
        """Raises BadSample for a class that the network does not know; `key_of` names a row's sample."""

    @abstractmethod
    def fill(
        self, table: Tensor, places: slice, answers: Answers, truth: Tensor, teacher_answers: Answers | None
    ) -> None:
        """Adds one group, which is images `places` of the table, to it.

        `truth` is as `Truth.collate` of the task gives it; the teacher was asked about the same pixels.
        Raises BadOption for a teacher of other classes.
        """

    @abstractmethod
    def metrics(self, table: Tensor, *, with_teacher: bool) -> Metrics:
        """Metrics of a full table, on the CPU."""

    def picture(self, answers: Answers, size: tuple[int, int]) -> np.ndarray:
        """What a network says of one image of `size`, (H, W, 3) uint8; never asked where `no_pictures`."""
        raise NotImplementedError
