"""Which object each position answers for: the three published assigners of dense detectors.

None looks at a prediction, so one assignment serves every term of a step. Objects of all images are compared
at once; images are taken in groups where (images, objects, positions) would not fit a small part of the
memory.

1. `atss` (Zhang et al. 2020, https://arxiv.org/abs/1912.02424): of each level the 9 positions nearest to an
   object's centre are candidates; those with an overlap of at least their mean + standard deviation, whose
   point lies inside the object, answer for it.
2. `max_iou` (Lin et al. 2017, https://arxiv.org/abs/1708.02002): overlap of an anchor with an object of at
   least 0.5, background below 0.4, ignored between; the anchors that overlap an object most always answer.
3. `fcos` (Tian et al. 2019, https://arxiv.org/abs/1904.01355): points within 1.5 strides of an object's
   centre and inside it, on the level of its size.

Axes: B images, M objects (class -1: padding), P positions, L levels, C candidates.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from kdcache.cache.grid import DenseGrid
from kdcache.cache.positions import anchors, points, sides_of
from kdcache.losses.detection.boxes import centerness, paired_iou
from kdcache.losses.detection.matched import BACKGROUND, IGNORED, Matched
from kdcache.losses.formulas.gather import mean_over_ranks

TOPK = 9  # candidates of a level
INSIDE_PX = 0.01  # a point counts as inside when it is further than this from every edge
FOREGROUND_IOU = 0.5
BACKGROUND_IOU = 0.4
RADIUS = 1.5  # strides around the centre of an object
REACH = 8.0  # strides: a level answers for objects whose farthest side is up to so far from the point
_MOST_PAIRS = 1 << 24  # (images, objects, positions) at once: 64 MiB a float32 tensor of them


class Positions(NamedTuple):
    """Where a detector answers on a canvas of one size."""

    points_P2: Tensor  # float32 x and y in pixels
    anchors_P4: Tensor  # float32 x1 y1 x2 y2 in pixels
    strides_L: tuple[int, ...]
    level_sizes: tuple[int, ...]  # P_l per level


Assigner = Callable[[Tensor, Tensor, Positions], Tensor]


def positions(grid: DenseGrid, height: int, width: int, device: torch.device | str = "cpu") -> Positions:
    """The positions of `grid` on a canvas of this size in pixels."""
    per_level = points(grid, height, width, device)
    return Positions(
        torch.cat(per_level),
        torch.cat(anchors(grid, height, width, device)),
        grid.strides,
        tuple(len(one) for one in per_level),
    )


def match(truth_BM5: Tensor, grid: DenseGrid, where: Positions) -> Matched:
    """What each position answers for under the assigner of `grid`; no gradient, one all-reduce.

    `truth_BM5` as `StepInputs.truth`; M may be 0.
    """
    if truth_BM5.shape[1] == 0:  # a row of padding is easier to reduce over than no row
        truth_BM5 = torch.full((len(truth_BM5), 1, 5), float(BACKGROUND), device=truth_BM5.device)
    objects_BP = assign(truth_BM5, grid.assigner, where)
    positive_BP = objects_BP >= 0
    own_BP5 = truth_BM5.gather(1, objects_BP.clamp(min=0)[..., None].expand(-1, -1, 5))
    boxes_BP4 = own_BP5[..., :4] * positive_BP[..., None]
    centerness_BP = centerness(sides_of(where.points_P2, boxes_BP4, 1)) * positive_BP
    by_level = torch.split(positive_BP.any(0), list(where.level_sizes))
    return Matched(
        labels_BP=torch.where(positive_BP, own_BP5[..., 4].long(), objects_BP),
        weights_BP=(objects_BP != IGNORED).float(),
        boxes_BP4=boxes_BP4,
        centerness_BP=centerness_BP,
        positive_levels=torch.stack([one.any() for one in by_level]),
        level_sizes=where.level_sizes,
        num_positives=_number(positive_BP, grid.assigner),
    )


def assign(truth_BM5: Tensor, assigner: str, where: Positions) -> Tensor:
    """(B, P) int64: the row of its object in `truth_BM5`, -1 for background, -2 for ignored."""
    images_at_once = max(1, _MOST_PAIRS // (truth_BM5.shape[1] * len(where.points_P2)))
    groups = torch.split(truth_BM5, images_at_once)
    return torch.cat([ASSIGNERS[assigner](one[..., :4], one[..., 4] >= 0, where) for one in groups])


def atss(boxes_BM4: Tensor, real_BM: Tensor, where: Positions) -> Tensor:
    """(B, P); of several objects the one that overlaps the anchor most. Mean and (unbiased) deviation are
    over the candidates of all levels."""
    near_BMC = _nearest(boxes_BM4, where)
    iou_BMP = paired_iou(boxes_BM4[:, :, None], where.anchors_P4)
    iou_BMC = iou_BMP.gather(2, near_BMC)
    # One candidate deviates by 0, not by 0 / 0.
    spread_BM1 = iou_BMC.std(2, keepdim=True, correction=min(1, iou_BMC.shape[2] - 1))
    sides_BMC4 = sides_of(where.points_P2[near_BMC], boxes_BM4[:, :, None], 1)
    good_BMC = (iou_BMC >= iou_BMC.mean(2, keepdim=True) + spread_BM1) & real_BM[..., None]
    good_BMC &= sides_BMC4.amin(-1) > INSIDE_PX
    none_BMP = iou_BMP.new_full(iou_BMP.shape, -1.0)
    quality_BP, object_BP = none_BMP.scatter(2, near_BMC, iou_BMC.where(good_BMC, -1.0)).max(1)
    return object_BP.where(quality_BP >= 0, BACKGROUND)


def max_iou(boxes_BM4: Tensor, real_BM: Tensor, where: Positions) -> Tensor:
    """(B, P). An anchor that overlaps two objects more than any other anchor does answers for the one that it
    overlaps more (mmdet: for the later one, which made the loss depend on the order of objects)."""
    iou_BMP = paired_iou(boxes_BM4[:, :, None], where.anchors_P4).where(real_BM[..., None], -1.0)
    quality_BP, object_BP = iou_BMP.max(1)
    assigned_BP = object_BP.where(quality_BP >= FOREGROUND_IOU, IGNORED)
    assigned_BP = assigned_BP.where(quality_BP >= BACKGROUND_IOU, BACKGROUND)
    most_BM1 = iou_BMP.amax(2, keepdim=True)
    # An object off every anchor overlaps all of them most, by nothing.
    best_BMP = (iou_BMP == most_BM1) & (most_BM1 > 0)
    claim_BP, claimed_BP = iou_BMP.where(best_BMP, -1.0).max(1)
    return claimed_BP.where(claim_BP >= 0, assigned_BP)


def fcos(boxes_BM4: Tensor, real_BM: Tensor, where: Positions) -> Tensor:
    """(B, P); of several objects the smallest."""
    x_y_P2, stride_P, (least_P, most_P) = where.points_P2, _per_position(where), _reaches(where)
    boxes_BM14 = boxes_BM4[:, :, None]
    sides_BMP4 = sides_of(x_y_P2, boxes_BM14, 1)
    centres_BM12 = (boxes_BM14[..., :2] + boxes_BM14[..., 2:]) / 2
    central_BMP = ((x_y_P2 - centres_BM12).abs() < RADIUS * stride_P[:, None]).all(-1)
    farthest_BMP = sides_BMP4.amax(-1)
    right_size_BMP = (farthest_BMP >= least_P) & (farthest_BMP <= most_P)
    good_BMP = central_BMP & (sides_BMP4.amin(-1) > 0) & right_size_BMP & real_BM[..., None]
    area_BM1 = (boxes_BM14[..., 2:] - boxes_BM14[..., :2]).prod(-1)
    smallest_BP, object_BP = area_BM1.expand(good_BMP.shape).where(good_BMP, torch.inf).min(1)
    return object_BP.where(smallest_BP < torch.inf, BACKGROUND)


ASSIGNERS: dict[str, Assigner] = {"atss": atss, "max_iou": max_iou, "fcos": fcos}


def _nearest(boxes_BM4: Tensor, where: Positions) -> Tensor:
    """(B, M, C): of each level the positions nearest to the centre of each object."""
    centres_BM12 = ((boxes_BM4[..., :2] + boxes_BM4[..., 2:]) / 2)[:, :, None]
    first, chosen = 0, []
    for points_P2 in torch.split(where.points_P2, list(where.level_sizes)):
        distance_BMP = (points_P2 - centres_BM12).square().sum(-1)
        near_BMC = distance_BMP.topk(min(TOPK, len(points_P2)), dim=2, largest=False).indices
        chosen.append(near_BMC + first)
        first += len(points_P2)
    return torch.cat(chosen, dim=2)


def _per_position(where: Positions) -> Tensor:
    return _repeated(where.strides_L, where)


def _reaches(where: Positions) -> tuple[Tensor, Tensor]:
    """Least and largest distance in pixels to the farthest side of an object that a position answers for:
    64, 128, 256, 512 between strides 8, 16, 32, 64, 128."""
    ends = [REACH * stride for stride in where.strides_L]
    return _repeated((-1.0, *ends[:-1]), where), _repeated((*ends[:-1], torch.inf), where)


def _repeated(per_level: tuple[float, ...], where: Positions) -> Tensor:
    """One number a level to one a position, (P,)."""
    anchors_P4 = where.anchors_P4
    parts = zip(per_level, where.level_sizes, strict=True)
    return torch.cat([anchors_P4.new_full((size,), float(value)) for value, size in parts])


def _number(positive_BP: Tensor, assigner: str) -> Tensor:
    """What the terms are divided by: positives, averaged over the ranks, at least 1. As in mmdet an image
    without a positive counts as one, but for FCOS, which counts positives alone."""
    per_image_B = positive_BP.sum(1)
    if assigner != "fcos":
        per_image_B = per_image_B.clamp(min=1)
    return mean_over_ranks(per_image_B.sum().float()).clamp(min=1)
