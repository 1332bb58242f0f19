"""What a codec promises: value -> stored parts -> value, within a bound it states.

Shapes: B batch, C channels, H W height and width of the map. Values are channels first as networks give them
(B,C,H,W) or pooled (B,C); parts are channels last, so that a window of a map is a cheap slice.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np

from kdcache.cache.errors import BadSample
from kdcache.cache.spec import PartSpec, TensorSpec

if TYPE_CHECKING:
    from torch import Tensor


class Codec(Protocol):
    """One way to store a tap. Stateless: equal values give equal bytes, whatever the batch around them."""

    @property
    def name(self) -> str:
        """The name under which `make_codec` finds it again."""
        ...

    @property
    def config(self) -> Mapping[str, str | int]:
        """Everything that changes the stored bytes; goes into digests."""
        ...

    def parts(self, spec: TensorSpec) -> dict[str, PartSpec]:
        """The pieces one row is stored as. Raises BadOption for a value the codec cannot store."""
        ...

    def encode(self, value: "Tensor") -> dict[str, np.ndarray]:
        """Float (B,C,H,W) or (B,C) on any device -> contiguous arrays (B, *part.shape) in main memory.

        Raises BadSample when a value is not finite or does not fit the stored type.
        """
        ...

    def decode(self, parts: Mapping[str, "Tensor"], out: "Tensor | None" = None) -> "Tensor":
        """Parts (B, *part.shape) on any device -> float32 (B,C,H,W) (a channels-last view) or (B,C).

        Spatial parts may be windows: any H and W. `out` is an optional float32 buffer of the shape of
        'values' to decode into: fresh memory for every batch costs more than the arithmetic.
        """
        ...

    def bound(self, value: "Tensor") -> "Tensor":
        """Largest |decode(encode(value)) - value| allowed, broadcastable to `value`, float32."""
        ...


def refuse_non_finite(value: "Tensor") -> None:
    """Raise BadSample naming the rows of the batch that hold NaN or infinity."""
    import torch  # here: the size of a row is asked without it

    bad = ~torch.isfinite(value).flatten(1).all(1)
    rows = ", ".join(str(i) for i in torch.nonzero(bad).flatten().tolist())
    if not rows:
        return
    raise BadSample(
        f"tap value is not finite (NaN or infinity) in row {rows} of a batch of {value.shape[0]}",
        where=f"a tap of shape {tuple(value.shape[1:])}, {value.dtype}",
        fix="build with --amp no or bf16; if that does not help, the teacher is broken: check its accuracy",
    )


def channels_last(value: "Tensor") -> "Tensor":
    """(B,C,H,W) -> (B,H,W,C) view; (B,C) as it is."""
    return value.permute(0, 2, 3, 1) if value.ndim == 4 else value


def channels_first(value: "Tensor") -> "Tensor":
    """(B,H,W,C) -> (B,C,H,W) view; (B,C) as it is."""
    return value.permute(0, 3, 1, 2) if value.ndim == 4 else value
