"""Formulas in float32 whatever the surroundings: half overflows in sums over 10^7 cells and in L1 / 0.07."""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec

import torch
from torch import Tensor

P = ParamSpec("P")


def in_float32(formula: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Run a formula with autocast off and its half-precision arguments as float32. float64 stays float64."""

    @functools.wraps(formula)
    def run(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        device = next(a.device.type for a in (*args, *kwargs.values()) if isinstance(a, Tensor))
        wide: Any = [_widen(a) for a in args]
        wide_kw: Any = {k: _widen(v) for k, v in kwargs.items()}
        with torch.autocast(device, enabled=False):
            return formula(*wide, **wide_kw)

    return run


def _widen(value: object) -> object:
    if isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16):
        return value.float()
    return value
