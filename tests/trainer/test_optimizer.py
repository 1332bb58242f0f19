"""The optimizer: what moves, and how."""

import torch
from torch import nn

from kdcache.trainer.config import TrainConfig
from kdcache.trainer.steps.schedule import make_optimizer


def test_frozen_parameters_do_not_move() -> None:
    student = nn.Linear(2, 2)
    student.bias.requires_grad_(False)
    optimizer = make_optimizer(student.parameters(), TrainConfig(run="r"))
    moved = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert moved == [id(student.weight)]


def test_nesterov_looks_ahead_by_the_momentum() -> None:
    """With gradient 1 at rate 1: plain moves 1 then 1.9, Nesterov's 1.9 then 2.71."""
    ends = []
    for nesterov in (False, True):
        weight = nn.Parameter(torch.zeros(()))
        config = TrainConfig(run="r", lr=1.0, weight_decay=0.0, nesterov=nesterov)
        optimizer = make_optimizer([weight], config)
        for _ in range(2):
            weight.grad = torch.ones(())
            optimizer.step()
        ends.append(round(-float(weight.detach()), 5))
    assert ends == [2.9, 4.61]
