"""The learning rate as a pure function of the step, when something is due, and the optimizer that is told so.

A prepared scheduler would advance once per process and would have to be saved; a function needs neither. The
schedules and optimizers themselves are named in options.py.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from kdcache.cache.errors import BadOption
from kdcache.trainer.steps.options import OPTIMIZERS, SCHEDULES, RateOptions, StepOptions

SHARE = "share"  # of the rate, in a group of an optimizer's parameters; checkpoints keep it


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


def make_optimizer(
    parameters: Iterable[nn.Parameter], options: RateOptions, *, encoder: Iterable[nn.Parameter] = ()
) -> torch.optim.Optimizer:
    """SGD (momentum, with --nesterov Nesterov's) or AdamW over the trainable ones of `parameters`, at one
    weight decay and one rate, but for those of `encoder`, which have their share of it.

    Who moves what is the step's to say: parts with an optimizer of their own are not among them. Raises
    BadOption for a share of an encoder that is not known, or does not learn.
    """
    kind = OPTIMIZERS[options.optimizer]
    learning = [parameter for parameter in parameters if parameter.requires_grad]
    groups: list[dict[str, Any]] = [{"params": learning}]
    if options.encoder_lr != 1:
        known = {id(parameter) for parameter in encoder}
        groups = [
            {"params": [parameter for parameter in learning if id(parameter) not in known]},
            {
                "params": [parameter for parameter in learning if id(parameter) in known],
                SHARE: options.encoder_lr,
            },
        ]
        if not groups[1]["params"]:
            raise BadOption(
                "--encoder-lr for a student without an encoder that is known and learns",
                where=f"--encoder-lr {options.encoder_lr:g}",
                fix="leave --encoder-lr out, or take a student with an encoder, such as r18",
            )
    made: torch.optim.Optimizer = getattr(torch.optim, kind.torch_name)(
        groups,
        lr=options.base_lr,
        weight_decay=options.decay,
        **{name: getattr(options, name) for name in kind.reads},
    )
    set_lr(made, options.base_lr)
    return made


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """To each group of parameters its share of `lr`."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get(SHARE, 1.0)
