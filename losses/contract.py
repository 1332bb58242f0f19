"""What a loss is: a module that declares what it reads, takes options as typed keywords, returns scalars.

A new loss is one file with one `LossTerm` child, a line in `plan/table.py` and a test against its formula:

    class Example(LossTerm):
        needs = (Need(tap="stage4"),)
        student_taps = ("stage4",)

        def __init__(self, maps: Maps, *, tau: Annotated[Positive, About("temperature")] = 1.0) -> None: ...
        def forward(self, inputs: StepInputs) -> Tensor: ...

The keyword-only parameters of `__init__` are its options (see `options.py`); `weight` and the schedules of
`schedules.py` belong to every loss and are applied outside the module. Buffers that a loss fills (memories,
queues) must be equal on all ranks: gather what enters them (`formulas/gather.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

from torch import Tensor, nn

from kdcache.cache.grid import DenseGrid
from kdcache.cache.spec import Need, Task, TensorSpec
from kdcache.cache.tasks.table import CLASSIFICATION, SEGMENTATION
from kdcache.losses.options import OptionValue
from kdcache.losses.step_inputs import StepInputs


class Facts(NamedTuple):
    """What is known of the data before the first step, for memories, class counts and checks."""

    task: Task | None = None  # None: nobody said
    num_classes: int = 0
    num_samples: int = 0
    labels_N: Tensor | None = None  # int64 class of every sample, -1 where invalid; None: not one class each
    classifier_KD: Tensor | None = None  # float32 weight of the teacher's last linear layer
    steps_per_epoch: float = 1.0
    input_size: tuple[int, int] = (0, 0)  # pixels, (height, width)
    class_names: tuple[str, ...] = ()  # of the data, by number
    teacher_classes: tuple[str, ...] = ()  # of what the teacher answers; (): nobody said
    num_teacher_classes: int = 0  # where nobody names them; 0: nobody counted


NO_FACTS = Facts()


class Maps(NamedTuple):
    """The maps that will arrive, known before the first step: channels and sizes for layers and checks."""

    student: Mapping[str, TensorSpec]  # tap -> spec
    teacher: Mapping[str, TensorSpec]  # name of a need -> spec
    facts: Facts = NO_FACTS
    student_grid: DenseGrid | None = None  # of networks that answer dense maps per level
    teacher_grid: DenseGrid | None = None


class Reads(NamedTuple):
    """What one term reads under its options."""

    student_taps: tuple[str, ...]
    needs: tuple[Need, ...]
    optional_taps: tuple[str, ...] = ()  # read where the students have them
    optional_needs: tuple[Need, ...] = ()  # read where the cache keeps them, or the live teacher has them


@dataclass(frozen=True, slots=True)
class StudentForm:
    """What is trained: one student, one with exits, several branches of one, or several students.

    Taps that the form adds: `exit1.logits`, `exit1.embedding` ...; `peer0.logits`, `peer0.embedding` ...;
    `trunk` with branches.
    """

    kind: Literal["plain", "exits", "branches", "peers"] = "plain"
    count: int = 1
    deployed: int = 0  # which of several is judged and exported
    option: str = ""  # a variant of the form


PLAIN = StudentForm()
StepForm = Literal["joint", "in_turn", "generator"]


class Rival(NamedTuple):
    """Learned parts that play against the student, with an optimizer of their own (critics, generators)."""

    module: nn.Module
    optimizer: Literal["sgd", "adam"]
    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.9
    weight_decay: float = 0.0
    poly_power: float = 0.0  # rate = lr * (1 - step / steps) ** power


class Method(NamedTuple):
    """The entry of a method in `kdtrain methods` and docs/methods.md."""

    title: str
    source: str  # authors, year, link
    code: str  # repository, commit, file
    cacheable: str = "yes"  # or 'no: why'
    modules: str = "none"  # learned parts, dropped after training
    defaults: str = ""  # per dataset, where they differ
    published: str = ""  # result that the authors report
    detectors: tuple[str, ...] = ()  # dense detectors that its numbers are published for, by family
    elsewhere: tuple[str, ...] = ()  # and those that it takes besides, with numbers of ours


class Refusal(NamedTuple):
    """Why a method is none for a task, where people would expect it, and what to take."""

    reason: str
    instead: str


class Weighted(NamedTuple):
    """One scalar of a loss that has several, with the method's own factor in front of it."""

    value: Tensor
    weight: float


LossOutput = Tensor | Mapping[str, Weighted]


class LossTerm(nn.Module):
    """Base of every loss. Class attributes say what it reads; `reads` is for losses whose options change
    that.
    """

    method: ClassVar[Method | None] = None
    # By name and not 'all of the table': a loss that says nothing does not claim a task that comes later.
    tasks: ClassVar[tuple[Task, ...]] = (SEGMENTATION, CLASSIFICATION)
    needs: ClassVar[tuple[Need, ...]] = ()
    student_taps: ClassVar[tuple[str, ...]] = ()
    optional_taps: ClassVar[tuple[str, ...]] = ()
    # Terms the published method comes with.
    companions: ClassVar[Mapping[str, Mapping[str, OptionValue]]] = {}
    # Published options per task, also 'weight', a schedule, or a companion's weight.
    task_settings: ClassVar[Mapping[Task, Mapping[str, OptionValue]]] = {}
    published_weight: ClassVar[float] = 1.0
    # Tasks that the method is refused for with a reason of its own.
    refused: ClassVar[Mapping[Task, Refusal]] = {}
    # Other names of options, as older expressions wrote them: 'tap' -> 'taps'.
    aliases: ClassVar[Mapping[str, str]] = {}
    # L2 norm to which the method clips the gradient of its own weights, and where a task has its own.
    clip_norm: float | None = None
    task_clip: ClassVar[Mapping[Task, float]] = {}
    same_size: ClassVar[bool] = True  # False: takes maps of different sizes on the two sides
    same_channels: ClassVar[bool] = False  # True: its features must have as many channels on both sides
    # Why one step is not the same for every split of its batch: 'the images are summed'; '' where it is. The
    # docstring of the class says it too.
    per_micro_batch: ClassVar[str] = ""
    turns: ClassVar[bool] = False  # True: reads the four quarter turns of every image
    notes: tuple[str, ...] = ()  # set by __init__ when something was decided from the map sizes; said once

    @classmethod
    def reads(cls, options: Mapping[str, OptionValue]) -> Reads:
        """What a term with these (complete, typed) options reads."""
        return Reads(cls.student_taps, cls.needs, cls.optional_taps)

    @classmethod
    def default_weight(cls, options: Mapping[str, OptionValue]) -> float:
        """The published weight of a term with these options."""
        return cls.published_weight

    @classmethod
    def default_companions(
        cls, options: Mapping[str, OptionValue]
    ) -> Mapping[str, Mapping[str, OptionValue]]:
        """The companions that come with these options: all of them, unless a form was published alone."""
        return cls.companions

    @classmethod
    def task_weight(cls, options: Mapping[str, OptionValue]) -> float:
        """The published weight of the task loss beside this term; 0 where the method has its own."""
        return 1.0

    @classmethod
    def task_options(cls, options: Mapping[str, OptionValue]) -> Mapping[str, OptionValue]:
        """Options of the task loss that the method publishes beside this term; expressions may change it."""
        return {}

    @classmethod
    def published_schedule(cls, options: Mapping[str, OptionValue]) -> Mapping[str, float]:
        """Schedule options (`schedules.py`) that the method publishes for these options."""
        return {}

    @classmethod
    def student_form(cls, options: Mapping[str, OptionValue]) -> StudentForm:
        return PLAIN

    @classmethod
    def step_form(cls, options: Mapping[str, OptionValue]) -> StepForm:
        """joint: one optimizer moves everything. in_turn: one network learns per step, each with its own.
        generator: images come from a generator that learns against the teacher.
        """
        return "joint"

    def prepare(self, inputs: StepInputs) -> object:
        """Of the supervised term alone, asked once per micro step without gradient: what every term may read
        as `inputs.prepared`, such as which position of a detector answers for which object."""
        return None

    counts_labels: ClassVar[bool] = False  # of the supervised term alone: `count_labels` says how many

    def count_labels(self, truth: Tensor) -> Tensor:
        """Of the supervised term alone: int64 scalar, how many labels of a micro batch its mean is over.

        Asked ahead for every micro batch of a step; `inputs.labels_per_batch` is what came of it.
        """
        raise NotImplementedError

    def forward(self, inputs: StepInputs) -> LossOutput:
        raise NotImplementedError

    def rival(self) -> Rival | None:
        """Parts that learn against the student; kept out of the student's optimizer."""
        return None

    def rival_loss(self, inputs: StepInputs) -> Tensor:
        """What the rival minimises after the student's step; student tensors are detached, as they were
        before it.
        """
        raise NotImplementedError


def same_tap(options: Mapping[str, OptionValue]) -> Reads:
    """For losses with an option `tap` that names the student's and the teacher's map alike."""
    tap = str(options["tap"])
    return Reads((tap,), (Need(tap=tap),))


def same_taps(options: Mapping[str, OptionValue]) -> Reads:
    """For losses with an option `taps` that lists maps of both sides: 'stage1/stage2/stage3'."""
    taps = tap_list(options["taps"])
    return Reads(taps, tuple(Need(tap=tap) for tap in taps))


def tap_list(value: OptionValue) -> tuple[str, ...]:
    """'stage1/stage2' -> ('stage1', 'stage2')."""
    return tuple(part for part in str(value).split("/") if part)
