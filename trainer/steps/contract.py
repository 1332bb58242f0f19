"""What the training loop runs on: the seam between options and steps."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from kdcache.cache.networks.layout import CONTIGUOUS
from kdcache.cache.networks.network import Network
from kdcache.losses.contract import StepForm
from kdcache.losses.loss_set import LossSet
from kdcache.losses.plan.plan import LossPlan
from kdcache.trainer.judge.metrics import Metrics
from kdcache.trainer.stream.batch import Stream

Evaluate = Callable[[nn.Module], Metrics]
Export = Callable[[Path, nn.Module | None, Mapping[str, float]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shareable:
    """What a run reads that others may read with it."""

    pixels: str  # equal for runs whose batches are equal but for the targets
    plan: LossPlan  # whose needs are the targets
    open: Callable[[LossPlan], Stream]  # the same batches with the targets of another plan


@dataclass(frozen=True, slots=True, kw_only=True)
class RunParts:
    """What the loop runs on. Tests give their own."""

    student: nn.Module  # forward(images_BHWC, taps) -> maps; one network, or several (students/contract.py)
    losses: LossSet
    taps: tuple[str, ...]  # student taps that the losses read
    stream: Stream
    evaluate: Evaluate | None  # on the validation split; None when there is none
    score_name: str  # of what it answers, also where there is none: which figure chooses the best student
    export: Export  # (run_dir, student or None to keep its weights, metrics)
    summary: Mapping[str, str]
    resolved: Mapping[str, Any]  # goes into config.toml
    loss_rows: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()
    step_form: StepForm = "joint"
    shareable: Shareable | None = None  # None: nothing that it reads can be shared
    memory_format: str = CONTIGUOUS  # of the student
    teacher: Network | None = None  # only where images come from a generator: it is asked within the step
