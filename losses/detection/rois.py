"""Boxes of a few instances per image: greedy suppression, and features cut out of a pyramid.

ROI align as detectron2's version 2 and torchvision's `aligned=True`: a box is divided into bins, each the
mean of 2 x 2 bilinear samples, with cells' centres at half a stride. Axes: B images, N boxes of an image,
R instances of the batch, C channels, S samples.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kdcache.losses.detection.boxes import area, paired_iou
from kdcache.losses.formulas.precision import in_float32

CANONICAL_SIDE, CANONICAL_STRIDE = 224, 16  # pixels: a box of this side is cut from the map of this stride
SAMPLES = 2  # per bin and axis


class Instances(NamedTuple):
    """R boxes x1 y1 x2 y2 in pixels, and the image of each."""

    boxes_R4: Tensor
    images_R: Tensor


def greedy_suppression(
    boxes_BN4: Tensor, usable_BN: Tensor, *, overlap: float, most: int
) -> tuple[Tensor, Tensor]:
    """Of boxes in falling order of score the best, then the best whose IoU with no chosen one is above
    `overlap`, and so on: (B, most, 4), and (B, most) whether there was one."""
    boxes, there = [], []
    rows_B = torch.arange(len(boxes_BN4), device=boxes_BN4.device)
    usable_BN = usable_BN.clone()
    for _ in range(most):
        first_B = usable_BN.int().argmax(1)
        chosen_B4 = boxes_BN4[rows_B, first_B]
        there.append(usable_BN.any(1))
        boxes.append(chosen_B4)
        usable_BN &= paired_iou(chosen_B4[:, None], boxes_BN4) <= overlap
        usable_BN[rows_B, first_B] = False
    return torch.stack(boxes, 1), torch.stack(there, 1)


def instances_of(boxes_BK4: Tensor, there_BK: Tensor) -> Instances:
    """Those that are there, image after image."""
    return Instances(boxes_BK4[there_BK], there_BK.nonzero()[:, 0])


def levels_for(boxes_R4: Tensor, strides: Sequence[int]) -> Tensor:
    """(R,) index of the map that each box is cut from: one level up for twice the side, within the pyramid.
    Strides double from level to level."""
    sides_R = area(boxes_R4).clamp(min=0).sqrt()
    up_R = torch.log2(sides_R / CANONICAL_SIDE + 1e-8).floor()
    first_R = torch.log2(torch.tensor(CANONICAL_STRIDE / strides[0]))
    return (up_R + first_R.round()).clamp(0, len(strides) - 1).long()


@in_float32
def roi_align(map_BCHW: Tensor, instances: Instances, *, stride: int, bins: int) -> Tensor:
    """(R, C, bins, bins)."""
    high, wide = map_BCHW.shape[-2:]
    num = bins * SAMPLES
    corners_R4 = instances.boxes_R4 / stride - 0.5
    steps = (torch.arange(num, device=map_BCHW.device, dtype=corners_R4.dtype) + 0.5) / num
    sizes_R2 = corners_R4[:, 2:] - corners_R4[:, :2]
    x_RS = corners_R4[:, 0, None] + steps * sizes_R2[:, 0, None]
    y_RS = corners_R4[:, 1, None] + steps * sizes_R2[:, 1, None]
    sampled = _bilinear(map_BCHW, instances.images_R, _axis(y_RS, high), _axis(x_RS, wide))
    return sampled.reshape(*sampled.shape[:2], bins, SAMPLES, bins, SAMPLES).mean((3, 5))


class _Axis(NamedTuple):
    """(R, S): the two cells that a sample lies between, and each one's share."""

    low: Tensor
    high: Tensor
    low_share: Tensor
    high_share: Tensor


def _axis(at_RS: Tensor, size: int) -> _Axis:
    """Samples up to one cell outside take the border's value, further ones none."""
    inside_RS = ((at_RS >= -1) & (at_RS <= size)).to(at_RS.dtype)
    at_RS = at_RS.clamp(0, size - 1)
    low_RS = at_RS.floor()
    share_RS = at_RS - low_RS
    high_RS = (low_RS + 1).clamp(max=size - 1)
    return _Axis(low_RS.long(), high_RS.long(), (1 - share_RS) * inside_RS, share_RS * inside_RS)


def _bilinear(map_BCHW: Tensor, images_R: Tensor, y: _Axis, x: _Axis) -> Tensor:
    """(R, C, S, S). By index and not by `grid_sample`, which would want a copy of the map per instance."""
    last_BHWC = map_BCHW.permute(0, 2, 3, 1)
    total = torch.zeros((), dtype=map_BCHW.dtype, device=map_BCHW.device)
    for rows, row_share in ((y.low, y.low_share), (y.high, y.high_share)):
        for columns, column_share in ((x.low, x.low_share), (x.high, x.high_share)):
            values_RSSC = last_BHWC[images_R[:, None, None], rows[:, :, None], columns[:, None, :]]
            total = total + values_RSSC * (row_share[:, :, None] * column_share[:, None, :])[..., None]
    return total.permute(0, 3, 1, 2)
