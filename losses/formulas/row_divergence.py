"""KL between two nets' similarities of rows to keys, block by block.

    sum over rows n and groups g of KL( softmax_m(t_n . T_gm / tau) || softmax_m(s_n . S_gm / tau) )

The similarities are rows x keys, for CIRKD's mini-batch B^2 (H W)^2 numbers: 17 GB in float32 at B 8 and
64 x 128 cells, several times that with their gradients. So rows go through in blocks, and each block leaves
its gradient behind in closed form, d/dz_s = (p_s - p_t) / tau: memory stays at one block plus the gradients
of rows and keys. No second derivative.
"""

from typing import Any

import torch
from torch import Tensor

from kdcache.losses.formulas.precision import in_float32

BLOCK_BYTES = {"cpu": 1 << 25, "cuda": 1 << 28}  # similarities of one block, both nets, with their softmaxes
_COPIES = 6  # tensors of a block's size that live at once


@in_float32
def summed_row_kl(
    student_NC: Tensor, student_keys_GMC: Tensor, teacher_ND: Tensor, teacher_keys_GMD: Tensor, tau: float
) -> Tensor:
    """The sum above. Gradient to both student arguments; no row at all gives 0 and a zero gradient."""
    summed: Tensor = _BlockwiseRows.apply(student_NC, student_keys_GMC, teacher_ND, teacher_keys_GMD, tau)
    return summed


class _BlockwiseRows(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, rows_NC: Tensor, keys_GMC: Tensor, teacher_ND: Tensor, teacher_keys_GMD: Tensor, tau: float
    ) -> Tensor:
        total = rows_NC.new_zeros(())
        rows_grad = torch.zeros_like(rows_NC) if ctx.needs_input_grad[0] else None
        keys_grad = torch.zeros_like(keys_GMC) if ctx.needs_input_grad[1] else None
        for start, stop in _blocks(len(rows_NC), keys_GMC):
            rows, teacher = rows_NC[start:stop], teacher_ND[start:stop]
            for group, (keys, teacher_keys) in enumerate(zip(keys_GMC, teacher_keys_GMD, strict=True)):
                log_student = (rows @ keys.T / tau).log_softmax(1)
                log_teacher = (teacher @ teacher_keys.T / tau).log_softmax(1)
                posterior = log_teacher.exp()
                total += (posterior * (log_teacher - log_student)).sum()
                slope = (log_student.exp() - posterior) / tau
                if rows_grad is not None:
                    rows_grad[start:stop] += slope @ keys
                if keys_grad is not None:
                    keys_grad[group] += slope.T @ rows
        ctx.save_for_backward(rows_grad, keys_grad)
        return total

    @staticmethod
    def backward(ctx: Any, grad_total: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        rows_grad, keys_grad = ctx.saved_tensors
        return (
            None if rows_grad is None else grad_total * rows_grad,
            None if keys_grad is None else grad_total * keys_grad,
            None,
            None,
            None,
        )


def _blocks(num_rows: int, keys_GMC: Tensor) -> list[tuple[int, int]]:
    row_bytes = _COPIES * keys_GMC.shape[1] * keys_GMC.element_size()
    size = max(1, BLOCK_BYTES.get(keys_GMC.device.type, 1 << 25) // row_bytes)
    return [(start, min(start + size, num_rows)) for start in range(0, num_rows, size)]
