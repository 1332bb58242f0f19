"""The learning rate as a pure function of the step, and when something is due.

A prepared scheduler would advance once per process and would have to be saved; a function needs neither.
Every schedule is written over shares of the run: a run of 30 epochs has its drops at the same shares as one
of 240. That is what an early-stopped teacher is (Cho and Hariharan 2019): a shortened schedule that is run to
its end, not a snapshot of a long one.

The optimizer: student and learned parts of the losses, at one learning rate and one weight decay.
"""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import nn

from kdcache.cache.errors import unknown
from kdcache.trainer.config import LR_DROP, MILESTONES, POLY_POWER, TrainConfig

SCHEDULES = ("poly", "multistep", "cosine")
_ROUNDING = 1e-6  # steps; 0.7 * 10 is a little more than 7


def lr_at(
    step: int,
    *,
    base: float,
    total: int,
    schedule: str = "poly",
    power: float = POLY_POWER,
    milestones: Sequence[float] = MILESTONES,
    drop: float = LR_DROP,
    warmup: int = 0,
) -> float:
    """`base` times a factor of the schedule, times a linear ramp over the first `warmup` steps.

    poly: (1 - step/total)**power. multistep: drop**n after n of the milestones, each the share of the run at
    which a drop comes. cosine: (1 + cos(pi * step/total)) / 2.

    `step` counts from 0, so the first step runs at `base` (without warmup) and the last one is still above 0.
    The ramp multiplies the schedule, so the rate after it does not depend on its length. Sources: DeepLab
    (Chen et al. 2016, section 4.1) with power 0.9; SGDR (Loshchilov and Hutter 2017, equation 5).
    """
    assert 0 <= step < total, f"step {step} outside 0..{total - 1}"
    ramp = min(1.0, (step + 1) / warmup) if warmup else 1.0
    if schedule == "poly":
        factor = (1.0 - step / total) ** power
    elif schedule == "multistep":
        factor = drop ** sum(step >= mark * total - _ROUNDING for mark in milestones)
    elif schedule == "cosine":
        factor = (1.0 + math.cos(math.pi * step / total)) / 2
    else:
        raise unknown("schedule", schedule, SCHEDULES, where=f"--lr-schedule {schedule}")
    return float(base * ramp * factor)


def run_lr(config: TrainConfig, step: int) -> float:
    """The rate of step `step` (from 0) of a run with these options."""
    return lr_at(
        step,
        base=config.base_lr,
        total=config.steps,
        schedule=config.lr_schedule,
        power=config.poly_power,
        milestones=config.milestones,
        drop=config.lr_drop,
        warmup=config.warmup_steps,
    )


def due(done: int, every: int | None, total: int) -> bool:
    """Whether something done each `every` steps, and at the end, is due after `done` finished steps."""
    return done == total or (every is not None and done % every == 0)


def make_optimizer(parameters: Iterable[nn.Parameter], config: TrainConfig) -> torch.optim.Optimizer:
    """SGD (momentum, with --nesterov Nesterov's) or AdamW over the trainable ones of `parameters`.

    Who moves what is the step's to say: parts with an optimizer of their own are not among them.
    """
    trained = [p for p in parameters if p.requires_grad]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(trained, lr=config.base_lr, weight_decay=config.decay)
    return torch.optim.SGD(
        trained,
        lr=config.base_lr,
        momentum=config.momentum,
        weight_decay=config.decay,
        nesterov=config.nesterov,
    )


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr
