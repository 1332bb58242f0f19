"""Boxes x1 y1 x2 y2 as edges: overlaps, centerness, and the coding of a box against an anchor.

    I = overlap area, sides clamped at 0      U = max(area_a + area_b - I, e)
    E = max(area of the smallest box around both, e)          e = 1e-6
    IoU = I / U                               GIoU = IoU - (E - U) / E
Rezatofighi et al. 2019, https://arxiv.org/abs/1902.09630; open-mmlab/mmdetection `iou2d_calculator.py`. Any
unit: overlaps have none, but for e. In the precision of what comes in, float32 or float64. Leading axes of
pairs broadcast: (N, 1, 4) and (M, 4) give (N, M).
"""

from typing import NamedTuple

import torch
from torch import Tensor

EPSILON = 1e-6  # in squares of the boxes' unit: two empty boxes overlap by 0 and not by 0 / 0


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
    around = _product(around_both(a_N4, b_N4).clamp(min=0)).clamp(min=EPSILON)
    return areas.overlap / areas.union - (around - areas.union) / around


def paired_areas(a_N4: Tensor, b_N4: Tensor) -> Areas:
    """Overlap areas, and the areas of the boxes themselves (negative where one corner alone is turned)."""
    left_top = torch.maximum(a_N4[..., :2], b_N4[..., :2])
    right_bottom = torch.minimum(a_N4[..., 2:], b_N4[..., 2:])
    return Areas(_product((right_bottom - left_top).clamp(min=0)), area(a_N4), area(b_N4))


def around_both(a_N4: Tensor, b_N4: Tensor) -> Tensor:
    """(N, 2) width and height of the smallest box around both."""
    left_top = torch.minimum(a_N4[..., :2], b_N4[..., :2])
    return torch.maximum(a_N4[..., 2:], b_N4[..., 2:]) - left_top


def area(boxes_N4: Tensor) -> Tensor:
    """(N,) in squares of the boxes' unit."""
    return _product(boxes_N4[..., 2:] - boxes_N4[..., :2])


def centres(boxes_N4: Tensor) -> Tensor:
    """(N, 2) x and y."""
    return (boxes_N4[..., :2] + boxes_N4[..., 2:]) / 2


def centerness(sides_N4: Tensor) -> Tensor:
    """(N,) 0..1 of sides left, top, right, bottom: sqrt(min(l,r)/max(l,r) * min(t,b)/max(t,b)).

    Tian et al. 2019, https://arxiv.org/abs/1904.01355; 1 at the centre, 0 on an edge and outside.
    """
    pairs_N22 = torch.stack([sides_N4[..., 0::2], sides_N4[..., 1::2]], dim=-2).clamp(min=0)
    return _product(pairs_N22.amin(-1) / pairs_N22.amax(-1).clamp(min=EPSILON)).sqrt()


def encode(boxes_N4: Tensor, anchors_N4: Tensor) -> Tensor:
    """(N, 4) dx dy dw dh of a box against its anchor: (centre - centre) / side, log(side / side).

    Girshick et al. 2014, https://arxiv.org/abs/1311.2524; no means and deviations, as RetinaNet. A box
    without a side is coded as one of a millionth of the anchor's.
    """
    sizes_N2, anchor_sizes_N2 = _sizes(boxes_N4), _sizes(anchors_N4)
    offsets_N2 = (centres(boxes_N4) - centres(anchors_N4)) / anchor_sizes_N2
    return torch.cat([offsets_N2, (sizes_N2 / anchor_sizes_N2).clamp(min=EPSILON).log()], dim=-1)


def _sizes(boxes_N4: Tensor) -> Tensor:
    return boxes_N4[..., 2:] - boxes_N4[..., :2]


def _product(pairs_N2: Tensor) -> Tensor:
    """Of two sides. `prod` has a gradient that waits for the device to count zeros."""
    return pairs_N2[..., 0] * pairs_N2[..., 1]
