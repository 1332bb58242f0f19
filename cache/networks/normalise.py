"""Pixels -> network input: padding to a multiple, then the network's own mean and std.

Normalisation belongs to the network and is saved with its weights, so that one stream of uint8 pixels
serves a teacher and many students with other statistics. Axes: B batch, H and W pixels, C = 3 colours.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kdcache.cache.errors import BadOption
from kdcache.cache.spec import FILL_RGB, ceil_div

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Normalise(nn.Module):
    """(x / 255 - mean) / std: images (B, H, W, 3) of 0..255 to float (B, 3, H, W)."""

    mean: Tensor
    std: Tensor
    channels_last = False  # how the network behind it lies in memory

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))

    def forward(self, images_BHWC: Tensor) -> Tensor:
        # In float32 whatever the network's precision: 255ths do not fit into bfloat16.
        scaled_BHWC = (images_BHWC.float() / 255).sub_(self.mean.float()).div_(self.std.float())
        pixels_BCHW = scaled_BHWC.to(self.mean.dtype).permute(0, 3, 1, 2)
        # Channels-last input would give contiguous weights channels-last gradients, and DDP then warns and
        # copies 1x1 kernels.
        return pixels_BCHW if self.channels_last else pixels_BCHW.contiguous()


def pad_to_multiple(images_BHWC: Tensor, multiple: int) -> Tensor:
    """Pads right and bottom with FILL_RGB until both sides are multiples; the input itself when they
    already are.
    """
    if images_BHWC.ndim != 4 or images_BHWC.shape[3] != 3:
        raise BadOption(
            f"a network reads images (batch, height, width, 3), not {tuple(images_BHWC.shape)}",
            where="input of a network",
            fix="pass RGB images channels last, values 0..255",
        )
    batch, height, width, _ = images_BHWC.shape
    padded_h, padded_w = ceil_div(height, multiple) * multiple, ceil_div(width, multiple) * multiple
    if (padded_h, padded_w) == (height, width):
        return images_BHWC
    fill_C = torch.tensor(FILL_RGB, dtype=images_BHWC.dtype, device=images_BHWC.device)
    canvas_BHWC = fill_C.expand(batch, padded_h, padded_w, 3).clone()
    canvas_BHWC[:, :height, :width] = images_BHWC
    return canvas_BHWC
