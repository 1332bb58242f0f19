"""Whether a step stayed finite: its loss terms, its gradient, the weights that it left.

Norms are taken of each tensor by itself and stay on the device as two numbers per step, which the reporter
reads together with the losses: nothing is waited for. The cost is one reading of gradients and weights per
step. A norm over float32's range counts as infinite.

`--non-finite skip` must know before the optimizer moves, so it waits for the device once per step, and keeps
a copy of the buffers (batch statistics, memories), which a forward has changed by then.

Under fp16 with a loss scale an infinite gradient is how the scale is found, and the scaler leaves that step
out by itself: gradients are then no matter of this file; losses and weights are.
"""

from collections.abc import Iterable
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

KINDS = ("gradient", "weights")  # of the numbers that a step leaves, in their order


class Watch:
    """Looks at one distiller, step by step."""

    def __init__(
        self, module: nn.Module, student: nn.Module, accelerator: Accelerator, *, skips: bool
    ) -> None:
        self._module, self._accelerator, self.skips = module, accelerator, skips
        self._parameters = list(module.parameters())  # a walk through the modules takes longer than the norms
        self._scaled = accelerator.scaler is not None
        # Some networks keep masks of -inf in a buffer: what began infinite is not watched.
        buffers = [one for one in student.buffers() if one.is_floating_point() and one.numel()]
        self._statistics = [one for one in buffers if bool(one.isfinite().all())]
        self._kept: list[Tensor] = []
        self._nothing = torch.zeros((), device=accelerator.device)
        self._gradient = self._weights = self._nothing

    @torch.no_grad()
    def begin(self) -> None:
        """Before the first micro batch of a step."""
        if self.skips:
            self._kept = [one.clone() for one in self._module.buffers()]

    @torch.no_grad()
    def see_gradient(self) -> None:
        """After the last backward of a step, before clipping."""
        if not self._scaled:
            self._gradient = self._unbounded(p.grad for p in self._parameters if p.grad is not None)

    @torch.no_grad()
    def see_weights(self) -> None:
        """After every optimizer of a step has moved."""
        self._weights = self._unbounded([*self._parameters, *self._statistics])

    def must_skip(self, terms: Iterable[Tensor]) -> bool:
        """Whether the optimizers must not move, the same on every rank; never where faults stop the run."""
        if not self.skips:
            return False
        bad_terms = torch.cat(list(terms)).isfinite().logical_not().any().float()
        bad = torch.maximum(self._gradient, bad_terms)
        return bool(self._accelerator.reduce(bad, reduction="max"))

    @torch.no_grad()
    def undo(self) -> None:
        """Put back what the forwards of a skipped step have changed."""
        for buffer, kept in zip(self._module.buffers(), self._kept, strict=True):
            buffer.copy_(kept)
        self._gradient = self._nothing

    def faults(self) -> Tensor:
        """(2,) float32 in the order of `KINDS`: 1 where the step was not finite."""
        return torch.stack([self._gradient, self._weights])

    def _unbounded(self, tensors: Iterable[Tensor]) -> Tensor:
        """1.0 where one of the tensors is not finite, else 0.0; on their device."""
        norms = norms_of(tensors)
        return torch.stack(norms).isfinite().logical_not().any().float() if norms else self._nothing


def norms_of(tensors: Iterable[Tensor]) -> list[Tensor]:
    """The 2-norm of each, float32; of those that hold anything."""
    some = [one.detach() for one in tensors if one.numel()]
    norms: Any = torch._foreach_norm(some) if some else ()
    return [one.float() for one in norms]
