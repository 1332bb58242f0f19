"""Overlap of boxes x1 y1 x2 y2, pair by pair; leading axes broadcast, so (N, 1, 4) and (M, 4) give (N, M).

    I = overlap area, sides clamped at 0      U = max(area_a + area_b - I, e)
    E = max(area of the smallest box around both, e)          e = 1e-6
    IoU = I / U                               GIoU = IoU - (E - U) / E
Rezatofighi et al. 2019, https://arxiv.org/abs/1902.09630; open-mmlab/mmdetection `iou2d_calculator.py`. Any
unit: overlaps have none, but for e.
"""

from typing import NamedTuple

import torch
from torch import Tensor

EPSILON = 1e-6  # in squares of the boxes' unit


class Areas(NamedTuple):
    """Of each pair: overlap, the first box, the second."""

    overlap: Tensor
    first: Tensor
    second: Tensor

    @property
    def union(self) -> Tensor:
        return (self.first + self.second - self.overlap).clamp(min=EPSILON)


def paired_iou(a_N4: Tensor, b_N4: Tensor) -> Tensor:
    """(N,) intersection over union, 0 for boxes that do not meet or have no area."""
    areas = paired_areas(a_N4, b_N4)
    return areas.overlap / areas.union


def paired_giou(a_N4: Tensor, b_N4: Tensor) -> Tensor:
    """(N,) generalised IoU, -1 to 1, with a gradient for boxes apart; equal corners share their gradient."""
    areas = paired_areas(a_N4, b_N4)
    around = around_both(a_N4, b_N4).clamp(min=0).prod(-1).clamp(min=EPSILON)
    return areas.overlap / areas.union - (around - areas.union) / around


def paired_areas(a_N4: Tensor, b_N4: Tensor) -> Areas:
    """Overlap areas, and the areas of the boxes themselves (negative where one corner alone is turned)."""
    left_top = torch.maximum(a_N4[..., :2], b_N4[..., :2])
    right_bottom = torch.minimum(a_N4[..., 2:], b_N4[..., 2:])
    overlap = (right_bottom - left_top).clamp(min=0).prod(-1)
    return Areas(overlap, area(a_N4), area(b_N4))


def around_both(a_N4: Tensor, b_N4: Tensor) -> Tensor:
    """(N, 2) width and height of the smallest box around both."""
    left_top = torch.minimum(a_N4[..., :2], b_N4[..., :2])
    return torch.maximum(a_N4[..., 2:], b_N4[..., 2:]) - left_top


def area(boxes_N4: Tensor) -> Tensor:
    """(N,) in squares of the boxes' unit."""
    return (boxes_N4[..., 2:] - boxes_N4[..., :2]).prod(-1)


def centres(boxes_N4: Tensor) -> Tensor:
    """(N, 2) x and y."""
    return (boxes_N4[..., :2] + boxes_N4[..., 2:]) / 2
