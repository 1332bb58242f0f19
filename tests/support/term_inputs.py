"""Random step inputs for the tests of single loss terms, and the slope test of a whole term."""

from collections.abc import Mapping, Sequence

import torch
from bare_inputs import specs
from torch import Tensor

from kdcache.losses.contract import NO_FACTS, Facts, LossTerm
from kdcache.losses.loss_set import LossSet
from kdcache.losses.plan.plan import parse_losses
from kdcache.losses.step_inputs import StepInputs


def vectors(taps: Mapping[str, int], *, rows: int, seed: int = 0) -> dict[str, Tensor]:
    """float64 leaves (rows, width) by tap."""
    source = torch.Generator().manual_seed(seed)
    return {
        tap: torch.randn(rows, width, generator=source, dtype=torch.float64).requires_grad_()
        for tap, width in taps.items()
    }


def classified(
    student: Mapping[str, Tensor],
    teacher: Mapping[str, Tensor] | None = None,
    *,
    labels: Sequence[int],
    epoch: int = 0,
    learner: int | None = None,
    rows_per_sample: int = 1,
) -> StepInputs:
    """Inputs of one step of classification."""
    constant = {tap: value.detach() for tap, value in (teacher or {}).items()}
    return StepInputs(
        student,
        constant,
        torch.tensor(labels),
        torch.Generator().manual_seed(5),
        0,
        epoch,
        learner=learner,
        rows_per_sample=rows_per_sample,
    )


def build_set(expression: str, inputs: StepInputs, *, facts: Facts = NO_FACTS) -> LossSet:
    """The whole set for the sizes of `inputs`, in float64, drawn from seed 0."""
    torch.manual_seed(0)
    plan = parse_losses(expression, preset=None, task="classification")
    return plan.build(student=specs(inputs.student), teacher=specs(inputs.teacher), facts=facts).double()


def build_term(expression: str, inputs: StepInputs, *, facts: Facts = NO_FACTS) -> LossTerm:
    """The last term of an expression."""
    term = list(build_set(expression, inputs, facts=facts).terms.values())[-1]
    assert isinstance(term, LossTerm)
    return term


def slope_holds(losses: LossSet, inputs: StepInputs) -> bool:
    """gradcheck of the total for every student tensor and every learned weight."""
    weights = [p for p in losses.parameters() if p.requires_grad]

    def total(*tensors: Tensor) -> Tensor:
        inputs.generator.manual_seed(3)
        student = dict(zip(inputs.student, tensors, strict=False))
        value: Tensor = losses(inputs._replace(student=student)).total
        return value

    return bool(torch.autograd.gradcheck(total, (*inputs.student.values(), *weights), fast_mode=True))
