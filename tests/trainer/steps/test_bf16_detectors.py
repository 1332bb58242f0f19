"""Detectors of every head under bfloat16 autocast, as `--amp bf16` trains them: what is assigned and what is
summed stay in float32, the terms stay near those of float32, every parameter gets a finite gradient.
"""

from functools import cache
from typing import NamedTuple

import pytest
import torch
from bare_inputs import step_inputs
from painted_objects import paint
from torch import Tensor

from kdcache.cache.grid import levels_of_kinds
from kdcache.cache.networks.build import build_network
from kdcache.cache.networks.network import Network
from kdcache.cache.tasks.table import DETECTION
from kdcache.losses.contract import Facts
from kdcache.losses.detection.matched import Matched
from kdcache.losses.plan.plan import parse_losses
from kdcache.losses.step_inputs import LossValues, StepInputs
from kdcache.losses.supervised.detection import Supervised
from kdcache.trainer.assemble import student_taps
from kdcache.trainer.steps.step import Distiller

NETWORKS = {
    "gfl": "gfl(width=32,convs=1):test_resnet",
    "atss": "atss(width=32,convs=1):test_resnet",
    "fcos": "fcos:test_resnet",
    "retinanet": "retinanet:test_resnet",
}
CANVAS, CLASSES = (64, 96), 3
BOUND = 0.03  # of a term; bfloat16 keeps 8 bits, one rounding is 0.4 %; seen: up to 1 %
SLOPE_BOUND = 0.15  # of the gradient of all parameters together; seen: up to 0.06
HEADS = pytest.mark.parametrize("head", NETWORKS)


class Trained(NamedTuple):
    distiller: Distiller
    inputs: StepInputs

    def step(self, *, narrow: bool) -> LossValues:
        self.distiller.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
            values: LossValues = self.distiller(self.inputs)
        values.total.backward()
        return values

    @property
    def slopes(self) -> dict[str, Tensor]:
        named = self.distiller.named_parameters()
        return {name: p.grad.clone() for name, p in named if p.grad is not None}


def detector(head: str, seed: int) -> Network:
    """Weights and biases moved, so that a teacher says something else than a student."""
    torch.manual_seed(seed)
    network = build_network(NETWORKS[head], task=DETECTION, num_classes=CLASSES)
    with torch.no_grad():
        for name, parameter in network.model.get_submodule("head").named_parameters():
            parameter.add_(torch.randn_like(parameter) * (1.0 if name.endswith("bias") else 0.01))
    return network.eval()


@cache
def trained(head: str) -> Trained:
    """Two painted images, one of them without an object; every term of the task, bckd and pkd."""
    student, teacher = detector(head, 0), detector(head, 1)
    assert student.grid is not None
    levels = levels_of_kinds(student.grid)
    plan = parse_losses("bckd+pkd", preset=None, task=DETECTION).with_levels(levels, levels)
    taps = student_taps(plan, student)
    targets = [need.tap for need in plan.needs]
    specs = teacher.tap_specs(targets, *CANVAS)
    losses = plan.build(
        student=student.tap_specs(taps, *CANVAS),
        teacher={need.name: specs[need.tap] for need in plan.needs},
        facts=Facts(DETECTION, CLASSES, input_size=CANVAS),
        student_grid=student.grid,
        teacher_grid=teacher.grid,
    )
    drawn = paint(0, CANVAS, 5)
    images = torch.stack(
        [torch.from_numpy(drawn.pixels_HWC), torch.full((*CANVAS, 3), 90, dtype=torch.uint8)]
    )
    truth = torch.full((2, 5, 5), -1.0)
    truth[0, :, :4], truth[0, :, 4] = torch.from_numpy(drawn.boxes_M4), torch.from_numpy(drawn.classes_M)
    with torch.no_grad():
        answers = teacher(images, targets)
    kept = {need.name: answers[need.tap].half().float() for need in plan.needs}
    inputs = step_inputs({}, kept, truth, images_BHWC=images)
    return Trained(Distiller(student, losses, taps), inputs)


@HEADS
def test_a_step_in_bfloat16_is_finite_and_near_one_in_float32(head: str) -> None:
    run = trained(head)
    wide, wide_slopes = run.step(narrow=False), run.slopes
    values, slopes = run.step(narrow=True), run.slopes
    names = {name.partition(".")[0] for name in values.terms}
    assert names == {"task", "bckd", "pkd"}
    assert values.total.dtype == torch.float32 and torch.isfinite(values.total)
    for name, value in wide.unweighted.items():
        error = abs(float(values.unweighted[name]) - float(value)) / float(value)
        assert float(value) > 0 and error <= BOUND, f"{name} moves by {error:.1%}"
    assert set(slopes) == set(wide_slopes) and len(slopes) > 20
    assert [name for name, slope in slopes.items() if not torch.isfinite(slope).all()] == []
    whole, narrow = (torch.cat([one.flatten() for one in side.values()]) for side in (wide_slopes, slopes))
    assert float((whole - narrow).norm() / whole.norm()) <= SLOPE_BOUND


@HEADS
def test_assignment_and_losses_run_in_float32_whatever_surrounds_them(head: str) -> None:
    """The same maps have the same terms to the bit, with autocast and without."""
    run = trained(head)
    with torch.no_grad():
        maps = run.distiller.student(run.inputs.images_BHWC, run.distiller.taps)
        inputs = run.inputs._replace(student={tap: value.float() for tap, value in maps.items()})
        wide = run.distiller.losses(inputs)
        task = run.distiller.losses.terms["task"]
        assert isinstance(task, Supervised)
        matched: Matched = task.prepare(inputs)
        with torch.autocast("cpu", torch.bfloat16):
            narrow = run.distiller.losses(inputs)
            again: Matched = task.prepare(inputs)
    assert int((matched.labels_BP >= 0).sum()) > 5
    for name in ("boxes_BP4", "centerness_BP", "weights_BP", "num_positives"):
        one, other = getattr(matched, name), getattr(again, name)
        assert other.dtype == torch.float32 and torch.equal(one, other), name
    assert torch.equal(matched.labels_BP, again.labels_BP)
    for name, value in wide.unweighted.items():
        assert narrow.unweighted[name].dtype == torch.float32
        assert float(narrow.unweighted[name]) == float(value), name
