"""RKD-A: the angles of all triplets of a batch's embeddings.

    u_ij  = (e_j - e_i) / max(|e_j - e_i|, 1e-12)
    A_ijk = u_ij . u_ik        the angle at vertex i
    L     = 1 / B^3 * sum_ijk smooth_l1(A_student - A_teacher)        degenerate triplets count

All at once this takes B^2 D + B^3 numbers and as many again for the gradient. Vertices go through in blocks
and each block leaves its gradient behind: memory stays at one block plus one batch. Equal to the direct form.
Park et al. 2019, https://arxiv.org/abs/1904.05068; lenscloth/RKD 0a6c3c0 `metric/loss.py`. One or two rows
give 0. The batch is that of one rank.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from torch import Tensor
from torch.nn import functional

from kdcache.cache.tasks.table import SEGMENTATION
from kdcache.losses.contract import LossTerm, Maps, Method, Reads, same_tap
from kdcache.losses.formulas.precision import in_float32
from kdcache.losses.formulas.rows import vectors_of
from kdcache.losses.options import About, OptionValue
from kdcache.losses.step_inputs import StepInputs

BLOCK_BYTES = {"cpu": 1 << 25, "cuda": 1 << 28}  # directions and angles in flight
COPIES = 6  # of a block's directions and angles, with those that its gradient needs


@in_float32
def angle_loss(student_BD: Tensor, teacher_BD: Tensor) -> Tensor:
    """The formula above; the widths of the two sides may differ."""
    summed: Tensor = _BlockwiseAngles.apply(student_BD, teacher_BD)
    return summed / len(student_BD) ** 3


def vertex_angles(embedding_BD: Tensor, vertices: slice) -> Tensor:
    """(V, B, B): A for V vertices. The direct form that blocks are made of."""
    directions_VBD = functional.normalize(embedding_BD[None] - embedding_BD[vertices, None], dim=2)
    return directions_VBD @ directions_VBD.transpose(1, 2)


class _BlockwiseAngles(torch.autograd.Function):
    """Sum over all triplets; its gradient is made in the forward, once, and kept as one batch."""

    @staticmethod
    def forward(ctx: Any, student_BD: Tensor, teacher_BD: Tensor) -> Tensor:
        total = student_BD.new_zeros(())
        wanted = ctx.needs_input_grad[0]
        gradient = torch.zeros_like(student_BD) if wanted else None
        width = max(student_BD.shape[1], teacher_BD.shape[1])
        size = _vertices_per_block(student_BD, width)
        leaf, teacher_BD = student_BD.detach().requires_grad_(wanted), teacher_BD.detach()
        for start in range(0, len(student_BD), size):
            vertices = slice(start, start + size)
            with torch.set_grad_enabled(wanted):
                value = functional.smooth_l1_loss(
                    vertex_angles(leaf, vertices), vertex_angles(teacher_BD, vertices), reduction="sum"
                )
            if gradient is not None:
                gradient += torch.autograd.grad(value, leaf)[0]
            total += value.detach()
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, grad_total: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return grad_total * gradient, None


def _vertices_per_block(student_BD: Tensor, width: int) -> int:
    num_rows = len(student_BD)
    vertex_bytes = num_rows * (width + num_rows) * student_BD.element_size() * COPIES
    return max(1, BLOCK_BYTES.get(student_BD.device.type, 1 << 25) // vertex_bytes)


class Angles(LossTerm):
    """Maps count as their means over the cells. Defined per micro batch: the angles are those between
    its images.
    """

    method = Method(
        title="Relational KD, angles",
        source="Park et al. 2019, https://arxiv.org/abs/1904.05068",
        code="lenscloth/RKD 0a6c3c0 metric/loss.py RKdAngle",
        defaults="weight 2 in the metric-learning recipe; see rkd for both together",
        published="with the other half: see rkd",
    )
    per_micro_batch = "the angles are those between its images"
    same_size = False  # the means over the cells are compared
    task_settings = {SEGMENTATION: {"tap": "neck"}}
    published_weight = 2.0

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
        return angle_loss(student, teacher)
