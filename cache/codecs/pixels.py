"""raw uint8: finished pixels and label maps, channels last, as they are. No tap can ask for it by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kdcache.cache.codecs.contract import channels_first, channels_last
from kdcache.cache.spec import PartSpec, TensorSpec

if TYPE_CHECKING:
    from torch import Tensor

PIXEL_CODEC = "raw uint8"  # with a space, which no --tap NAME=CODEC takes
PART = "values"


@dataclass(frozen=True, slots=True)
class Pixels:
    """Whole numbers 0..255."""

    name: str = PIXEL_CODEC

    @property
    def config(self) -> Mapping[str, str | int]:
        return {"codec": "raw", "dtype": "uint8"}

    def parts(self, spec: TensorSpec) -> dict[str, PartSpec]:
        """'values' (H,W,C)."""
        return {PART: PartSpec(spec.shape, "uint8", True)}

    def encode(self, value: "Tensor") -> dict[str, np.ndarray]:
        """uint8 (B,C,H,W) -> values (B,H,W,C)."""
        import torch  # here: the size of a row is asked without it

        assert value.dtype == torch.uint8, "pixels, not what a network makes of them"
        return {PART: channels_last(value).contiguous().cpu().numpy()}

    def decode(self, parts: Mapping[str, "Tensor"], out: "Tensor | None" = None) -> "Tensor":
        """values (B,H,W,C) -> float32 (B,C,H,W)."""
        values = parts[PART]
        return channels_first(values.float() if out is None else out.copy_(values))

    def bound(self, value: "Tensor") -> "Tensor":
        """0: nothing is rounded."""
        import torch

        return torch.zeros((), dtype=torch.float32, device=value.device)
