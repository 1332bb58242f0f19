"""raw: the numbers themselves as fp16 or fp32, channels last; for logits of few classes and for pooled
vectors.

fp16 keeps 11 bits (relative error 2^-11) and ends at 65504: larger values are refused, never made infinite.
fp32 keeps a float32 network's answer exactly.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from kdcache.cache.codecs.contract import channels_first, channels_last, refuse_non_finite
from kdcache.cache.errors import BadSample
from kdcache.cache.spec import PartSpec, TensorSpec

if TYPE_CHECKING:
    from torch import Tensor

FP16_LARGEST = 65504.0
FLOAT32_LARGEST = float(np.finfo(np.float32).max)
_NAMES = {"float16": "fp16", "float32": "fp32"}
# (relative, absolute) half of a rounding step; the absolute part covers the subnormal numbers.
_ROUNDING = {"float16": (2.0**-11, 2.0**-25), "float32": (2.0**-24, 2.0**-150)}


@dataclass(frozen=True, slots=True)
class Raw:
    """Store every element as `dtype`, nothing else."""

    dtype: Literal["float16", "float32"]

    @property
    def name(self) -> str:
        return _NAMES[self.dtype]

    @property
    def config(self) -> Mapping[str, str | int]:
        return {"codec": "raw", "dtype": self.dtype}

    def parts(self, spec: TensorSpec) -> dict[str, PartSpec]:
        """'values' of the value's own shape: (H,W,C) or (C,)."""
        return {"values": PartSpec(spec.shape, self.dtype, len(spec.shape) == 3)}

    def encode(self, value: "Tensor") -> dict[str, np.ndarray]:
        """(B,C,H,W) or (B,C) -> values (B,H,W,C) or (B,C)."""
        return {name: part.cpu().numpy() for name, part in self.on_device(value).items()}

    def on_device(self, value: "Tensor") -> "dict[str, Tensor]":
        """`encode`, the parts still on the value's device."""
        import torch  # here and below: the size of a row is asked without it

        value = value.detach()
        self._refuse(value)
        return {"values": channels_last(value).to(getattr(torch, self.dtype)).contiguous()}

    def decode(self, parts: Mapping[str, "Tensor"], out: "Tensor | None" = None) -> "Tensor":
        """values (B,H,W,C) or (B,C) -> float32 (B,C,H,W) or (B,C); fp32 without `out` is not copied."""
        values = parts["values"]
        return channels_first(values.float() if out is None else out.copy_(values))

    def bound(self, value: "Tensor") -> "Tensor":
        """Half a step of the stored type at each element; 0 where a float32 or narrower one is kept as
        fp32."""
        import torch

        relative, absolute = _ROUNDING[self.dtype]
        if self.dtype == "float32" and value.dtype != torch.float64:
            relative = absolute = 0.0
        return value.detach().float().abs() * relative + absolute

    def _refuse(self, value: "Tensor") -> None:
        import torch

        if value.numel() == 0:
            return
        low, high = torch.aminmax(value)  # both carry NaN along
        largest = float(torch.maximum(low.abs(), high.abs()))
        if not largest <= FLOAT32_LARGEST:  # also true of NaN
            refuse_non_finite(value.float())
        if self.dtype == "float16" and largest > FP16_LARGEST:
            raise BadSample(
                f"tap value {largest:g} does not fit fp16, which ends at {FP16_LARGEST:g}",
                where=f"a tap of shape {tuple(value.shape[1:])}",
                fix="store this tap as fp32 (--tap NAME=fp32), or a map as int8 (--tap NAME=int8)",
            )
