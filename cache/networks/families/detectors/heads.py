"""torchvision's RetinaNet and FCOS heads as maps, and how what a head predicts becomes sides of a box.

Whatever a head's coding, its `box` maps hold left, top, right, bottom in strides from the cell's point, with
a gradient (cache/grid.py). The convolutions and their names are torchvision's, so that its files fit.

Axes: B images, A anchors of a cell, K classes, C channels, H W cells.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection.fcos import FCOSHead
from torchvision.models.detection.retinanet import RetinaNetHead

from kdcache.cache.grid import BOX, CLS, CTR, DenseGrid, tap_of

# exp(dw) of a delta stops here, as in Faster R-CNN's code: an untrained head would overflow.
MAX_LOG_SCALE = math.log(1000.0 / 16)
Size = tuple[int, int]  # (height, width) in pixels of what entered the network, padding included


class DenseHead(nn.Module):
    """Levels P3 ... to {'cls3': ..., 'box3': ...}: children say what one level gives."""

    def __init__(self, grid: DenseGrid) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, levels: Sequence[Tensor], size: Size) -> dict[str, Tensor]:
        values: dict[str, Tensor] = {}
        for index, (level, map_BCHW) in enumerate(zip(self.grid.levels, levels, strict=True)):
            kinds = self.level(map_BCHW, index, size)
            values |= {tap_of(kind, level): value for kind, value in kinds.items()}
        return values

    def level(self, map_BCHW: Tensor, index: int, size: Size) -> dict[str, Tensor]:
        """Kind -> (B, channels, H, W) of the level at this place of the grid."""
        raise NotImplementedError


class RetinaHead(DenseHead):
    """RetinaNet (Lin et al. 2017, arXiv 1708.02002). `cell_sizes`: per level (A, 2), width and height of the
    anchors in pixels; `library_points`: the anchors stand where torchvision puts them (see `seen_from`)."""

    def __init__(
        self, grid: DenseGrid, parts: RetinaNetHead, cell_sizes: Sequence[Tensor], *, library_points: bool
    ) -> None:
        super().__init__(grid)
        self.classification_head = parts.classification_head
        self.regression_head = parts.regression_head
        self.library_points = library_points
        sizes = [size / stride for size, stride in zip(cell_sizes, grid.strides, strict=True)]
        self.register_buffer("sizes_LA2", torch.stack(sizes), persistent=False)  # in strides
        self.sizes_LA2: Tensor

    def level(self, map_BCHW: Tensor, index: int, size: Size) -> dict[str, Tensor]:
        classes, boxes = self.classification_head, self.regression_head
        deltas_BCHW = boxes.bbox_reg(boxes.conv(map_BCHW))
        sides_BCHW = sides_of_deltas(deltas_BCHW, self.sizes_LA2[index])
        if self.library_points:
            sides_BCHW = seen_from(sides_BCHW, self.grid.strides[index], size)
        return {CLS: classes.cls_logits(classes.conv(map_BCHW)), BOX: sides_BCHW}


class FcosHead(DenseHead):
    """FCOS (Tian et al. 2019, arXiv 1904.01355), centerness on the box branch; sides are never negative, but
    for those seen from other points."""

    def __init__(self, grid: DenseGrid, parts: FCOSHead, *, library_points: bool) -> None:
        super().__init__(grid)
        self.classification_head = parts.classification_head
        self.regression_head = parts.regression_head
        self.library_points = library_points

    def level(self, map_BCHW: Tensor, index: int, size: Size) -> dict[str, Tensor]:
        classes, boxes = self.classification_head, self.regression_head
        features_BCHW = boxes.conv(map_BCHW)
        sides_BCHW = nn.functional.relu(boxes.bbox_reg(features_BCHW))
        if self.library_points:
            sides_BCHW = seen_from(sides_BCHW, self.grid.strides[index], size)
        return {
            CLS: classes.cls_logits(classes.conv(map_BCHW)),
            BOX: sides_BCHW,
            CTR: boxes.bbox_ctrness(features_BCHW),
        }


def sides_of_deltas(deltas_BCHW: Tensor, sizes_A2: Tensor) -> Tensor:
    """(B, A*4, H, W) sides in strides of deltas (dx, dy, dw, dh) against anchors of `sizes_A2` strides that
    are centred on the points (Girshick et al. 2014, appendix C). In float32 at least."""
    num_images, _, height, width = deltas_BCHW.shape
    deltas_BA4HW = at_least_float32(deltas_BCHW).reshape(num_images, len(sizes_A2), 4, height, width)
    sizes_A2HW = sizes_A2.to(deltas_BA4HW.dtype)[:, :, None, None]
    centre_BA2HW = deltas_BA4HW[:, :, :2] * sizes_A2HW
    half_BA2HW = deltas_BA4HW[:, :, 2:].clamp(max=MAX_LOG_SCALE).exp() * sizes_A2HW / 2
    return torch.cat([half_BA2HW - centre_BA2HW, half_BA2HW + centre_BA2HW], dim=2).flatten(1, 2)


def seen_from(sides_BCHW: Tensor, stride: int, size: Size) -> Tensor:
    """Sides from torchvision's points as sides from ours.

    torchvision puts its points every `size // cells` pixels, which is less than the stride where the level
    was rounded up: every 114 pixels instead of 128 for P7 of 800 pixels. Its weights were trained so.
    """
    height, width = sides_BCHW.shape[2:]
    per_cell = [(side // cells - stride) / stride for side, cells in zip(size, (height, width), strict=True)]
    if not any(per_cell):
        return sides_BCHW
    y_H = torch.arange(height, device=sides_BCHW.device, dtype=sides_BCHW.dtype) * per_cell[0]
    x_W = torch.arange(width, device=sides_BCHW.device, dtype=sides_BCHW.dtype) * per_cell[1]
    y_HW, x_HW = torch.meshgrid(y_H, x_W, indexing="ij")
    shift_4HW = torch.stack([-x_HW, -y_HW, x_HW, y_HW])
    return sides_BCHW + shift_4HW.repeat(sides_BCHW.shape[1] // 4, 1, 1)


def at_least_float32(value: Tensor) -> Tensor:
    """Under autocast a head answers in half precision, in which no box should be decoded."""
    return value if value.dtype in (torch.float32, torch.float64) else value.float()
