"""Options of the steps: how many, how large, the optimizer and its rate. Schedules and optimizers by name.

Every schedule is written over shares of the run: a run of 30 epochs has its drops at the same shares as one
of 240. That is what an early-stopped teacher is (Cho and Hariharan 2019): a shortened schedule that is run to
its end, not a snapshot of a long one.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, Self

from kdcache.cache.errors import BadOption
from kdcache.trainer.folder.option_field import (
    A_COUNT_OF_ROWS,
    A_COUNT_OF_STEPS,
    LARGEST,
    MOST_STEPS,
    Legal,
    Section,
    bad,
    flag,
    not_negative,
    option,
    positive,
    share_text,
    spelled,
)

_ROUNDING = 1e-6  # steps; 0.7 * 10 is a little more than 7
# SGD's memory of a gradient grows without end at 1. A norm that never clips is a common way to ask for norms.
_MOMENTUM = Legal("0 or more, below 1", lambda value: 0 <= value < 1)
_LARGEST_NORM = 1e30


STOP_NON_FINITE, SKIP_NON_FINITE = "stop", "skip"


class OptimizerKind(NamedTuple):
    """An optimizer of torch.optim, and what it takes where nothing was said."""

    torch_name: str
    lr: float
    weight_decay: float
    reads: tuple[str, ...] = ()  # fields of `RateOptions` that are arguments of it alone


OPTIMIZERS: Mapping[str, OptimizerKind] = {
    "sgd": OptimizerKind("SGD", lr=0.02, weight_decay=1e-4, reads=("momentum", "nesterov")),
    "adamw": OptimizerKind("AdamW", lr=2e-4, weight_decay=0.01),
}


class Schedule(NamedTuple):
    """How the rate falls. `factor` multiplies the base rate in step `step` (from 0) of `total`."""

    factor: Callable[["RateOptions", int, int], float]
    words: Callable[["RateOptions"], str]  # what happens to the rate, for people
    reads: tuple[str, ...] = ()  # fields of `RateOptions` that belong to it alone


def _poly(options: "RateOptions", step: int, total: int) -> float:
    """DeepLab (Chen et al. 2016, section 4.1), with power 0.9."""
    return float((1.0 - step / total) ** options.poly_power)


def _multistep(options: "RateOptions", step: int, total: int) -> float:
    """A drop after each milestone; a milestone that falls on a step belongs to it."""
    return float(options.lr_drop ** sum(step >= mark * total - _ROUNDING for mark in options.milestones))


def _cosine(options: "RateOptions", step: int, total: int) -> float:
    """SGDR without restarts (Loshchilov and Hutter 2017, equation 5)."""
    del options
    return (1.0 + math.cos(math.pi * step / total)) / 2


def _drops(options: "RateOptions") -> str:
    marks = ", ".join(share_text(mark) for mark in options.milestones)
    return f"x {options.lr_drop:g} at {marks} of the run"


SCHEDULES: Mapping[str, Schedule] = {
    "poly": Schedule(_poly, lambda options: f"poly {options.poly_power:g}", ("poly_power",)),
    "multistep": Schedule(_multistep, _drops, ("milestones", "lr_drop")),
    "cosine": Schedule(_cosine, lambda options: "cosine"),
}


def _each(value: Callable[[OptimizerKind], float]) -> str:
    """'0.02 for sgd, 0.0002 for adamw'."""
    return ", ".join(f"{spelled(value(kind))} for {name}" for name, kind in OPTIMIZERS.items())


def parse_milestones(text: str) -> tuple[float, ...]:
    """'0.5,0.75', '50%,75%' or '1/2,3/4' -> (0.5, 0.75): shares of the run."""
    try:
        return tuple(_share(part) for part in text.replace(" ", "").split(","))
    except (ValueError, ZeroDivisionError, OverflowError):
        legal = "shares of the run, such as 0.625,0.75,0.875, 50%,75% or 8/12,11/12"
        raise bad("milestones", text, legal) from None


def _share(text: str) -> float:
    above, slash, below = text.partition("/")
    if slash:
        return int(above) / int(below)
    return float(text[:-1]) / 100 if text.endswith("%") else float(text)


@dataclass(frozen=True, kw_only=True)
class LengthOptions(Section):
    """How long a run is, and how many samples a step has."""

    steps: int = option(40_000, help="Optimizer steps.", legal=A_COUNT_OF_STEPS)
    epochs: float | None = option(  # when given, `steps` is computed from it
        None, help="Passes over the training samples, instead of --steps.", legal=positive(LARGEST)
    )
    # Global: over all ranks and accumulated micro batches.
    batch_size: int = option(16, help="Samples per step over all processes.", legal=A_COUNT_OF_ROWS)
    accumulate: int = option(1, help="Micro batches per step.", legal=A_COUNT_OF_ROWS)

    def with_steps(self, num_samples: int) -> Self:
        """`steps` from `epochs`, where given: the fewest steps that see every sample `epochs` times."""
        if self.epochs is None:
            return self
        steps = max(1, -int(-self.epochs * num_samples // self.batch_size))
        if steps > MOST_STEPS:
            raise bad("epochs", self.epochs, f"fewer: these are {steps} steps, and {MOST_STEPS} are the most")
        return replace(self, steps=steps)

    def check(self) -> None:
        super().check()
        if self.batch_size % self.accumulate:
            raise bad("batch_size", self.batch_size, f"a multiple of --accumulate {self.accumulate}")


def check_one_length(given: Mapping[str, Any]) -> None:
    """Refuses both lengths, among the options that the user wrote. Raises BadOption."""
    if "steps" in given and "epochs" in given:
        raise BadOption(
            "--steps and --epochs together: each says how long the run is",
            where=f"--steps {given['steps']} --epochs {given['epochs']}",
            fix="give one of them",
        )


@dataclass(frozen=True, kw_only=True)
class RateOptions(Section):
    """The optimizer and how its rate goes."""

    optimizer: str = option("sgd", choices=tuple(OPTIMIZERS))
    lr: float | None = option(None, said=_each(lambda kind: kind.lr), legal=positive(LARGEST))
    weight_decay: float | None = option(
        None, said=_each(lambda kind: kind.weight_decay), legal=not_negative(LARGEST)
    )
    momentum: float = option(0.9, legal=_MOMENTUM)
    nesterov: bool = option(False, help="Nesterov's momentum, with sgd.")
    encoder_lr: float = option(
        1.0, help="Share of the rate that the student's encoder has.", legal=positive(LARGEST)
    )
    clip: float | None = option(
        None, help="Largest norm of the student's gradient.", legal=positive(_LARGEST_NORM)
    )
    lr_schedule: str = option(
        "poly", help="How the rate falls over the run, whatever its length.", choices=tuple(SCHEDULES)
    )
    poly_power: float = option(
        0.9, help="poly: rate = lr * (1 - step/steps) ** power.", legal=not_negative(LARGEST)
    )
    # Drops of the rate at epochs 150, 180, 210 of 240, by 10 (Tian et al. 2020, appendix: CIFAR-100).
    milestones: tuple[float, ...] = option(
        (0.625, 0.75, 0.875),
        help="multistep: shares of the run after which it drops.",
        read=parse_milestones,
    )
    lr_drop: float = option(0.1, help="multistep: factor of each drop.", legal=positive(1))
    warmup_steps: int = option(
        0, help="A linear rise first, with any schedule.", legal=not_negative(MOST_STEPS)
    )
    non_finite: str = option(
        STOP_NON_FINITE,
        help="What a loss or gradient of NaN or infinity does: stop the run, or leave that step out.",
        choices=(STOP_NON_FINITE, SKIP_NON_FINITE),
        free_on_resume=True,
    )

    @property
    def base_lr(self) -> float:
        return OPTIMIZERS[self.optimizer].lr if self.lr is None else self.lr

    @property
    def decay(self) -> float:
        return OPTIMIZERS[self.optimizer].weight_decay if self.weight_decay is None else self.weight_decay

    def check(self) -> None:
        super().check()
        self._check_milestones()
        self._check_unread()
        if self.nesterov and ("nesterov" not in OPTIMIZERS[self.optimizer].reads or self.momentum == 0):
            raise BadOption(
                "--nesterov without the momentum of sgd",
                where=f"--nesterov --optimizer {self.optimizer} --momentum {self.momentum:g}",
                fix="use --optimizer sgd with a momentum above 0, or leave --nesterov out",
            )

    def _check_milestones(self) -> None:
        marks = self.milestones
        inside = all(0 < mark < 1 for mark in marks)
        if not marks or not inside or any(a >= b for a, b in zip(marks, marks[1:], strict=False)):
            legal = "rising shares of the run between 0 and 1, such as 0.5,0.75"
            raise bad("milestones", spelled(marks) or "empty", legal)

    def _check_unread(self) -> None:
        """No number that the chosen schedule would not read."""
        defaults = {one.name: one.default for one in fields(self)}
        for owner, schedule in SCHEDULES.items():
            for name in schedule.reads:
                if owner != self.lr_schedule and getattr(self, name) != defaults[name]:
                    raise BadOption(
                        f"{flag(name)} with --lr-schedule {self.lr_schedule}, which does not read it",
                        where=f"{flag(name)} {getattr(self, name)}",
                        fix=f"add --lr-schedule {owner}, or leave {flag(name)} out",
                    )


@dataclass(frozen=True, kw_only=True)
class StepOptions(LengthOptions, RateOptions):
    """What the rate of a step depends on."""
