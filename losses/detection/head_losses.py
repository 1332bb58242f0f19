"""What dense heads are trained with on their own: sums over positions, in float32 whatever the surroundings.

A caller divides. Axes: R rows (positions of one level of all images), K classes, N positives, S bins a side.
"""

import torch
from torch import Tensor
from torch.nn import functional

from kdcache.losses.formulas.precision import in_float32

FOCAL_ALPHA = 0.25
FOCAL_GAMMA = 2.0
QUALITY_BETA = 2.0
_ROOM = 0.1  # bins: a side is coded as at most so far below the last bin, so that it has a right neighbour


@in_float32
def focal_sum(logits_RK: Tensor, labels_R: Tensor, weights_R: Tensor) -> Tensor:
    """Sum over rows and classes of -a_t (1 - p_t)^2 log p_t, a = 0.25 for a row's own class, else 0.75.

    Lin et al. 2017, https://arxiv.org/abs/1708.02002. Rows of label -1 have no class.
    """
    off_RK = (1 - FOCAL_ALPHA) * logits_RK.sigmoid() ** FOCAL_GAMMA * functional.softplus(logits_RK)
    rows_N, labels_N = _positives(labels_R)
    own_N = logits_RK[rows_N, labels_N]
    on_N = FOCAL_ALPHA * (-own_N).sigmoid() ** FOCAL_GAMMA * functional.softplus(-own_N)
    return _weighted(off_RK.index_put((rows_N, labels_N), on_N), weights_R)


@in_float32
def quality_focal_sum(logits_RK: Tensor, labels_R: Tensor, weights_R: Tensor, quality_N: Tensor) -> Tensor:
    """Sum over rows and classes of |q - p|^2 BCE(p, q); q is the quality of a positive at its own class
    (`quality_N`, in the order of the rows), 0 elsewhere.

    Li et al. 2020, https://arxiv.org/abs/2006.04388.
    """
    off_RK = logits_RK.sigmoid() ** QUALITY_BETA * functional.softplus(logits_RK)
    rows_N, labels_N = _positives(labels_R)
    own_N = logits_RK[rows_N, labels_N]
    entropy_N = functional.binary_cross_entropy_with_logits(own_N, quality_N, reduction="none")
    on_N = (quality_N - own_N.sigmoid()).abs() ** QUALITY_BETA * entropy_N
    return _weighted(off_RK.index_put((rows_N, labels_N), on_N), weights_R)


@in_float32
def distribution_focal(bins_N4S: Tensor, sides_N4: Tensor) -> Tensor:
    """(N,): summed over four sides, the cross-entropy of the two bins beside a side, weighed by nearness.

    `sides_N4` in strides; cut to 0 .. S - 1.1. Li et al. 2020, https://arxiv.org/abs/2006.04388.
    """
    log_p_N4S = bins_N4S.log_softmax(-1)
    sides_N4 = sides_N4.clamp(0, bins_N4S.shape[-1] - 1 - _ROOM)
    left_N4 = sides_N4.floor()
    places_N42 = torch.stack([left_N4, left_N4 + 1], dim=-1).long()
    shares_N42 = torch.stack([left_N4 + 1 - sides_N4, sides_N4 - left_N4], dim=-1)
    return -(shares_N42 * log_p_N4S.gather(-1, places_N42)).sum((1, 2))


@in_float32
def centerness_sum(logits_N: Tensor, targets_N: Tensor) -> Tensor:
    """Sum of the binary cross-entropy of predicted centerness."""
    return functional.binary_cross_entropy_with_logits(logits_N, targets_N, reduction="sum")


def _positives(labels_R: Tensor) -> tuple[Tensor, Tensor]:
    """Rows with a class, and their classes."""
    rows_N = (labels_R >= 0).nonzero().squeeze(1)
    return rows_N, labels_R[rows_N]


def _weighted(values_RK: Tensor, weights_R: Tensor) -> Tensor:
    return (values_RK.sum(1) * weights_R.to(values_RK.dtype)).sum()
