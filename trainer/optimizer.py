"""The optimizer: student and learned parts of the losses, at one learning rate and one weight decay."""

from collections.abc import Iterable

import torch
from torch import nn

from kdcache.trainer.config import TrainConfig


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
