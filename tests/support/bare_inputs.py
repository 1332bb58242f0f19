"""Step inputs and specs from bare tensors, for tests that call a loss term by hand."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from kdcache.cache.spec import TensorSpec
from kdcache.losses.step_inputs import StepInputs


def step_inputs(
    student: Mapping[str, Tensor],
    teacher: Mapping[str, Tensor],
    labels: Tensor | None = None,
    *,
    epoch: int = 0,
    **more: Any,
) -> StepInputs:
    """Inputs of one step; without labels a single ignored pixel stands there."""
    if labels is None:
        labels = torch.zeros(1, 1, 1, dtype=torch.int64)
    return StepInputs(student, teacher, labels, torch.Generator(), 0, epoch, **more)


def spec(value: Tensor) -> TensorSpec:
    """The spec of a map (B, C, H, W) or a vector (B, C)."""
    if value.ndim == 2:
        return TensorSpec((value.shape[1],), 0)
    _, channels, height, width = value.shape
    return TensorSpec((height, width, channels), stride=8)


def specs(values: Mapping[str, Tensor]) -> dict[str, TensorSpec]:
    return {tap: spec(value) for tap, value in values.items()}
