"""A small detector's maps with random numbers, and truths with boxes: for the losses of dense heads."""

from collections.abc import Mapping
from typing import Any

import torch
from bare_inputs import step_inputs
from torch import Tensor

from kdcache.cache.grid import BINS, BOX, CLS, CTR, FPN, SIGMOID_CTR, DenseGrid
from kdcache.cache.spec import TensorSpec
from kdcache.losses.contract import Facts, Maps
from kdcache.losses.loss_set import LossSet, WeightedTerm
from kdcache.losses.step_inputs import LossValues, StepInputs
from kdcache.losses.supervised.detection import Supervised

CANVAS = (64, 96)
_LEVELS: dict[str, Any] = {"levels": (3, 4, 5), "strides": (8, 16, 32)}
GRIDS = {
    "gfl": DenseGrid(**_LEVELS, num_bins=9),
    "atss": DenseGrid(**_LEVELS, score=SIGMOID_CTR),
    "fcos": DenseGrid(**_LEVELS, score=SIGMOID_CTR, assigner="fcos"),
    "retinanet": DenseGrid(**_LEVELS, anchors_per_cell=9, assigner="max_iou"),
}


def truth_BM5(*images: list[tuple[float, ...]]) -> Tensor:
    """Rows x1 y1 x2 y2 class of each image, padded with class -1."""
    most = max(len(rows) for rows in images)
    padding = (0.0, 0.0, 0.0, 0.0, -1.0)
    return torch.tensor([[*rows, *[padding] * (most - len(rows))] for rows in images]).reshape(-1, most, 5)


def random_truth(seed: int, num_images: int = 2, most: int = 5, num_classes: int = 3) -> Tensor:
    """Boxes of 4 to 60 pixels a side on the canvas; images hold 0 to `most` of them."""
    draws = torch.Generator().manual_seed(seed)
    images = []
    for _ in range(num_images):
        count = int(torch.randint(0, most + 1, (), generator=draws))
        sides = 4 + torch.rand(count, 2, generator=draws) * torch.tensor([60.0, 56.0])
        corners = torch.rand(count, 2, generator=draws) * (torch.tensor([96.0, 64.0]) - sides)
        kinds = torch.randint(0, num_classes, (count, 1), generator=draws).float()
        images.append([tuple(row) for row in torch.cat([corners, corners + sides, kinds], dim=1).tolist()])
    return truth_BM5(*images)


def head_taps(
    grid: DenseGrid,
    num_images: int = 2,
    num_classes: int = 3,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Maps by tap with gradient; boxes are 0.5 to 4.5 strides a side."""
    draws = torch.Generator().manual_seed(seed)
    channels = {CLS: num_classes, BOX: 4, BINS: 4 * grid.num_bins, CTR: 1}
    maps: dict[str, Tensor] = {}
    for kind in (kind for kind in grid.groups if kind != FPN):
        for tap, cells in zip(grid.groups[kind], grid.cells(*CANVAS), strict=True):
            shape = (num_images, channels[kind] * grid.anchors_per_cell, *cells)
            drawn = torch.randn(shape, generator=draws, dtype=torch.float64)
            values = drawn.sigmoid() * 4 + 0.5 if kind == BOX else drawn
            maps[tap] = values.to(dtype).requires_grad_()
    return maps


def supervised(grid: DenseGrid, maps: Mapping[str, Tensor], **options: Any) -> Supervised:
    specs = {tap: TensorSpec((*one.shape[2:], one.shape[1]), 8) for tap, one in maps.items()}
    return Supervised(Maps(specs, {}, Facts(input_size=CANVAS), student_grid=grid), **options)


def head_inputs(maps: Mapping[str, Tensor], truth: Tensor) -> StepInputs:
    return step_inputs(maps, {}, truth)


def head_losses(grid: DenseGrid, maps: Mapping[str, Tensor], truth: Tensor, **options: Any) -> LossValues:
    """The task's terms as a run computes them: the assignment first, once."""
    losses = LossSet((WeightedTerm("task", 1.0, supervised(grid, maps, **options)),))
    values: LossValues = losses(head_inputs(maps, truth))
    return values
