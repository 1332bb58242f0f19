"""A network as others run it: float pixels in, a tuple of maps out; it normalises, pads and cuts by itself.

The same arithmetic as `Network.forward`, of sizes that need not be known: every size is computed from the
input's own, with divisions of positive numbers alone (ONNX rounds a negative quotient the other way).

Axes: B batch, H W pixels, h w cells, C channels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from kdcache.cache.networks.network import Network
from kdcache.cache.spec import FILL_RGB


class Deployed(nn.Module):
    """Images (B, 3, H, W) float RGB of 0..255 to the taps in their order; `enlarged` gives maps at (H, W),
    bilinear, corners aligned."""

    def __init__(self, network: Network, taps: Sequence[str], *, enlarged: bool) -> None:
        super().__init__()
        self.network = network.eval()
        self.taps = tuple(taps)
        self.enlarged = enlarged
        self.multiple = network.pad_multiple
        specs = network.tap_specs(self.taps, *network.probe_px)
        self.strides = tuple(specs[tap].stride or 0 for tap in self.taps)
        self.register_buffer("fill_311", torch.tensor(FILL_RGB, dtype=torch.float32)[:, None, None])
        self.fill_311: Tensor

    @property
    def least_px(self) -> int:
        """A side from which on every map has more than one cell: below, sizes are no longer free."""
        return 2 * max(*self.strides, self.multiple, self.network.output_stride) + 1

    def forward(self, images_BCHW: Tensor) -> tuple[Tensor, ...]:
        height, width = images_BCHW.shape[2:]
        pixels_BCHW = self._normalised(self._padded(images_BCHW))
        values = self.network.maps_of(pixels_BCHW, self.taps)
        maps = [
            self._cut(values[tap], stride, height, width)
            for tap, stride in zip(self.taps, self.strides, strict=True)
        ]
        if not self.enlarged:
            return tuple(maps)
        size = (height, width)
        return tuple(interpolate(one, size=size, mode="bilinear", align_corners=True) for one in maps)

    def _padded(self, images_BCHW: Tensor) -> Tensor:
        """Right and bottom, with the colour that networks are padded with."""
        if self.multiple == 1:
            return images_BCHW
        height, width = images_BCHW.shape[2:]
        right, bottom = _up(width, self.multiple) - width, _up(height, self.multiple) - height
        return pad(images_BCHW - self.fill_311, (0, right, 0, bottom)) + self.fill_311

    def _normalised(self, images_BCHW: Tensor) -> Tensor:
        mean_3, std_3 = self.network.normalise.mean, self.network.normalise.std
        return (images_BCHW / 255 - mean_3[:, None, None]) / std_3[:, None, None]

    def _cut(self, value: Tensor, stride: int, height: int, width: int) -> Tensor:
        if stride == 0 or self.multiple == 1:
            return value
        return value[:, :, : _up(height, stride) // stride, : _up(width, stride) // stride]


def _up(length: int, multiple: int) -> int:
    return (length + multiple - 1) // multiple * multiple
