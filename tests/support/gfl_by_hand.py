"""The task loss of a GFL head on one level, written from its formulas (Li et al. 2020,
https://arxiv.org/abs/2006.04388), for golden files that hold it beside what a distillation adds.

    quality  = sum over positions, classes of |sigma(s) - y|^2 bce(s, y) / N, y the IoU at a positive's class
    box      = 2 * sum over positives of w (1 - GIoU)
    dfl      = 1/4 * sum over positives and sides of w (cross-entropy to the two bins beside the target) / 4
w = max_k sigma(s), of a constant score. Boxes in strides about their point. R positions, n + 1 bins per side.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from kdcache.losses.detection.boxes import paired_giou, paired_iou


class Level(NamedTuple):
    """One level's rows: logits (R, K), bins (R, 4, n + 1), classes with K for background, boxes (R, 4) in
    strides about each point."""

    logits_RK: Tensor
    bins_R4D: Tensor
    labels_R: Tensor
    weights_R: Tensor
    boxes_R4: Tensor


class Terms(NamedTuple):
    quality: Tensor
    box: Tensor
    dfl: Tensor
    weight: Tensor  # the sum of w, by which box and dfl are divided later


def expectation(bins_RSD: Tensor) -> Tensor:
    """The mean of each side's distribution over 0, 1, ... n."""
    return bins_RSD.softmax(-1) @ torch.arange(bins_RSD.shape[-1], dtype=bins_RSD.dtype)


def about_point(sides_R4: Tensor) -> Tensor:
    return torch.cat([-sides_R4[:, :2], sides_R4[:, 2:]], dim=1)


def task_terms(level: Level, num_samples: float, *, small: float) -> Terms:
    """`small` is BCKD's addition to scores and their maximum, 0 for LD."""
    logits, num_classes = level.logits_RK, level.logits_RK.shape[1]
    positive = (level.labels_R >= 0) & (level.labels_R < num_classes)
    boxes = about_point(expectation(level.bins_R4D))[positive]
    target = level.boxes_R4[positive]
    quality_RK = torch.zeros_like(logits)
    quality_RK[positive, level.labels_R[positive]] = paired_iou(boxes, target).detach()
    bce = functional.binary_cross_entropy_with_logits(logits, quality_RK, reduction="none")
    quality = ((logits.sigmoid() - quality_RK).square() * bce).sum(1) @ level.weights_R / num_samples
    weight = ((logits.detach().sigmoid() + small).amax(1) + small)[positive]
    largest = level.bins_R4D.shape[2] - 1
    sides = about_point(target).clamp(0, largest - 0.1)
    low = sides.floor().long()
    log_p = level.bins_R4D[positive].log_softmax(-1)
    at_low, at_high = (log_p.gather(2, bin_[..., None])[..., 0] for bin_ in (low, low + 1))
    dfl = -(at_low * (low + 1 - sides) + at_high * (sides - low)).sum(1)
    box = 2 * ((1 - paired_giou(boxes, target)) * weight).sum()
    return Terms(quality, box, 0.25 * (dfl * weight).sum() / 4, weight.sum())
