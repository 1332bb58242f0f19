"""Every loss in bfloat16: inputs rounded to it, under autocast, against the same inputs in float32.

What must run in float32 (temperatures, norms, sums over a map, spectral norm, L1 / tau) does so whatever the
surroundings, so a term moves by no more than learned layers in bfloat16 move it. `BOUND` is that share.
"""

import pytest
import torch
from method_inputs import CASES, build_case

BOUND = 0.03  # of the loss; bfloat16 keeps 8 bits, one rounding is 0.4 %


@pytest.mark.parametrize("name", CASES)
def test_a_run_in_bfloat16_has_the_loss_of_one_in_float32(name: str) -> None:
    losses, inputs = build_case(name, rounded=True)
    state = {key: value.clone() for key, value in losses.state_dict().items()}
    wide = losses(inputs)
    losses.load_state_dict(state)
    inputs.generator.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        narrow = losses(inputs)
    assert torch.isfinite(wide.total) and torch.isfinite(narrow.total)
    for term, value in wide.unweighted.items():
        error = abs(float(narrow.unweighted[term]) - float(value)) / max(abs(float(value)), 1e-3)
        assert error <= BOUND, f"{term} moves by {error:.1%}"


@pytest.mark.parametrize("name", CASES)
def test_every_loss_has_a_finite_gradient_for_what_it_reads(name: str) -> None:
    losses, inputs = build_case(name, rounded=False)
    losses(inputs).total.backward()
    grads = [value.grad for value in inputs.student.values()] + [p.grad for p in losses.parameters()]
    assert any(grad is not None for grad in grads)
    assert all(torch.isfinite(grad).all() for grad in grads if grad is not None)
