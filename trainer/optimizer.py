"""The optimizer: student and learned parts of the losses, at one learning rate and one weight decay."""

from collections.abc import Iterable

import torch
from torch import nn

from kdcache.trainer.config import TrainConfig


def make_optimizer(modules: Iterable[nn.Module], config: TrainConfig) -> torch.optim.Optimizer:
    """SGD (momentum) or AdamW over all trainable parameters of `modules`."""
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=config.base_lr, weight_decay=config.decay)
    return torch.optim.SGD(parameters, lr=config.base_lr, momentum=config.momentum, weight_decay=config.decay)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr
