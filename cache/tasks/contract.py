"""What the cache's side must know of a task: what is stored as truth, which views, taps and networks it has.

A task is one `TaskKind` with one `Truth` (cache/tasks/X.py), one supervised loss (losses/supervised/X.py) and
one judge (trainer/judge/X.py), named in the table. Axes: B rows, H W pixels.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from kdcache.cache.grid import DenseGrid
from kdcache.cache.spec import BadOption, RecipeRules, Task, ViewRules, ceil_div
from kdcache.cache.tasks.panels import Colours
from kdcache.cache.views.view import Geometry, Op

if TYPE_CHECKING:  # what a task is, the help of a command asks too: it should not wait for torch
    from torch import Tensor


class RowTruth(NamedTuple):
    """The truth of one row of a batch, and of the sample that is mixed into it."""

    own: np.ndarray  # as `Truth.parse` gives it
    other: np.ndarray | None = None  # the partner's; the row's own where a mixing recipe mixed nothing
    own_share: float = 1.0  # of the image, 0..1


class Mixed(NamedTuple):
    """Second classes of mixed images. The first one, the batch's truth, has the larger share."""

    labels_B: "Tensor"  # int64
    share_B: "Tensor"  # float32, share of the first class, 0.5 to 1


class AnsweredRow(NamedTuple):
    """What a teacher answered to one row."""

    values: Mapping[str, np.ndarray]  # tap -> (H, W, C) or (C,) float, none of them reduced
    grids: Mapping[str, DenseGrid]  # of dense detectors: '' -> its grid, or 'a.' -> that of member a
    size: tuple[int, int]  # (height, width) of the view in pixels


class Truth(ABC):
    """What is known of a sample: how it is stored, read, moved with the pixels, mixed, collated and shown."""

    suffix: ClassVar[str]  # of its member in a tar of samples: 'label.png', 'cls'
    columns: ClassVar[tuple[str, ...]] = ()  # of a block's index, integers: what is known without the tar
    rides: ClassVar[bool] = False  # an 8-bit map: moved by the image pipeline like the pixels
    counts: ClassVar[str] = ""  # the column of what there is to learn from; 0: nothing. '': from every sample
    one_class: ClassVar[bool] = False  # a class per sample, which losses may know before step 0

    @abstractmethod
    def parse(self, encoded: bytes | memoryview) -> np.ndarray:
        """What a row carries of `Source.label_bytes`: an encoded map (num_bytes,) uint8, which may be a view
        of `encoded`, or a value."""

    def column_values(self, encoded: bytes | None, size: tuple[int, int]) -> dict[str, int]:
        """The entries of `columns` for one sample; None is one that cannot be used. `size` is the stored
        image's (height, width) in pixels."""
        del encoded, size
        return {}

    def from_columns(self, columns: Mapping[str, np.ndarray], row: int) -> np.ndarray | None:
        """The truth where the columns hold all of it, as `parse` gives it; None: it lies in the tar."""
        del columns, row
        return None

    def check_columns(self, columns: Mapping[str, np.ndarray], valid: np.ndarray, num_classes: int) -> None:
        """Raises ValueError where the columns of a block cannot be true of its valid samples."""
        del columns, valid, num_classes

    def check_classes(self, value: np.ndarray, num_classes: int) -> None:
        """Raises ValueError where what `parse` gave names a class that the data do not have."""
        del value, num_classes

    def moved(
        self, value: np.ndarray, geometry: Geometry, effects: Sequence[Op], size: tuple[int, int]
    ) -> np.ndarray:
        """A value under a view of a stored image of `size` = (height, width) pixels; what rides is moved by
        the pipeline and never comes here."""
        del geometry, effects, size
        return value

    @abstractmethod
    def collate(self, rows: Sequence[RowTruth], maps_BHW: "Tensor | None") -> "tuple[Tensor, Mixed | None]":
        """A batch's truth on the CPU, as losses read it; `maps_BHW` is what the pipeline made of maps."""

    def collate_columns(
        self,
        own: Mapping[str, np.ndarray],
        other: Mapping[str, np.ndarray] | None = None,
        own_share: np.ndarray | None = None,
    ) -> "tuple[Tensor, Mixed | None] | None":
        """`collate` of rows whose truth the columns hold, (B,) each; None: they do not hold all of it. Where
        the recipe mixes, `other` is who is mixed in, a row itself where nobody is, `own_share` (B,) float."""
        del own, other, own_share
        return None

    @abstractmethod
    def panel(
        self,
        row: RowTruth,
        map_HW: np.ndarray | None,
        class_names: Sequence[str],
        image_HWC: np.ndarray | None = None,
        colours: Colours = (),
    ) -> np.ndarray:
        """A picture (H, W, 3) uint8 of one row's truth; `image_HWC` are the pixels that it belongs to,
        `colours` those of the classes, by id, where the data have some."""

    def answers(self, row: AnsweredRow) -> dict[str, np.ndarray]:
        """What each teacher says of a row, for `answer_panel`, by the name of what holds it: 'logits', or
        'a.logits' of member a. Empty where what is stored does not say it."""
        return {name: value for name, value in row.values.items() if name.rpartition(".")[2] == "logits"}

    @abstractmethod
    def answer_panel(
        self,
        answer: np.ndarray,
        class_names: Sequence[str],
        image_HWC: np.ndarray | None = None,
        colours: Colours = (),
    ) -> np.ndarray:
        """A picture (H, W, 3) uint8 of one of `answers`; `image_HWC` are the pixels that it is about,
        `colours` as of `panel`."""


class OtherClasses(NamedTuple):
    """What a teacher of other classes than the data's can be good for. Kinds of taps, or their groups."""

    teaches: tuple[str, ...]  # what means the same whatever the classes: kept where nobody names a tap
    scores: tuple[str, ...]  # what is said class by class, and compared with nothing
    instead: str  # what to do where such scores are asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRules:
    """Which networks a task has. `families` maps a family of names (networks/names.py) to its assembler."""

    families: Mapping[str, str]  # family -> 'package.module:function'
    short_family: str  # what r18, r50 ... stand for
    torchvision: tuple[str, ...] = ()  # those of torchvision's own networks ('tv:NAME') that it has
    features_only: tuple[str, ...] = ()  # families without classes
    forms: str  # legal names, for people
    instead: str  # what to take instead of a network of another task
    head: str  # the word for what must be trained before a network can teach
    example_data: str  # a dataset's name, for a command that is proposed
    tag_holds_head: bool  # a pretrained tag names weights with the head in them
    padded: bool  # images are padded to a multiple of the stride, and maps cut back
    default_stride: int | None  # of a network whose stride can be chosen; None: its own
    no_stride: str = ""  # why no stride can be chosen; '' where one can
    no_aux: str = ""  # why there is no auxiliary head; '' where there is one
    student_weights: str  # of a student when none are named: 'imagenet', 'none'
    # Of a student whose encoder begins with weights, where batches are too small to learn them again:
    frozen: str = "none"  # 'stem+stage1': what of the encoder does not learn, when nothing is said
    rests_norms: bool = False  # batch normalisations of the encoder keep their statistics
    other_classes: OtherClasses | None = None  # None: a teacher answers for the classes of the data
    listing_px: tuple[int, int]  # input size that taps are listed for, where nothing says another


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskKind:
    """One task, for build, reader and streams."""

    name: Task
    truth: Truth
    default_taps: tuple[str, ...]  # what most of the published methods read
    default_views: str
    recipes: RecipeRules
    views: ViewRules = ViewRules()
    networks: NetworkRules

    @property
    def views_said(self) -> str:
        """The views that nobody has to name, as they are typed."""
        return self.default_views + (" --mirror" if self.views.mirror else "")

    def check_input(self, size: tuple[int, int], *, where: str) -> None:
        """Raises BadOption for an input of (height, width) pixels that networks of this task cannot take."""
        step = self.views.multiple_px
        if any(side % step for side in size):
            near = "x".join(str(ceil_div(side, step) * step) for side in size)
            raise BadOption(
                f"an input of {size[0]}x{size[1]} pixels: both sides must be multiples of {step}",
                where=where,
                fix=f"use --crop {near}",
            )


def check_ids(ids: np.ndarray, num_classes: int) -> None:
    """Raises ValueError for a class that the data do not have; what is below 0 names none."""
    highest = int(ids.max(initial=-1))
    if highest >= num_classes:
        raise ValueError(f"class {highest}, the data have 0..{num_classes - 1}")


def share_lines(row: RowTruth, own: Any, other: Any) -> list[str]:
    """What is mixed, in words: one line, or two with their shares."""
    if row.other is None:
        return [str(own)]
    return [f"{row.own_share:.0%} {own}", f"{1 - row.own_share:.0%} {other}"]
