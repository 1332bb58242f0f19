"""Hue: from RGB around the colour circle and back."""

import torch
from torch import Tensor


def turn_hue(images: Tensor, turns: Tensor) -> Tensor:
    """uint8 RGB (R, H, W, 3) with the hue moved by `turns` (R, 1, 1, 1) of the colour circle.

    Value and saturation of each pixel stay; 0 turns change nothing. Element by element: the same pixel gives
    the same answer wherever it stands.
    """
    red, green, blue = images.float().unbind(-1)
    value, low = images.float().amax(-1), images.float().amin(-1)
    chroma = value - low
    safe = torch.where(chroma > 0, chroma, torch.ones_like(chroma))
    sixth = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, (blue - red) / safe + 2.0, (red - green) / safe + 4.0),
    )
    sixth = sixth + turns[..., 0] * 6.0
    channels = [_channel(sixth, value, chroma, shift) for shift in (5.0, 3.0, 1.0)]
    return torch.stack(channels, -1).round_().clamp_(0, 255).to(torch.uint8)


def _channel(sixth: Tensor, value: Tensor, chroma: Tensor, shift: float) -> Tensor:
    """value - chroma * clamp(min(k, 4 - k), 0, 1), k = (shift + hue) mod 6; 5 is red, 3 green, 1 blue."""
    k = torch.remainder(sixth + shift, 6.0)
    return value - chroma * torch.minimum(k, 4.0 - k).clamp(0.0, 1.0)
