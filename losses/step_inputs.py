"""What a loss reads at one step, and what the whole set of losses answers.

Named tuples, because they travel through accelerate's and DDP's wrappers.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor


class StepInputs(NamedTuple):
    """One step's tensors. B batch, C channels, H W cells of a map (labels: pixels)."""

    student: Mapping[str, Tensor]  # tap -> (B, C, H, W) float, with gradient
    teacher: Mapping[str, Tensor]  # name of a need -> (B, C, H, W) float, without gradient
    labels_BHW: Tensor  # int64, 255 = ignore
    generator: torch.Generator  # masks and noise are drawn from it and from nowhere else
    step: int
    epoch: int


class LossValues(NamedTuple):
    """`total` is what to call backward on and equals the sum of `terms`; both mappings are detached, for the
    record.
    """

    total: Tensor
    terms: dict[str, Tensor]  # 'task', 'afdcd.fd' ... -> scalar as it enters the total, every weight applied
    unweighted: dict[str, Tensor]  # same keys -> scalar of the bare formula
