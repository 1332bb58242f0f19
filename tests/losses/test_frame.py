"""The frame around every loss, with terms whose values are known: weights, schedules, records, clipping."""

import math

import pytest
import torch
from bare_inputs import step_inputs
from torch import Tensor, nn

from kdcache.losses.contract import LossTerm, Weighted, same_tap, same_taps
from kdcache.losses.loss_set import LossSet, WeightedTerm
from kdcache.losses.schedules import TermSchedule
from kdcache.losses.step_inputs import StepInputs, plain_rows


class Known(LossTerm):
    """Two values: the tap's sum times 2 and times 3, with the method's own factors 0.5 and 10."""

    def forward(self, inputs: StepInputs) -> dict[str, Weighted]:
        summed = inputs.student["logits"].sum()
        return {"half": Weighted(2 * summed, 0.5), "ten": Weighted(3 * summed, 10.0)}


class Learned(LossTerm):
    """One learned number times the tap's sum."""

    def __init__(self, clip_norm: float | None = None) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(7.0))
        self.clip_norm = clip_norm

    def forward(self, inputs: StepInputs) -> Tensor:
        return self.factor * inputs.student["logits"].sum()


def step(epoch: int = 0) -> StepInputs:
    return step_inputs({"logits": torch.tensor([[1.0, 4.0]]).requires_grad_()}, {}, epoch=epoch)


def test_every_value_enters_the_total_with_the_term_s_weight_its_schedule_and_its_own_factor() -> None:
    losses = LossSet(
        (
            WeightedTerm("known", 0.25, Known(), TermSchedule(warmup=4)),
            WeightedTerm("learned", 2.0, Learned()),
        )
    )
    values = losses(step(epoch=1))
    assert {name: value.item() for name, value in values.unweighted.items()} == {
        "known.half": 10.0,
        "known.ten": 15.0,
        "learned": 35.0,
    }
    assert {name: value.item() for name, value in values.terms.items()} == {
        "known.half": 10.0 * 0.5 * 0.25 * 0.5,
        "known.ten": 15.0 * 10.0 * 0.25 * 0.5,
        "learned": 70.0,
    }
    assert values.total.item() == pytest.approx(0.625 + 18.75 + 70.0)
    assert values.total.requires_grad
    assert not any(value.requires_grad for value in (*values.terms.values(), *values.unweighted.values()))


def test_a_dropped_term_with_learned_parts_keeps_a_gradient_of_zero_for_them() -> None:
    learned = Learned()
    values = LossSet((WeightedTerm("learned", 2.0, learned, TermSchedule(stop=1)),))(step(epoch=1))
    values.total.backward()
    assert learned.factor.grad is not None and learned.factor.grad.item() == 0
    assert values.unweighted["learned"].item() == 35.0


def test_several_schedules_multiply() -> None:
    schedule = TermSchedule(warmup=10, rampup=8, decay=4, decay_to=0.5)
    for epoch in range(12):
        linear = min((epoch + 1) / 10, 1)
        grown = math.exp(-5 * max(1 - epoch / 8, 0) ** 2)
        left = 1 - 0.5 * min(epoch / 4, 1)
        assert schedule.factor(epoch) == pytest.approx(linear * grown * left, rel=1e-12)
    assert schedule._replace(stop=3).factor(3) == 0


def test_the_smallest_norm_of_the_terms_that_clip_is_told() -> None:
    terms = [
        WeightedTerm(f"learned{number}", 1.0, Learned(norm)) for number, norm in enumerate((None, 15.0, 4.0))
    ]
    assert LossSet(tuple(terms)).clip_norm == 4.0
    assert LossSet(tuple(terms[:1])).clip_norm is None


def test_the_first_of_the_rows_of_each_sample_is_its_plain_one() -> None:
    inputs = step()._replace(rows_per_sample=4)
    assert plain_rows(inputs, torch.arange(12)).tolist() == [0, 4, 8]
    assert plain_rows(step(), torch.arange(3)).tolist() == [0, 1, 2]


def test_a_loss_reads_on_both_sides_the_taps_that_its_options_name() -> None:
    one = same_tap({"tap": "stage3"})
    assert (one.student_taps, [need.tap for need in one.needs]) == (("stage3",), ["stage3"])
    two = same_taps({"taps": "stage1/stage2"})
    assert two.student_taps == ("stage1", "stage2")
    assert [need.tap for need in two.needs] == ["stage1", "stage2"]


def test_a_loss_that_says_nothing_stands_beside_the_whole_task_loss_with_weight_one() -> None:
    assert (Known.task_weight({}), Known.default_weight({}), Known.step_form({})) == (1.0, 1.0, "joint")
