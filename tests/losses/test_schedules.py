"""Schedules around any loss: factors by epoch, and what a run then weighs."""

import math

import pytest
import torch

from kdcache.cache.spec import BadOption, TensorSpec
from kdcache.cache.tasks.table import SEGMENTATION
from kdcache.losses.plan.plan import parse_losses
from kdcache.losses.schedules import TermSchedule
from kdcache.losses.step_inputs import StepInputs

SPEC = {"logits": TensorSpec((3,), 0)}


def inputs(epoch: int) -> StepInputs:
    draw = torch.Generator().manual_seed(1)
    student, teacher = (torch.randn(4, 3, generator=draw, requires_grad=True) for _ in range(2))
    labels = torch.tensor([0, 1, 2, 0])
    return StepInputs({"logits": student}, {"logits": teacher.detach()}, labels, draw, 0, epoch)


def test_each_schedule_has_its_published_shape() -> None:
    assert [TermSchedule(stop=2).factor(e) for e in (0, 1, 2, 9)] == [1, 1, 0, 0]
    assert [TermSchedule(warmup=20).factor(e) for e in (0, 9, 19, 30)] == [0.05, 0.5, 1, 1]
    ramp = TermSchedule(rampup=80)
    assert ramp.factor(0) == pytest.approx(math.exp(-5)) and ramp.factor(40) == pytest.approx(math.exp(-1.25))
    assert ramp.factor(80) == ramp.factor(200) == 1
    decay = TermSchedule(decay=4, decay_to=0.25)
    assert [decay.factor(e) for e in (0, 2, 4, 8)] == [1, 0.625, 0.25, 0.25]


def test_a_dropped_term_gives_its_weight_back_to_the_task_loss() -> None:
    plan = parse_losses("kd(stop=5)", preset=None, task="classification")
    losses = plan.build(student=SPEC, teacher=SPEC)
    early, late = losses(inputs(4)), losses(inputs(5))
    assert float(early.terms["task"]) == pytest.approx(0.1 * float(early.unweighted["task"]))
    assert float(late.terms["task"]) == pytest.approx(float(late.unweighted["task"]))
    assert float(late.terms["kd"]) == 0
    assert float(late.total.detach()) == pytest.approx(float(late.terms["task"]))


def test_a_dropped_term_no_longer_pulls_on_the_student() -> None:
    losses = parse_losses("kd(stop=1)+task(weight=0)", preset=None, task="classification").build(
        student=SPEC, teacher=SPEC
    )
    before = inputs(0)
    losses(before).total.backward()
    assert before.student["logits"].grad is not None and before.student["logits"].grad.abs().sum() > 0
    assert not losses(inputs(1)).total.requires_grad


def test_a_task_loss_that_is_named_keeps_its_weight() -> None:
    plan = parse_losses("kd(stop=5)+task(weight=0.5)", preset=None, task="classification")
    losses = plan.build(student=SPEC, teacher=SPEC)
    assert [losses.weight_at("task", epoch) for epoch in (0, 5)] == [0.5, 0.5]


def test_the_schedule_survives_being_written_and_read_again() -> None:
    plan = parse_losses("kd(stop=5,warmup=2)", preset=None, task="classification")
    again = parse_losses(plan.written(), preset=None, task="classification")
    assert [t.schedule for t in again.terms] == [t.schedule for t in plan.terms]


def test_a_negative_epoch_is_told() -> None:
    with pytest.raises(BadOption, match="option 'stop' of 'kd' takes a number from 0, not '-1'"):
        parse_losses("kd(stop=-1)", preset=None, task=SEGMENTATION)


def test_a_method_with_its_own_cross_entropy_gives_the_task_loss_back_when_it_is_dropped() -> None:
    losses = parse_losses("label-smoothing(stop=2)", preset=None, task="classification").build(
        student=SPEC, teacher={}
    )
    assert [losses.weight_at("task", epoch) for epoch in (0, 1, 2)] == [0, 0, 1]
    assert losses(inputs(2)).total.requires_grad


def test_a_method_is_dropped_with_what_it_brought() -> None:
    plan = parse_losses("at(stop=3)", preset=None, task=SEGMENTATION)
    assert {t.name: t.schedule.stop for t in plan.terms} == {"task": 0, "at": 3, "kd": 3}


def test_what_is_written_holds_also_a_published_schedule_that_was_switched_off() -> None:
    for text in (
        "dkd(warmup=0)",
        "reviewkd(warmup=0)",
        "fitnet(form=original,stage=kd,decay=0)",
        "kd(stop=3)",
    ):
        plan = parse_losses(text, preset=None, task="classification")
        again = parse_losses(plan.written(), preset="cifar100", task="classification")
        assert [t.schedule for t in again.terms] == [t.schedule for t in plan.terms], text


def test_what_alone_trains_several_networks_cannot_be_dropped() -> None:
    with pytest.raises(BadOption, match="'okddip' alone trains its networks, and stop=3 would drop it"):
        parse_losses("okddip(stop=3)", preset=None, task="classification")
