"""The learning rate as a pure function of the step, when something is due, and the optimizer that is told so.

A prepared scheduler would advance once per process and would have to be saved; a function needs neither. The
schedules and optimizers themselves are named in options.py.
"""

from collections.abc import Iterable

import torch
from torch import nn

from kdcache.trainer.steps.options import OPTIMIZERS, SCHEDULES, RateOptions, StepOptions


def run_lr(options: StepOptions, step: int) -> float:
    """The rate of step `step` (from 0): the base times the schedule's factor, times a linear ramp over the
    first `warmup_steps`.

    The first step runs at the base (without warmup) and the last one is still above 0. The ramp multiplies
    the schedule, so the rate after it does not depend on its length.
    """
    total, warmup = options.steps, options.warmup_steps
    assert 0 <= step < total, f"step {step} outside 0..{total - 1}"
    ramp = min(1.0, (step + 1) / warmup) if warmup else 1.0
    factor = SCHEDULES[options.lr_schedule].factor(options, step, total)
    return float(options.base_lr * ramp * factor)


def due(done: int, every: int | None, total: int) -> bool:
    """Whether something done each `every` steps, and at the end, is due after `done` finished steps."""
    return done == total or (every is not None and done % every == 0)


def make_optimizer(parameters: Iterable[nn.Parameter], options: RateOptions) -> torch.optim.Optimizer:
    """SGD (momentum, with --nesterov Nesterov's) or AdamW over the trainable ones of `parameters`, all at one
    rate and one weight decay.

    Who moves what is the step's to say: parts with an optimizer of their own are not among them.
    """
    kind = OPTIMIZERS[options.optimizer]
    made: torch.optim.Optimizer = getattr(torch.optim, kind.torch_name)(
        [parameter for parameter in parameters if parameter.requires_grad],
        lr=options.base_lr,
        weight_decay=options.decay,
        **{name: getattr(options, name) for name in kind.reads},
    )
    return made


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr
