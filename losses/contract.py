"""What a loss is: a module that declares what it reads, takes options as typed keywords, returns scalars.

A new loss is one file with one `LossTerm` child, one line in `table.py` and one test against its formula:

    class Example(LossTerm):
        needs = (Need(tap="stage4"),)
        student_taps = ("stage4",)

        def __init__(self, maps: Maps, *, tau: Positive = 1.0) -> None: ...
        def forward(self, inputs: StepInputs) -> Tensor: ...

The keyword-only parameters of `__init__` are its options (see `options.py`); `weight` belongs to every loss
and is applied outside the module.
"""

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from kdcache.cache.spec import Need, TensorSpec
from kdcache.losses.options import OptionValue
from kdcache.losses.step_inputs import StepInputs


class Maps(NamedTuple):
    """The maps that will arrive, known before the first step: channels and sizes for layers and checks."""

    student: Mapping[str, TensorSpec]  # tap -> spec
    teacher: Mapping[str, TensorSpec]  # name of a need -> spec


class Reads(NamedTuple):
    """What one term reads under its options."""

    student_taps: tuple[str, ...]
    needs: tuple[Need, ...]
    optional_taps: tuple[str, ...] = ()  # read where the student has them


class Weighted(NamedTuple):
    """One scalar of a loss that has several, with the method's own factor in front of it."""

    value: Tensor
    weight: float


LossOutput = Tensor | Mapping[str, Weighted]


class LossTerm(nn.Module):
    """Base of every loss. Class attributes say what it reads; `reads` is for losses whose options change
    that.
    """

    needs: ClassVar[tuple[Need, ...]] = ()
    student_taps: ClassVar[tuple[str, ...]] = ()
    optional_taps: ClassVar[tuple[str, ...]] = ()
    companions: ClassVar[
        Mapping[str, Mapping[str, OptionValue]]
    ] = {}  # terms the published method comes with
    published_weight: ClassVar[float] = 1.0
    clip_norm: ClassVar[float | None] = (
        None  # L2 norm to which the method clips the gradient of its own weights
    )
    notes: tuple[str, ...] = ()  # set by __init__ when something was decided from the map sizes; said once

    @classmethod
    def reads(cls, options: Mapping[str, OptionValue]) -> Reads:
        """What a term with these (complete, typed) options reads."""
        return Reads(cls.student_taps, cls.needs, cls.optional_taps)

    @classmethod
    def default_weight(cls, options: Mapping[str, OptionValue]) -> float:
        """The published weight of a term with these options."""
        return cls.published_weight

    def forward(self, inputs: StepInputs) -> LossOutput:
        raise NotImplementedError


def same_tap(options: Mapping[str, OptionValue]) -> Reads:
    """For losses with an option `tap` that names the student's and the teacher's map alike."""
    tap = str(options["tap"])
    return Reads((tap,), (Need(tap=tap),))
