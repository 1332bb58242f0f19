"""Parts of losses on maps that no stored vector reaches, against formulas written out in Python."""

import math

import pytest
import torch
from bare_inputs import specs, step_inputs
from torch import Tensor

from kdcache.losses.contract import Maps
from kdcache.losses.dense.adversarial import between
from kdcache.losses.dense.cirkd import memory_relations
from kdcache.losses.dense.cwd import ChannelWise


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("divisor", "channels"), [("student", 2), ("teacher", 4)])
def test_cwd_on_features_divides_by_the_channels_of_the_side_that_it_is_told(
    divisor: str, channels: int
) -> None:
    tau, student, teacher = 2.0, {"neck": drawn(3, 2, 2, 3, seed=0)}, {"neck": drawn(3, 4, 2, 3, seed=1)}
    term = ChannelWise(Maps(specs(student), specs(teacher)), taps="neck", tau=tau, divisor=divisor).double()
    weight = term.align.weight.detach()[:, :, 0, 0]
    adapted = torch.einsum("tc,bchw->bthw", weight, student["neck"])
    summed = 0.0
    for image in range(3):
        for channel in range(4):
            told, said = (m[image, channel].flatten().tolist() for m in (teacher["neck"], adapted))
            summed += tau**2 * divergence(shares(told, tau), shares(said, tau))
    value = term(step_inputs(student, teacher))
    assert value.item() == pytest.approx(summed / (3 * channels), rel=1e-12)


def test_cirkd_s_memory_term_divides_cosines_by_both_temperatures_and_counts_the_second_squared() -> None:
    tau, second = 0.5, 3.0
    student, teacher, memory = drawn(3, 4, seed=2), drawn(3, 4, seed=3), drawn(5, 4, seed=4)
    summed = 0.0
    for mine, theirs in zip(student, teacher, strict=True):
        said, told = ([float(row @ kept) for kept in memory] for row in (mine, theirs))
        summed += divergence(shares(told, tau * second), shares(said, tau * second))
    value = memory_relations(student, teacher, memory, tau=tau, T=second)
    assert value.item() == pytest.approx(second**2 * summed / 3, rel=1e-12)


def test_the_penalty_looks_at_the_teacher_s_share_and_the_rest_of_the_student() -> None:
    teacher, student = drawn(2, 1, 2, 2, seed=5), drawn(2, 1, 2, 2, seed=6).requires_grad_()
    mixed = between(teacher, student, torch.tensor([0.25, 1.0]))
    torch.testing.assert_close(mixed[0], 0.25 * teacher[0] + 0.75 * student[0].detach())
    torch.testing.assert_close(mixed[1], teacher[1])
    assert not mixed.requires_grad


def shares(scores: list[float], temperature: float) -> list[float]:
    parts = [math.exp(score / temperature) for score in scores]
    return [part / sum(parts) for part in parts]


def divergence(target: list[float], answer: list[float]) -> float:
    return sum(p * math.log(p / q) for p, q in zip(target, answer, strict=True))
