"""Batches at the edge, for every method on segmentation: nothing that is not a number trains on."""

from collections.abc import Callable

import pytest
import torch
from segmentation_run import METHODS, method_inputs
from torch import Tensor

from kdcache.cache.spec import IGNORE
from kdcache.losses.loss_set import LossSet
from kdcache.losses.step_inputs import StepInputs
from kdcache.trainer.steps.rivals import detached


def all_ignored(inputs: StepInputs) -> StepInputs:
    return inputs._replace(truth=torch.full_like(inputs.truth, IGNORE))


def one_class(inputs: StepInputs) -> StepInputs:
    return inputs._replace(truth=torch.zeros_like(inputs.truth))


def dead_maps(inputs: StepInputs) -> StepInputs:
    """Every map of both sides is 0, as behind a dead ReLU."""
    return _filled(inputs, torch.zeros_like)


def constant_maps(inputs: StepInputs) -> StepInputs:
    """Every cell of every image says the same."""
    return _filled(inputs, lambda value: value[:1, :, :1, :1].expand_as(value).clone())


def one_image(inputs: StepInputs) -> StepInputs:
    """As one image per rank and micro batch gives it."""
    cut = _filled(inputs, lambda value: value[:1].clone())
    assert inputs.samples_B is not None and inputs.images_BHWC is not None
    return cut._replace(
        truth=inputs.truth[:1], samples_B=inputs.samples_B[:1], images_BHWC=inputs.images_BHWC[:1]
    )


@pytest.mark.parametrize("edge", [all_ignored, one_class, dead_maps, constant_maps, one_image])
@pytest.mark.parametrize("loss", METHODS)
def test_values_and_gradients_stay_finite(loss: str, edge: Callable[[StepInputs], StepInputs]) -> None:
    losses, inputs = method_inputs(loss)
    inputs = edge(inputs)
    values = losses(inputs)
    values.total.backward()
    assert torch.isfinite(values.total)
    _rivals_learn(losses, inputs)
    parts = [*inputs.student.items(), *losses.named_parameters()]
    assert [name for name, value in parts if value.grad is not None and not value.grad.isfinite().all()] == []
    assert [name for name, value in losses.named_buffers() if not value.isfinite().all()] == []


def _rivals_learn(losses: LossSet, inputs: StepInputs) -> None:
    for label, rival in losses.rivals().items():
        rival.module.zero_grad()
        loss = losses.terms[label].rival_loss(detached(inputs))  # type: ignore[operator]
        loss.backward()
        assert torch.isfinite(loss)


def _filled(inputs: StepInputs, fill: Callable[[Tensor], Tensor]) -> StepInputs:
    student = {tap: fill(value.detach()).requires_grad_() for tap, value in inputs.student.items()}
    return inputs._replace(student=student, teacher={tap: fill(v) for tap, v in inputs.teacher.items()})
