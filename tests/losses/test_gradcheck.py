"""The gradient of every loss of the table is the derivative of its value, in float64, as a run computes it.

Along one random direction through all student tensors at once: central difference against the gradient. The
formulas have full gradchecks of their own beside their tests.
"""

import copy

import pytest
import torch
from method_inputs import CASES, build_case

STEP = 1e-6
# Published gradients that are not the derivative of the value: some of it is held constant on purpose. Their
# own tests check who is held; the golden vectors check the numbers.
HELD = {
    "segmentation/skds-pair": "the norm of each node is a constant",
    "segmentation/skds": "as skds-pair",
    "classification/dml": "the other networks are constants",
    "classification/byot": "the deepest exit is a constant teacher",
    "detection/bckd": "the weight of the localisation term is a constant",
    "detection/gid": "the boxes of its instances, which the student may have answered, are constants",
    "detection/ld": "the score that weighs the bins is a constant",
    "classification/crd": "the normaliser, taken from the first batch, is a constant",
}


@pytest.mark.parametrize("name", [case for case in CASES if case not in HELD])
def test_the_gradient_is_the_derivative_of_the_value(name: str) -> None:
    losses, inputs = build_case(name, rounded=False)
    losses.double()
    draw = torch.Generator().manual_seed(1)
    values = {tap: value.detach().double() for tap, value in inputs.student.items()}
    along = {tap: torch.randn(v.shape, generator=draw, dtype=torch.float64) for tap, v in values.items()}
    teacher = {need: value.double() for need, value in inputs.teacher.items()}

    def total(share: float) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Memories, statistics and draws begin anew in every evaluation."""
        inputs.generator.manual_seed(0)
        leaves = {tap: (v + share * along[tap]).requires_grad_() for tap, v in values.items()}
        again = inputs._replace(student=leaves, teacher=teacher)
        return copy.deepcopy(losses)(again).total, leaves

    value, leaves = total(0.0)
    grads = torch.autograd.grad(value, list(leaves.values()), allow_unused=True)
    pairs = zip(along.values(), grads, strict=True)
    slope = sum(float((way * grad).sum()) for way, grad in pairs if grad is not None)
    with torch.no_grad():
        difference = float(total(STEP)[0] - total(-STEP)[0]) / (2 * STEP)
    assert slope != 0 and difference == pytest.approx(slope, rel=1e-4, abs=1e-6)
