"""The feature pyramid of a detector: an encoder's maps of strides 8, 16 and 32 as five levels of one width.

FPN: Lin et al. 2017 (arXiv 1612.03144), torchvision's. P6 and P7 are strided convolutions of P5 (RetinaNet's
paper takes C5; the distillation papers' code for GFL, FCOS and ATSS and torchvision's first weights take P5).
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from kdcache.cache.grid import FPN, tap_of

LEVELS = (3, 4, 5, 6, 7)
STRIDES = (8, 16, 32, 64, 128)  # pixels per cell
NUM_OF_ENCODER = 3  # the levels that come from maps of the encoder
WIDTH = 256  # channels of every level, as published


class Pyramid(nn.Module):
    """Maps (B, C_l, H, W) of strides 8, 16, 32 to {'p3': ..., 'p7': ...} of `width` channels each."""

    def __init__(self, in_channels: Sequence[int], width: int = WIDTH) -> None:
        super().__init__()
        assert len(in_channels) == NUM_OF_ENCODER
        # Equal widths tell torchvision's block to start from P5.
        self.levels = FeaturePyramidNetwork(
            list(in_channels), width, extra_blocks=LastLevelP6P7(width, width)
        )

    def forward(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        names = [tap_of(FPN, level) for level in LEVELS]
        levels: dict[str, Tensor] = self.levels(dict(zip(names[:NUM_OF_ENCODER], maps, strict=True)))
        return dict(levels)
