"""The steps of `fake_methods:CurvedCritic` written down: its gradient in closed form, SGD by its definition.

gradient    mean over all micro batches and ranks of [ mean sigma(w x + b) (x, 1) of the student's cells
            - the same of the teacher's ]
SGD         v <- momentum v + gradient + decay (w, b);  (w, b) <- (w, b) - lr (1 - step / steps)^power v
"""

from collections.abc import Sequence

import torch
from fake_methods import CurvedCritic
from torch import Tensor, nn

Shown = Sequence[tuple[Tensor, Tensor]]


def weights_of(critic: nn.Module) -> Tensor:
    """(C + 1,) float64: w, then b."""
    return torch.cat([p.detach().double().flatten() for p in critic.parameters()])


def gradient(weights_C1: Tensor, shown: Shown) -> Tensor:
    """(C + 1,) float64, the mean over what was shown."""
    slopes = [slope(weights_C1, fake) - slope(weights_C1, real) for fake, real in shown]
    return torch.stack(slopes).mean(0)


def slope(weights_C1: Tensor, map_BCHW: Tensor) -> Tensor:
    """Of mean softplus(w x + b) for (w, b)."""
    cells_NC = map_BCHW.double().movedim(1, 3).flatten(0, 2)
    cells_NC1 = torch.cat([cells_NC, torch.ones(len(cells_NC), 1, dtype=torch.float64)], 1)
    return ((cells_NC1 @ weights_C1).sigmoid()[:, None] * cells_NC1).mean(0)


class ByHand:
    """Follows the critic from the weights that it has now."""

    def __init__(self, critic: nn.Module, *, steps: int) -> None:
        self.weights_C1, self.steps = weights_of(critic), steps
        self.velocity_C1 = torch.zeros_like(self.weights_C1)

    def step(self, step: int, shown: Shown) -> Tensor:
        """The weights after step `step`, whose micro batches showed this."""
        full_C1 = gradient(self.weights_C1, shown) + CurvedCritic.DECAY * self.weights_C1
        self.velocity_C1 = CurvedCritic.MOMENTUM * self.velocity_C1 + full_C1
        rate = CurvedCritic.LR * (1 - step / self.steps) ** CurvedCritic.POWER
        self.weights_C1 = self.weights_C1 - rate * self.velocity_C1
        return self.weights_C1
