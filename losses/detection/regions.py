"""The valuable localisation region of LD: positions around an object that are close, but not close enough to
answer for it.

Per object, IoU with every anchor:
    th = mean + std (unbiased) of the IoU of its 9 nearest anchors of each level, by distance of the centres
    D  = overlap / anchor area - rho^2 / c^2       rho between the centres, c the diagonal around both
    in its region: th / 4 <= D < th
    value of a position = the largest IoU among the objects in whose region it is; 0 elsewhere
D is what the published code computes: its mode 'diou' divides by the anchor's area where DIoU has the union.
Positives are not left out. Zheng et al. 2022, https://arxiv.org/abs/2102.12252; HikariTJU/LD 4287990
`atss_assigner.py`.
"""

import torch
from torch import Tensor

from kdcache.losses.detection.boxes import EPSILON, around_both, centres, paired_areas, paired_iou

NEAREST = 9  # anchors of each level that set an object's threshold
SHARE = 0.25  # of the threshold, from which on an anchor is in the region


def valuable_regions(
    anchors_P4: Tensor, boxes_M4: Tensor, level_sizes: tuple[int, ...], *, nearest: int = NEAREST
) -> Tensor:
    """(P,) values in [0, 1] for the objects of one image, M of them or none. Boxes in pixels."""
    if not len(boxes_M4):
        return anchors_P4.new_zeros(len(anchors_P4))
    iou_MP = paired_iou(anchors_P4[None], boxes_M4[:, None])
    limit_M1 = _thresholds(anchors_P4, boxes_M4, iou_MP, level_sizes, nearest)
    close_MP = overlap_less_distance(anchors_P4[None], boxes_M4[:, None])
    inside_MP = (close_MP >= SHARE * limit_M1) & (close_MP < limit_M1)
    return torch.where(inside_MP, iou_MP, 0.0).amax(0)


def overlap_less_distance(anchors_N4: Tensor, boxes_N4: Tensor) -> Tensor:
    """(N,): D above, pair by pair; -1 to 1."""
    areas = paired_areas(anchors_N4, boxes_N4)
    squared_centres = (centres(anchors_N4) - centres(boxes_N4)).square().sum(-1)
    diagonal = around_both(anchors_N4, boxes_N4).clamp(min=0).square().sum(-1).clamp(min=EPSILON)
    return areas.overlap / areas.first.clamp(min=EPSILON) - squared_centres / diagonal


def _thresholds(
    anchors_P4: Tensor, boxes_M4: Tensor, iou_MP: Tensor, level_sizes: tuple[int, ...], nearest: int
) -> Tensor:
    """(M, 1): mean + std of the candidates' IoU. One candidate alone has the deviation 0."""
    away_MP = (centres(anchors_P4)[None] - centres(boxes_M4)[:, None]).square().sum(-1)
    candidates = []
    sizes = list(level_sizes)
    for iou, away in zip(torch.split(iou_MP, sizes, 1), torch.split(away_MP, sizes, 1), strict=True):
        closest = away.topk(min(nearest, away.shape[1]), dim=1, largest=False).indices
        candidates.append(iou.gather(1, closest))
    chosen_MC = torch.cat(candidates, dim=1)
    mean_M1 = chosen_MC.mean(1, keepdim=True)
    squares_M1 = (chosen_MC - mean_M1).square().sum(1, keepdim=True)
    return mean_M1 + (squares_M1 / max(chosen_MC.shape[1] - 1, 1)).sqrt()
