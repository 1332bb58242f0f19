"""One loss on a batch of four samples, and on its two halves: the micro batches of one step."""

import copy
from collections.abc import Iterator
from typing import NamedTuple

import torch
from dense_inputs import CANVAS, GFL, assigned, dense_set, scene
from method_inputs import build_case
from torch import Tensor

from kdcache.cache.spec import IGNORE
from kdcache.cache.tasks.table import DETECTION, SEGMENTATION
from kdcache.losses.contract import LossTerm, Maps
from kdcache.losses.loss_set import LossSet, WeightedTerm
from kdcache.losses.plan.load import load_loss
from kdcache.losses.plan.table import TASK
from kdcache.losses.step_inputs import StepInputs

PARTS, SEED = 2, 7
OBJECTS = (  # four images, whose numbers of objects and of positives are uneven
    ((4.0, 6.0, 30.0, 28.0, 1), (40.0, 20.0, 90.0, 60.0, 3), (50.0, 2.0, 62.0, 14.0, 0)),
    ((2.0, 2.0, 90.0, 62.0, 2),),
    ((10.0, 30.0, 26.0, 46.0, 4),),
    ((60.0, 10.0, 84.0, 30.0, 1),),
)
IGNORED_ROWS = (0, 40, 128, 100)  # of 128 rows of pixels of each image; of the third image all


class Answer(NamedTuple):
    """The value of a term and its gradient by every student tensor and every learned weight."""

    value: Tensor
    gradients: dict[str, Tensor]


def split_case(case: str) -> tuple[LossSet, StepInputs]:
    """As `method_inputs.build_case`, in float64, with uneven labels; also of 'task', the supervised loss."""
    task, _, expression = case.partition("/")
    if task == DETECTION:
        maps, inputs = scene(objects=OBJECTS)
        return (_task_alone(maps) if expression == TASK else dense_set(expression, maps)).double(), inputs
    losses, inputs = build_case(case, rounded=False)
    if task == SEGMENTATION:
        truth = inputs.truth.clone()
        for image, rows in enumerate(IGNORED_ROWS):
            truth[image, :rows] = IGNORE
        inputs = inputs._replace(truth=truth)
    return losses.double(), _double(inputs)


def _task_alone(maps: Maps) -> LossSet:
    torch.manual_seed(0)
    loss_class = load_loss(TASK, task=DETECTION, where="tests")
    return LossSet((WeightedTerm(TASK, 1.0, loss_class(maps)),))  # type: ignore[call-arg]


def _double(inputs: StepInputs) -> StepInputs:
    student = {tap: value.detach().double() for tap, value in inputs.student.items()}
    return inputs._replace(
        student=student, teacher={need: value.double() for need, value in inputs.teacher.items()}
    )


def halves(inputs: StepInputs, task: str, losses: LossSet) -> Iterator[StepInputs]:
    """Two micro batches of two samples; labels counted over both as the trainer counts them."""
    counts = losses.count_labels(inputs.truth) / PARTS if losses.counts_labels else None
    for part in range(PARTS):
        half = len(inputs.truth) // PARTS
        rows = slice(part * half, (part + 1) * half)
        truth = inputs.truth[rows]
        yield inputs._replace(
            student={tap: value[rows] for tap, value in inputs.student.items()},
            teacher={need: value[rows] for need, value in inputs.teacher.items()},
            truth=truth,
            samples_B=None if inputs.samples_B is None else inputs.samples_B[rows],
            images_BHWC=None if inputs.images_BHWC is None else inputs.images_BHWC[rows],
            labels_per_batch=counts,
            prepared=assigned(GFL, truth, CANVAS) if task == DETECTION else None,
        )


def answer(losses: LossSet, term: str, inputs: StepInputs, seed: int) -> Answer:
    """Of one micro batch. Draws are seeded anew, as those of every micro batch are."""
    inputs.generator.manual_seed(seed)
    leaves = {tap: value.detach().clone().requires_grad_() for tap, value in inputs.student.items()}
    inputs = inputs._replace(student=leaves)
    module = losses.terms[term]
    assert isinstance(module, LossTerm)
    prepared = module.prepare(inputs)
    output = module(inputs if prepared is None else inputs._replace(prepared=prepared))
    parts = [output] if isinstance(output, Tensor) else [one.value * one.weight for one in output.values()]
    value = torch.stack(parts).sum()
    weights = {name: one for name, one in module.named_parameters() if one.requires_grad}
    by = {**leaves, **weights}
    if not value.requires_grad:
        return Answer(value.detach(), {name: torch.zeros_like(one) for name, one in by.items()})
    grads = torch.autograd.grad(value, list(by.values()), allow_unused=True)
    named = {
        name: torch.zeros_like(one) if grad is None else grad
        for (name, one), grad in zip(by.items(), grads, strict=True)
    }
    return Answer(value.detach(), named)


def whole_and_split(case: str, term: str) -> tuple[Answer, Answer]:
    """One batch of four; the mean of two of two, one after the other as in one step."""
    losses, inputs = split_case(case)
    task = case.partition("/")[0]
    again = copy.deepcopy(losses)
    whole = answer(losses, term, inputs, SEED)
    first, second = (
        answer(again, term, half, SEED + part) for part, half in enumerate(halves(inputs, task, again))
    )
    gradients = {}
    for name, grad in whole.gradients.items():
        one, two = first.gradients[name], second.gradients[name]
        # A student's tensor belongs to one half, a weight of the loss to both.
        gradients[name] = torch.cat((one, two)) / 2 if name in inputs.student else (one + two) / 2
        assert gradients[name].shape == grad.shape
    return whole, Answer((first.value + second.value) / 2, gradients)


def is_the_same(whole: Answer, split: Answer) -> bool:
    """To rounding, in the value and in every gradient."""
    pairs = [(whole.value, split.value)] + [(whole.gradients[n], split.gradients[n]) for n in whole.gradients]
    return all(torch.allclose(one, other, rtol=1e-8, atol=1e-12) for one, other in pairs)
