"""Where the positions of a dense grid are on the canvas, and how a level's map becomes their rows.

P is the number of positions: over levels, then cells row by row, then anchors. `losses` may import this
file too.

Axes: B images, P positions, A anchors of a cell, H W cells.
"""

from itertools import product

import torch
from torch import Tensor

from kdcache.cache.grid import DenseGrid

_ANCHOR_RATIOS = (0.5, 1.0, 2.0)  # height over width
_SCALES = 3  # anchors of an octave: 4, 4 * 2^(1/3), 4 * 2^(2/3) strides
_OCTAVE_BASE = 4.0
_SQUARE = 8.0  # strides: side of the one anchor a cell of detectors that assign by ATSS


def points(grid: DenseGrid, height: int, width: int, device: torch.device | str = "cpu") -> list[Tensor]:
    """Per level (P_l, 2) float32: x and y in pixels of each position's point; A positions share a cell's."""
    return [
        _cell_points(cells, stride, device).repeat_interleave(grid.anchors_per_cell, 0)
        for cells, stride in zip(grid.cells(height, width), grid.strides, strict=True)
    ]


def anchors(grid: DenseGrid, height: int, width: int, device: torch.device | str = "cpu") -> list[Tensor]:
    """Per level (P_l, 4) float32: x1 y1 x2 y2 in pixels of each position's anchor, centred on its point."""
    per_level = zip(points(grid, height, width, device), grid.strides, strict=True)
    return [_around(xy, anchor_sizes(grid, stride).to(device)) for xy, stride in per_level]


def anchor_sizes(grid: DenseGrid, stride: int) -> Tensor:
    """(A, 2) float32: width and height in pixels of a cell's anchors. One a cell: a square of eight strides;
    nine: three ratios of height to width, each at three scales from four strides on, ratios outermost."""
    if grid.anchors_per_cell == 1:
        return torch.full((1, 2), _SQUARE * stride)
    sides = [_OCTAVE_BASE * stride * 2 ** (step / _SCALES) for step in range(_SCALES)]
    sizes = [(side / ratio**0.5, side * ratio**0.5) for ratio, side in product(_ANCHOR_RATIOS, sides)]
    assert len(sizes) == grid.anchors_per_cell, f"{grid.anchors_per_cell} anchors a cell"
    return torch.tensor(sizes, dtype=torch.float32)


def level_rows(map_BCHW: Tensor, anchors_per_cell: int) -> Tensor:
    """(B, A * C, H, W), channel = anchor * C + c, to (B, P_l, C) in the order of positions."""
    num_images, channels = map_BCHW.shape[:2]
    return map_BCHW.permute(0, 2, 3, 1).reshape(num_images, -1, channels // anchors_per_cell)


def boxes_at(points_P2: Tensor, sides_P4: Tensor, stride: int) -> Tensor:
    """(..., P, 4) x1 y1 x2 y2 in pixels of sides left, top, right, bottom in strides from each point."""
    left_top = points_P2 - sides_P4[..., :2] * stride
    return torch.cat([left_top, points_P2 + sides_P4[..., 2:] * stride], dim=-1)


def sides_of(points_P2: Tensor, boxes_P4: Tensor, stride: int) -> Tensor:
    """The inverse of `boxes_at`: left, top, right, bottom in strides; negative where the point is outside."""
    return torch.cat([points_P2 - boxes_P4[..., :2], boxes_P4[..., 2:] - points_P2], dim=-1) / stride


def _cell_points(cells: tuple[int, int], stride: int, device: torch.device | str) -> Tensor:
    height, width = cells
    y, x = torch.meshgrid(
        torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij"
    )
    return torch.stack([x, y], dim=-1).reshape(-1, 2).float() * stride


def _around(points_P2: Tensor, sizes_A2: Tensor) -> Tensor:
    half_P2 = sizes_A2.repeat(len(points_P2) // len(sizes_A2), 1) / 2
    return torch.cat([points_P2 - half_P2, points_P2 + half_P2], dim=-1)
