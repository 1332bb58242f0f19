"""int8: one byte per element, with a float32 scale and minimum per row and channel. The codec of dense maps.

    encode  scale = (max - min) / 255 per row and channel; values = round((x - min) / scale)
    decode  x' = values * scale + min, in float32, in place

Gradient error of the dense losses: 1 % with an early, 6 % with a late student, the class of bf16 at half its
bytes (measured; fp8 and int4 are ten times worse). 1 byte per element plus 8 bytes per channel. A channel
that is constant within a row gets scale 0 and is exact. A NaN scale marks a row never written (the fill value
of a float array).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from kdcache.cache.codecs.contract import channels_first, refuse_non_finite
from kdcache.cache.errors import BadOption, BadSample
from kdcache.cache.spec import PartSpec, TensorSpec

if TYPE_CHECKING:
    from torch import Tensor

LEVELS = 255
# Below the normal floats a scale has no precision left: such a channel counts as constant.
SMALLEST_SCALE = 2.0**-126
# Float32 rounding of difference, quotient, product and sum: together below 16 roundings of the largest value.
ROUNDING = 2.0**-20
FLUSHED = LEVELS * SMALLEST_SCALE  # the range that SMALLEST_SCALE gives away


class Int8:
    """Quantise per row and channel to 256 levels."""

    name = "int8"
    config: Mapping[str, str | int] = {"codec": "int8", "levels": LEVELS}

    def parts(self, spec: TensorSpec) -> dict[str, PartSpec]:
        """'values' uint8 (H,W,C) and 'scale' float32 (2,C) = (scale, minimum)."""
        if len(spec.shape) != 3:
            raise BadOption(
                f"int8 quantises over the cells of a map; this tap gives a vector of {spec.channels} values",
                where="--tap NAME=int8",
                fix="store it as fp16: --tap NAME=fp16",
            )
        return {
            "values": PartSpec(spec.shape, "uint8", True),
            "scale": PartSpec((2, spec.channels), "float32", False),
        }

    def encode(self, value: "Tensor") -> dict[str, np.ndarray]:
        """(B,C,H,W) -> values (B,H,W,C) uint8, scale (B,2,C) float32; quantised on the value's device."""
        return {name: part.cpu().numpy() for name, part in self.on_device(value).items()}

    def on_device(self, value: "Tensor") -> "dict[str, Tensor]":
        """`encode`, the parts still on the value's device."""
        import torch  # here and below: the size of a row is asked without it

        value_BCHW = value.detach().float()
        scale_BC, minimum_BC, _ = _levels(value_BCHW)
        divisor_BC = torch.where(scale_BC > 0, scale_BC, 1.0)
        levels_BCHW = value_BCHW - minimum_BC[:, :, None, None]
        levels_BCHW.div_(divisor_BC[:, :, None, None]).round_().clamp_(0, LEVELS)
        values_BHWC = levels_BCHW.to(torch.uint8).permute(0, 2, 3, 1).contiguous()
        scale_B2C = torch.stack((scale_BC, minimum_BC), 1)
        return {"values": values_BHWC, "scale": scale_B2C}

    def decode(self, parts: Mapping[str, "Tensor"], out: "Tensor | None" = None) -> "Tensor":
        """values (B,H,W,C), scale (B,2,C) -> float32 (B,C,H,W). One buffer, three passes in place."""
        import torch

        values_BHWC, scale_B2C = parts["values"], parts["scale"]
        if out is None:
            out = torch.empty(values_BHWC.shape, dtype=torch.float32, device=values_BHWC.device)
        out.copy_(values_BHWC)
        out.mul_(scale_B2C[:, 0, None, None, :]).add_(scale_B2C[:, 1, None, None, :])
        return channels_first(out)

    def bound(self, value: "Tensor") -> "Tensor":
        """scale / 2, plus float32 rounding at the size of the channel's largest value; (B,C,1,1)."""
        scale_BC, _, largest_BC = _levels(value.detach().float())
        return (scale_BC / 2 + largest_BC * ROUNDING + FLUSHED)[:, :, None, None]


def _levels(value_BCHW: "Tensor") -> "tuple[Tensor, Tensor, Tensor]":
    """Scale, minimum and largest magnitude, each (B,C) float32; NaN and infinity reach the minimum or
    maximum."""
    import torch

    minimum_BC, maximum_BC = value_BCHW.amin((2, 3)), value_BCHW.amax((2, 3))
    range_BC = maximum_BC - minimum_BC
    if not bool(torch.isfinite(range_BC).all()):
        refuse_non_finite(value_BCHW)
        raise BadSample(
            f"tap value spans {float(range_BC.max()):g}: the range of a channel does not fit float32",
            where=f"a tap of shape {tuple(value_BCHW.shape[1:])}",
            fix="the teacher's weights are broken: check its accuracy before building",
        )
    scale_BC = range_BC / LEVELS
    scale_BC = torch.where(scale_BC >= SMALLEST_SCALE, scale_BC, 0.0)
    return scale_BC, minimum_BC, torch.maximum(minimum_BC.abs(), maximum_BC.abs())
