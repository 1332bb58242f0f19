"""The optimizer that nobody chose, step by step against the published formulas in plain numbers."""

import math

import pytest
import torch
from torch import nn

from kdcache.trainer.config import TrainConfig
from kdcache.trainer.steps.schedule import make_optimizer, run_lr, set_lr

GRADIENTS = (1.0, -0.5, 2.0)
START = 3.0


def moved(config: TrainConfig) -> list[float]:
    """Where one weight is after each of the gradients."""
    weight = nn.Parameter(torch.tensor(START, dtype=torch.float64))
    optimizer = make_optimizer([weight], config)
    places = []
    for gradient in GRADIENTS:
        weight.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
        places.append(float(weight.detach()))
    return places


def test_sgd_without_options_has_rate_0_02_momentum_0_9_and_decay_0_0001() -> None:
    """seg 6 of the specs, Af-DCD and CIRKD."""
    weight, velocity, expected = START, 0.0, []
    for gradient in GRADIENTS:
        velocity = 0.9 * velocity + gradient + 1e-4 * weight
        weight -= 0.02 * velocity
        expected.append(weight)
    assert moved(TrainConfig(run="r")) == pytest.approx(expected, rel=1e-12)


def test_adamw_without_options_has_rate_0_0002_and_decay_0_01() -> None:
    """Loshchilov and Hutter 2019, algorithm 2, with betas 0.9 and 0.999 and eps 1e-8."""
    weight, first, second, expected = START, 0.0, 0.0, []
    for step, gradient in enumerate(GRADIENTS, start=1):
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        mean, square = first / (1 - 0.9**step), second / (1 - 0.999**step)
        weight -= 2e-4 * (mean / (math.sqrt(square) + 1e-8) + 0.01 * weight)
        expected.append(weight)
    assert moved(TrainConfig(run="r", optimizer="adamw")) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_rate_and_a_decay_that_were_written_replace_the_defaults(optimizer: str) -> None:
    config = TrainConfig(run="r", optimizer=optimizer, lr=0.5, weight_decay=0.0, momentum=0.25)
    (group,) = make_optimizer([nn.Parameter(torch.zeros(1))], config).param_groups
    assert (group["lr"], group["weight_decay"]) == (0.5, 0.0)
    assert group.get("momentum", 0.25) == 0.25


def test_the_rate_without_options_falls_as_the_power_0_9_of_what_is_left() -> None:
    config = TrainConfig(run="r", steps=8)
    assert [run_lr(config, step) for step in range(8)] == pytest.approx(
        [0.02 * (1 - step / 8) ** 0.9 for step in range(8)], rel=1e-12
    )


def test_multistep_without_options_drops_to_a_tenth_at_150_180_and_210_of_240_epochs() -> None:
    config = TrainConfig(run="r", steps=240, lr_schedule="multistep")
    drops = [step for step in range(1, 240) if run_lr(config, step) < run_lr(config, step - 1)]
    assert drops == [150, 180, 210]
    assert run_lr(config, 239) == pytest.approx(0.02 / 1000, rel=1e-12)


def test_every_group_of_the_optimizer_follows_the_rate() -> None:
    groups = [{"params": [nn.Parameter(torch.zeros(1))]} for _ in range(2)]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    set_lr(optimizer, 0.125)
    assert [group["lr"] for group in optimizer.param_groups] == [0.125, 0.125]
