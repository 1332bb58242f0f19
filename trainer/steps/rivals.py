"""Learned parts that play against the student (critics, generators), each with an optimizer of its own.

Per optimizer step: student's backward with the rival frozen (gradients reach the student through it, not its
weights) -> `learn` per micro batch, on what the student said before its step -> `step`: mean of the gradients
over the ranks, learning rate lr * (1 - step / steps)**power, optimizer. In float32 whatever the student's
precision, because a critic's gradient penalty is differentiated twice. DDP is given the rivals frozen and
does not know them, so their gradients are averaged here; their first weights are DDP's broadcast ones.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from kdcache.losses.contract import LossTerm, Rival
from kdcache.losses.loss_set import LossSet
from kdcache.losses.step_inputs import StepInputs
from kdcache.trainer.steps.finite import norms_of
from kdcache.trainer.steps.schedule import set_lr


class Player(NamedTuple):
    """One rival: the term that knows its loss, its settings, its optimizer."""

    term: LossTerm
    rival: Rival
    optimizer: torch.optim.Optimizer

    @property
    def weights(self) -> list[nn.Parameter]:
        return list(self.rival.module.parameters())


def detached(inputs: StepInputs) -> StepInputs:
    """The same step with the student's tensors cut from its graph, as they were before its step."""
    return inputs._replace(student={tap: value.detach() for tap, value in inputs.student.items()})


class Rivals:
    """All rivals of a run. False when there are none."""

    def __init__(self, rivals: Mapping[str, Rival], losses: LossSet, *, steps: int) -> None:
        """`rivals` maps the label of a term in `losses` to its rival."""
        self._players: dict[str, Player] = {}
        for label, rival in rivals.items():
            term = losses.terms[label]
            assert isinstance(term, LossTerm)
            self._players[label] = Player(term, rival, _optimizer(rival))
        self._steps = steps

    def __bool__(self) -> bool:
        return bool(self._players)

    def freeze(self, frozen: bool = True) -> None:
        for player in self._players.values():
            player.rival.module.requires_grad_(not frozen)

    def learn(self, inputs: StepInputs, *, share: float) -> None:
        """Add `share` times the gradient of one micro batch. `inputs` hold detached student tensors."""
        for player in self._players.values():
            player.rival.module.requires_grad_(True)
            try:
                loss: Tensor = player.term.rival_loss(inputs) * share
                loss.backward(inputs=player.weights)  # type: ignore[no-untyped-call]
            finally:
                player.rival.module.requires_grad_(False)

    def step(self, step: int, accelerator: Accelerator, *, skips: bool = False) -> bool:
        """Average the gradients over the ranks and move every rival once. With `skips` one whose gradient is
        not finite stays where it is; whether one did."""
        left_out = False
        for player in self._players.values():
            _average_gradients(player.weights, accelerator)
            power = player.rival.poly_power
            set_lr(player.optimizer, player.rival.lr * (1 - step / self._steps) ** power)
            if skips and not _finite(player.weights):
                left_out = True
            else:
                player.optimizer.step()
            player.optimizer.zero_grad()
        return left_out

    def state_dict(self) -> dict[str, Any]:
        """Label -> optimizer state; the weights are among those of the losses."""
        return {label: player.optimizer.state_dict() for label, player in self._players.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for label, player in self._players.items():
            player.optimizer.load_state_dict(state[label])


def _optimizer(rival: Rival) -> torch.optim.Optimizer:
    weights = list(rival.module.parameters())
    if rival.optimizer == "adam":
        return torch.optim.Adam(weights, rival.lr, betas=rival.betas, weight_decay=rival.weight_decay)
    return torch.optim.SGD(weights, rival.lr, momentum=rival.momentum, weight_decay=rival.weight_decay)


def _finite(weights: list[nn.Parameter]) -> bool:
    norms = norms_of(weight.grad for weight in weights if weight.grad is not None)
    return bool(torch.stack(norms).isfinite().all()) if norms else True


def _average_gradients(weights: list[nn.Parameter], accelerator: Accelerator) -> None:
    """One exchange for all of them; a weight without a gradient on a rank counts as 0 there."""
    if accelerator.num_processes == 1:
        return
    flat = [torch.zeros_like(w) if w.grad is None else w.grad for w in weights]
    means = accelerator.reduce(torch.cat([grad.flatten() for grad in flat]), reduction="mean")
    for weight, mean in zip(weights, means.split([w.numel() for w in weights]), strict=True):
        weight.grad = mean.view_as(weight).clone()
