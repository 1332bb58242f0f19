"""What SSKD compares: similarities of turned views to plain ones, and the rows on which a teacher is trusted.

B samples, R = 3 B turned views (row r belongs to sample r // 3), K classes or columns.
"""

import torch
from torch import Tensor

from kdcache.losses.formulas.divergence import kl
from kdcache.losses.formulas.precision import in_float32

SMALLEST_NORM = 1e-8
TURNS = 3  # turned views per sample


@in_float32
def similarity(values_4BxD: Tensor) -> Tensor:
    """(3 B, B): cosine of every turned view with every plain one. Rows 4 i of the input are plain."""
    units = values_4BxD / values_4BxD.norm(dim=1, keepdim=True).clamp(min=SMALLEST_NORM)
    per_sample = units.reshape(-1, 1 + TURNS, units.shape[1])
    cosines: Tensor = per_sample[:, 1:].flatten(0, 1) @ per_sample[:, 0].T
    return cosines


def true_rank(scores_RK: Tensor, columns_R: Tensor) -> Tensor:
    """(R,) int64: how many columns stand before the true one in descending order; equal ones by column."""
    own = scores_RK.gather(1, columns_R[:, None])
    before = torch.arange(scores_RK.shape[1], device=scores_RK.device) < columns_R[:, None]
    return ((scores_RK > own) | ((scores_RK == own) & before)).sum(1)


def kept_rows(rank_R: Tensor, ratio: float) -> Tensor:
    """(R,) bool: all rows of rank 0 and int(ratio * number of the others) of the others, smallest rank
    first, equal ones by row.
    """
    wrong = (rank_R > 0).sum()
    num_kept = (len(rank_R) - wrong) + (wrong.double() * ratio).floor().long()
    place_R = rank_R.argsort(stable=True).argsort()
    return place_R < num_kept


@in_float32
def kept_kl(student_RK: Tensor, teacher_RK: Tensor, kept_R: Tensor, *, temperature: float) -> Tensor:
    """T^2 * mean over the kept rows of KL(teacher || student); 0 where none is kept."""
    rows_R = kl(student_RK, teacher_RK, temperature=temperature, dim=1)
    return temperature**2 * (rows_R * kept_R).sum() / kept_R.sum().clamp(min=1)
