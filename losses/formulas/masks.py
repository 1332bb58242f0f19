"""Masks that hide part of a student's map. 1 keeps a cell, 0 hides it; one mask per image.

Drawn in float32 from the step's own generator, so a resumed run and a run in another precision see the same.
"""

import torch
from torch import Tensor


def uniform_for(map_BCHW: Tensor, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Uniform numbers in [0, 1) of `shape`, on the map's device."""
    drawn = torch.rand(shape, generator=generator, device=generator.device, dtype=torch.float32)
    return drawn.to(map_BCHW.device)


def spatial_mask(uniform_B1HW: Tensor, ratio: float) -> Tensor:
    """Hides a share `ratio` of the cells, the same in all channels: 0 where u > 1 - ratio."""
    return (uniform_B1HW <= 1 - ratio).to(uniform_B1HW.dtype)


def channel_mask(uniform_BC11: Tensor, ratio: float) -> Tensor:
    """Hides a share `ratio` of the channels in full: 0 where u < ratio."""
    return (uniform_BC11 >= ratio).to(uniform_BC11.dtype)


def centre_mask(map_BCHW: Tensor) -> Tensor:
    """(1, 1, H, W): hides the middle third of rows and columns, floor(n / 3) to floor(2 n / 3) - 1."""
    height, width = map_BCHW.shape[-2:]
    mask = map_BCHW.new_ones((1, 1, height, width))
    mask[..., height // 3 : 2 * height // 3, width // 3 : 2 * width // 3] = 0
    return mask
