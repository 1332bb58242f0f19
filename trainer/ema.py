"""Exponential moving average of a student: average = decay * average + (1 - decay) * weights, after every
step.

Parameters are averaged; buffers (batch statistics, themselves running averages) are copied.
"""

import copy
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import torch
from torch import nn

Module = TypeVar("Module", bound=nn.Module)


class Ema(Generic[Module]):
    """Holds a second copy of the network, on the same device, outside of the gradient."""

    def __init__(self, network: Module, decay: float) -> None:
        self.network: Module = copy.deepcopy(network).requires_grad_(False).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        averages = [p.data for p in self.network.parameters()]
        torch._foreach_lerp_(averages, [p.data for p in network.parameters()], 1.0 - self.decay)
        for kept, buffer in zip(self.network.buffers(), network.buffers(), strict=True):
            kept.copy_(buffer)

    def state_dict(self) -> dict[str, Any]:
        return self.network.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.network.load_state_dict(state)
