"""What a task's judge does: which answers it reads, of which view of an image, and what it counts of them.

The loop in `judge` owns everything else: images, ranks, precision, modes. A judge fills one table of numbers;
ranks fill tables of their own, which are summed, so that several ranks answer bit for bit what one answers.
What does not add up, such as the boxes of one image, has rows of its own there, zeros on every other rank.

Axes: B images of a group, H W pixels. Sizes are (height, width) in pixels.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from kdcache.cache.sources.contract import Source
from kdcache.cache.tasks.panels import Colours
from kdcache.cache.views.view import Geometry
from kdcache.trainer.judge.metrics import Metrics

Answers = Mapping[str, Tensor]  # tap -> what a network says there, (B, ...)
Ask = Callable[[Tensor], Answers]  # images_BHWC uint8 -> tap -> (B, ...)


class Leaving(NamedTuple):
    """How a student of the task leaves the house: what an exported graph answers, and what lies beside it."""

    forms: tuple[str, ...] = ("onnx", "pt2")  # of trainer/export/export.py
    whole_images: bool = False  # images of any size, answers at theirs, enlarged as when judged
    decoder: bool = False  # its maps are no answers yet: a file that decodes them lies beside them
    answers: str = "what the network answers, by tap"  # in words, for people


class ShownImage(NamedTuple):
    """An image of nobody's data set, as it was shown to a network."""

    key: str  # its path without suffix, from where it was looked for
    file: str  # the same with suffix
    size: tuple[int, int]  # of the stored image
    geometry: Geometry  # of the view


class Told(NamedTuple):
    """What a network says of one image, in numbers that others read."""

    map_HW: np.ndarray | None  # uint8, a class for every pixel of the stored image; None: nothing of pixels
    rows: Any = None  # what else a judge keeps of it, for `told_files` and `overlay`


class JudgedImage(NamedTuple):
    """One image of a full table, in the table's order."""

    sample: int  # its index
    size: tuple[int, int]  # of the stored image
    geometry: Geometry  # of the view that was judged
    truth: np.ndarray  # as `Truth.parse` gives it: what the data set says, not what the view shows


class Judge(ABC):
    """Judges networks of one task that know the classes `class_names`."""

    taps: tuple[str, ...] = ("logits",)  # what it reads of a network
    batch_size: ClassVar[int]  # images that are asked about at once, where nobody says how many
    score_name: ClassVar[str]  # of its metrics
    first_images: ClassVar[int] = 0  # on which a teacher is judged before a cache of it is built; 0: on none
    usual_causes: ClassVar[str] = ""  # of a score of 0 there, and what to look at
    no_teacher: ClassVar[str] = ""  # why no teacher can be asked beside the network; '' where one can
    no_pictures: ClassVar[str] = ""  # why answers cannot be drawn, with {source}'s name; '' where they can
    leaving: ClassVar[Leaving] = Leaving()
    # Why nothing can be told of images without a truth; '' where it can.
    no_predictions: ClassVar[str] = "a prediction is a mask, a class or boxes, and this task has none of them"
    # Why there is no list of what a network says of each image; '' where there is one.
    no_records: ClassVar[str] = "what a network says of each image is written where it says boxes"

    coloured: bool = False  # whether answers are classes of pixels, which colours show
    colours: Colours = ()  # of the classes, by id, in pictures: those of the data, where they have some

    def __init__(self, class_names: Sequence[str]) -> None:
        self.class_names = tuple(class_names)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def can_judge(self, network: nn.Module) -> bool:
        """Whether `meet` would take this network."""
        del network
        return True

    def meet(self, network: nn.Module | Ask, input_size: tuple[int, int]) -> None:
        """Learn of the network, before it is asked, what its answers are read with: its `taps`, their scale.

        Raises BadOption for a network that cannot be judged.
        """
        del network, input_size

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
    def metrics(self, table: Tensor, images: Iterable[JudgedImage], *, with_teacher: bool) -> Metrics:
        """Metrics of a full table, on the CPU. `images` are all that it counts, of whatever rank; each is
        read when it is asked for."""

    def picture(self, answers: Answers, image_HWC: np.ndarray) -> np.ndarray:
        """What a network says of this image, (H, W, 3) uint8; never asked where `no_pictures`."""
        raise NotImplementedError

    def words(self, answers: Answers) -> str:
        """What a network says of one image, in words; asked where `no_pictures`."""
        raise NotImplementedError

    def truth_words(self, truth: np.ndarray) -> str:
        """What the data set says of it, as `words` would say it; `truth` is as `Truth.parse` gives it."""
        raise NotImplementedError

    def is_right(self, answers: Answers, truth: np.ndarray) -> bool:
        """Whether `words` name what the data set says."""
        raise NotImplementedError

    def records(self, metrics: Metrics, source: Source) -> list[dict[str, Any]]:
        """What the network said of each image, in a format that other programs read; `source` may know the
        numbers that these go by. Never asked where `no_records`."""
        raise NotImplementedError

    def told(self, answers: Answers, images: Sequence[ShownImage]) -> list[Told]:
        """What the network says of each of these images, from the answers that are judged; `meet` comes
        first. Never asked where `no_predictions`, nor are the next two."""
        raise NotImplementedError

    def told_files(self, told: Sequence[tuple[ShownImage, Any]]) -> Mapping[str, bytes]:
        """File name -> content, of what was said of all images together: pairs of an image and its rows."""
        raise NotImplementedError

    def overlay(self, told: Told, image_HWC: np.ndarray) -> np.ndarray:
        """The stored image (H, W, 3) uint8 with what was said drawn on it."""
        raise NotImplementedError
