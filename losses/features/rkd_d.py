"""RKD-D: the distances between the embeddings of a batch, each side in units of its own mean distance.

    q_ij = max(|e_i|^2 + |e_j|^2 - 2 e_i.e_j, 1e-12),  d_ij = sqrt(q_ij), 0 for i = j
    psi  = d / mean of the positive d
    L    = 1 / B^2 * sum_ij smooth_l1(psi_student - psi_teacher)        the diagonal counts

Park et al. 2019, https://arxiv.org/abs/1904.05068; lenscloth/RKD 0a6c3c0 `metric/loss.py`. The mean is not
detached. Duplicates keep the distance of the clamp and count in the mean. Two rows give exactly 0. The batch
is that of one rank.
"""

from collections.abc import Mapping
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional

from kdcache.cache.tasks.table import SEGMENTATION
from kdcache.losses.contract import LossTerm, Maps, Method, Reads, same_tap
from kdcache.losses.formulas.precision import in_float32
from kdcache.losses.formulas.rows import vectors_of
from kdcache.losses.options import About, OptionValue
from kdcache.losses.step_inputs import StepInputs

SMALLEST_SQUARE = 1e-12


@in_float32
def distance_loss(student_BD: Tensor, teacher_BD: Tensor) -> Tensor:
    """The formula above; the widths of the two sides may differ. One row gives NaN, as published."""
    return functional.smooth_l1_loss(relative_distances(student_BD), relative_distances(teacher_BD))


def relative_distances(embedding_BD: Tensor) -> Tensor:
    """(B, B): psi, 0 on the diagonal. Quadratic in the rows of a batch."""
    squares_B = embedding_BD.square().sum(1)
    products_BB = embedding_BD @ embedding_BD.T
    squares_BB = (squares_B[:, None] + squares_B[None, :] - 2 * products_BB).clamp(min=SMALLEST_SQUARE)
    same = torch.eye(len(embedding_BD), dtype=torch.bool, device=embedding_BD.device)
    distances_BB = squares_BB.sqrt().masked_fill(same, 0.0)
    return distances_BB / (distances_BB.sum() / (distances_BB > 0).sum())


class Distances(LossTerm):
    """A single row has no distances: the term is then 0 with a zero gradient. Maps count as their
    means. Defined per micro batch: the distances are those between its images.
    """

    method = Method(
        title="Relational KD, distances",
        source="Park et al. 2019, https://arxiv.org/abs/1904.05068",
        code="lenscloth/RKD 0a6c3c0 metric/loss.py RkdDistance",
        defaults="weight 1 in the metric-learning recipe; see rkd for both together",
        published="with the other half: see rkd",
    )
    per_micro_batch = "the distances are those between its images"
    same_size = False  # the means over the cells are compared
    task_settings = {SEGMENTATION: {"tap": "neck"}}

    def __init__(
        self, maps: Maps, *, tap: Annotated[str, About("embedding of both sides")] = "embedding"
    ) -> None:
        super().__init__()
        self.tap = tap

    @classmethod
    def reads(cls, options: Mapping[str, OptionValue]) -> Reads:
        return same_tap(options)

    def forward(self, inputs: StepInputs) -> Tensor:
        student, teacher = vectors_of(inputs, self.tap)
        return distance_loss(student, teacher) if len(student) > 1 else no_relation(student)


def no_relation(student_BD: Tensor) -> Tensor:
    """0 with a zero gradient, for a batch of one row."""
    return student_BD.float().sum() * 0.0
