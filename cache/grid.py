"""The dense grid of a one-stage detector: its levels, kinds of maps and scores.

Every detector of the project answers one map per pyramid level and kind: `cls3` ... `cls7`, `box3` ... P is
the number of positions: over levels, then cells row by row, then anchors. Boxes are stored as left, top,
right, bottom in strides from the cell's point, (x * stride, y * stride) in pixels of the canvas, for every
head (`positions`). Light: `losses` may import this file too.

Axes: B images, P positions, A anchors of a cell, K classes, H W cells.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kdcache.cache.spec import ceil_div

FPN, CLS, BOX, BINS, CTR = "fpn", "cls", "box", "bins", "ctr"  # kinds of taps, and the groups of all levels
KINDS = (FPN, CLS, BOX, BINS, CTR)
_STEM = {FPN: "p"}  # of a tap's name, where it is not the kind itself
MAX_NUMBER = 1 << 16  # of anything that a grid counts
SIGMOID, SIGMOID_CTR = "sigmoid", "sigmoid*ctr"  # score rules


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
        if len(grid.levels) != len(grid.strides) or any(
            type(n) is not int or not 0 <= n <= MAX_NUMBER for n in numbers
        ):
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
