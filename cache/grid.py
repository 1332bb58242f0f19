"""The dense grid of a one-stage detector: levels, cells, points and anchors, and how maps become rows.

Every detector of the project answers one map per pyramid level and kind: `cls3` ... `cls7`, `box3` ... P is
the number of positions: over levels, then cells row by row, then anchors. Boxes are stored as left, top,
right, bottom in strides from the cell's point, (x * stride, y * stride) in pixels of the canvas, for every
head. Light: `losses` may import this file too.

Axes: B images, P positions, A anchors of a cell, K classes, H W cells.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor

from kdcache.cache.spec import ceil_div

FPN, CLS, BOX, BINS, CTR = "fpn", "cls", "box", "bins", "ctr"  # kinds of taps, and the groups of all levels
KINDS = (FPN, CLS, BOX, BINS, CTR)
_STEM = {FPN: "p"}  # of a tap's name, where it is not the kind itself
SIGMOID, SIGMOID_CTR = "sigmoid", "sigmoid*ctr"  # score rules
_ANCHOR_RATIOS = (0.5, 1.0, 2.0)  # height over width
_SCALES = 3  # anchors of an octave: 4, 4 * 2^(1/3), 4 * 2^(2/3) strides
_OCTAVE_BASE = 4.0
_SQUARE = 8.0  # strides: side of the one anchor a cell of detectors that assign by ATSS


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseGrid:
    """`levels` and `strides` are of one length; `num_bins` per side, 0 where the box is regressed itself."""

    levels: tuple[int, ...]  # 3, 4, 5, 6, 7: the number in a tap's name
    strides: tuple[int, ...]  # pixels per cell
    anchors_per_cell: int = 1
    num_bins: int = 0
    score: str = SIGMOID  # how a class's score comes from the maps
    assigner: str = "atss"  # 'atss', 'max_iou' or 'fcos': what the detector is trained with

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """Kind -> its taps, one per level: {'fpn': ('p3', ...), 'cls': ('cls3', ...), ...}."""
        kinds = [FPN, CLS, BOX]
        kinds += [BINS] if self.num_bins else []
        kinds += [CTR] if self.score == SIGMOID_CTR else []
        return {kind: tuple(tap_of(kind, level) for level in self.levels) for kind in kinds}

    def cells(self, height: int, width: int) -> list[tuple[int, int]]:
        """(H, W) of each level for a canvas of this size in pixels."""
        return [(ceil_div(height, stride), ceil_div(width, stride)) for stride in self.strides]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "levels": list(self.levels),
            "strides": list(self.strides),
            "anchors_per_cell": self.anchors_per_cell,
            "num_bins": self.num_bins,
            "score": self.score,
            "assigner": self.assigner,
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "DenseGrid":
        """What `to_dict` gave. Raises KeyError, TypeError or ValueError for anything else."""
        if set(raw) != set(cls.__dataclass_fields__):
            raise ValueError(f"not the fields of a grid: {sorted(raw)}")
        grid = cls(**{**raw, "levels": tuple(raw["levels"]), "strides": tuple(raw["strides"])})
        numbers = (*grid.levels, *grid.strides, grid.anchors_per_cell, grid.num_bins)
        if len(grid.levels) != len(grid.strides) or any(type(n) is not int or n < 0 for n in numbers):
            raise ValueError(f"not a grid: {dict(raw)}")
        return grid


def strides_of(grid: DenseGrid) -> dict[str, int]:
    """Every tap of the grid -> pixels per cell."""
    return {
        tap: stride
        for levels in grid.groups.values()
        for tap, stride in zip(levels, grid.strides, strict=True)
    }


def levels_of_kinds(grid: DenseGrid | None) -> dict[str, tuple[str, ...]]:
    """Every kind -> its taps, also () for one that this grid has not; no kinds without a grid."""
    return {} if grid is None else {kind: grid.groups.get(kind, ()) for kind in KINDS}


def tap_of(kind: str, level: int) -> str:
    """The tap's name: p3, cls3, box3 ..."""
    return f"{_STEM.get(kind, kind)}{level}"


def kind_of(tap: str) -> str:
    """The kind that a tap's name says, as `tap_of` made it: 'box' of 'box3'; '' for a tap of no grid."""
    stem = tap.rstrip("0123456789")
    kinds = {_STEM.get(kind, kind): kind for kind in KINDS}
    return kinds.get(stem, "") if stem != tap else ""


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
