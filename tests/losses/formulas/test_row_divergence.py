"""KL of similarity rows in blocks: the direct form's value and gradients, whatever the blocks."""

import pytest
import torch
from torch import Tensor

from kdcache.losses.formulas import row_divergence
from kdcache.losses.formulas.row_divergence import summed_row_kl


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def direct(student: Tensor, keys: Tensor, teacher: Tensor, teacher_keys: Tensor, tau: float) -> Tensor:
    total = student.new_zeros(())
    for group in range(len(keys)):
        mine = (student @ keys[group].T / tau).log_softmax(1)
        theirs = (teacher @ teacher_keys[group].T / tau).log_softmax(1)
        total = total + (theirs.exp() * (theirs - mine)).sum()
    return total


@pytest.mark.parametrize("block_bytes", [1, 2000, 1 << 25])
def test_blocks_give_the_direct_form_and_its_gradients(
    block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(row_divergence.BLOCK_BYTES, "cpu", block_bytes)
    student, keys = drawn(11, 3, seed=1).requires_grad_(), drawn(2, 7, 3, seed=2).requires_grad_()
    teacher, teacher_keys = drawn(11, 5, seed=3), drawn(2, 7, 5, seed=4)
    blocks, wanted = (f(student, keys, teacher, teacher_keys, 0.4) for f in (summed_row_kl, direct))
    torch.testing.assert_close(blocks, wanted, rtol=1e-12, atol=0)
    for gradient, expected in zip(
        torch.autograd.grad(3 * blocks, (student, keys)),
        torch.autograd.grad(3 * wanted, (student, keys)),
        strict=True,
    ):
        torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-13)


def test_the_gradient_is_that_of_the_value() -> None:
    student, keys = drawn(4, 3, seed=1).requires_grad_(), drawn(1, 5, 3, seed=2).requires_grad_()
    teacher, teacher_keys = drawn(4, 2, seed=3), drawn(1, 5, 2, seed=4)
    assert torch.autograd.gradcheck(
        lambda s, k: summed_row_kl(s, k, teacher, teacher_keys, 0.7), (student, keys)
    )


def test_no_row_at_all_gives_zero_and_a_zero_gradient() -> None:
    student, keys = drawn(4, 3, seed=1).requires_grad_(), drawn(1, 5, 3, seed=2)
    none = student[torch.zeros(4, dtype=torch.bool)]
    summed = summed_row_kl(none, keys, none.detach(), keys, 0.1)
    (gradient,) = torch.autograd.grad(summed, student)
    assert summed.item() == 0
    assert gradient.count_nonzero() == 0


def test_half_precision_arguments_are_compared_in_float32() -> None:
    rows = drawn(6, 4, seed=1).bfloat16()
    keys = drawn(1, 8, 4, seed=2).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        divergence = summed_row_kl(rows, keys, rows.flip(0), keys, 0.1)
    assert divergence.dtype == torch.float32
    torch.testing.assert_close(
        divergence, direct(rows.float(), keys.float(), rows.flip(0).float(), keys.float(), 0.1)
    )
