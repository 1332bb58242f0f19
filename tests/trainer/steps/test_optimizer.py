"""Both optimizers against their published updates, written out in float64; the defaults that users read.

Nobody chooses most of these numbers, and a slipped one trains another run than the documented one.
"""

import math
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import nn

from kdcache.trainer.config import TrainConfig
from kdcache.trainer.steps.options import RateOptions
from kdcache.trainer.steps.schedule import make_optimizer, run_lr, set_lr

START = 2.0
GRADIENTS = (0.3, -0.2, 0.5)
DOCUMENT = Path(__file__).parents[3] / "docs" / "training.md"


def moved(config: TrainConfig, rates: Sequence[float] | None = None) -> list[float]:
    """Where a weight of START is after each of the gradients."""
    weight = nn.Parameter(torch.tensor(START, dtype=torch.float64))
    optimizer = make_optimizer([weight], config)
    places = []
    for step, gradient in enumerate(GRADIENTS):
        weight.grad = torch.tensor(gradient, dtype=torch.float64)
        if rates is not None:
            set_lr(optimizer, rates[step])
        optimizer.step()
        places.append(float(weight.detach()))
    return places


def sgd(rates: Sequence[float], momentum: float, decay: float, *, nesterov: bool = False) -> list[float]:
    """Sutskever et al. 2013 in the form of the framework: v = m v + g + decay w; w = w - lr v."""
    weight, speed, places = START, 0.0, []
    for rate, bare in zip(rates, GRADIENTS, strict=True):
        gradient = bare + decay * weight
        speed = momentum * speed + gradient
        weight -= rate * (gradient + momentum * speed if nesterov else speed)
        places.append(weight)
    return places


def adamw(rates: Sequence[float], decay: float) -> list[float]:
    """Loshchilov and Hutter 2019, algorithm 2, with the betas of Adam's paper and eps 1e-8."""
    weight, mean, square, places = START, 0.0, 0.0, []
    for step, (rate, gradient) in enumerate(zip(rates, GRADIENTS, strict=True), start=1):
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        weight -= rate * decay * weight
        weight -= rate * (mean / (1 - 0.9**step)) / (math.sqrt(square / (1 - 0.999**step)) + 1e-8)
        places.append(weight)
    return places


def test_sgd_without_options_has_rate_0_02_momentum_0_9_and_decay_0_0001() -> None:
    """As the published codes of Af-DCD and CIRKD have it."""
    assert moved(TrainConfig(run="r")) == pytest.approx(sgd((0.02,) * 3, 0.9, 1e-4), rel=1e-12)


def test_adamw_without_options_has_rate_0_0002_and_decay_0_01() -> None:
    expected = adamw((2e-4,) * 3, 0.01)
    assert moved(TrainConfig(run="r", optimizer="adamw")) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_follows_the_rate_momentum_and_decay_that_a_user_gives(nesterov: bool) -> None:
    config = TrainConfig(run="r", lr=0.1, momentum=0.5, weight_decay=0.2, nesterov=nesterov)
    expected = sgd((0.1,) * 3, 0.5, 0.2, nesterov=nesterov)
    assert moved(config) == pytest.approx(expected, rel=1e-12)


def test_adamw_follows_the_rate_and_decay_that_a_user_gives() -> None:
    config = TrainConfig(run="r", optimizer="adamw", lr=0.1, weight_decay=0.2)
    assert moved(config) == pytest.approx(adamw((0.1,) * 3, 0.2), rel=1e-12)


def test_adamw_has_no_momentum_of_sgd() -> None:
    config = TrainConfig(run="r", optimizer="adamw", momentum=0.25)
    assert moved(config) == pytest.approx(adamw((2e-4,) * 3, 0.01), rel=1e-12)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_weight_decay_of_zero_is_none_and_not_the_default(optimizer: str) -> None:
    config = TrainConfig(run="r", optimizer=optimizer, lr=0.1, weight_decay=0.0)
    expected = sgd((0.1,) * 3, 0.9, 0.0) if optimizer == "sgd" else adamw((0.1,) * 3, 0.0)
    assert moved(config) == pytest.approx(expected, rel=1e-12)


def test_a_rate_that_is_set_holds_from_the_next_step_on() -> None:
    rates = (0.3, 0.1, 0.02)
    assert moved(TrainConfig(run="r"), rates) == pytest.approx(sgd(rates, 0.9, 1e-4), rel=1e-12)
    adam = TrainConfig(run="r", optimizer="adamw")
    assert moved(adam, rates) == pytest.approx(adamw(rates, 0.01), rel=1e-12)


def test_a_set_rate_reaches_every_group() -> None:
    weights = [nn.Parameter(torch.zeros(())) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": [one]} for one in weights], lr=1.0)
    set_lr(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]


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


def test_frozen_parameters_do_not_move() -> None:
    student = nn.Linear(2, 2)
    student.bias.requires_grad_(False)
    optimizer = make_optimizer(student.parameters(), RateOptions())
    moving = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert moving == [id(student.weight)]


def test_the_defaults_are_those_that_the_documentation_promises() -> None:
    text = DOCUMENT.read_text()
    first = re.search(r"SGD \(momentum ([\d.e-]+), lr ([\d.e-]+), weight decay ([\d.e-]+)", text)
    second = re.search(r"`--optimizer adamw` \(lr ([\d.e-]+), weight decay ([\d.e-]+)\)", text)
    assert first is not None and second is not None
    plain, adam = TrainConfig(run="r"), TrainConfig(run="r", optimizer="adamw")
    assert [float(n) for n in first.groups()] == [plain.momentum, plain.base_lr, plain.decay]
    assert [float(n) for n in second.groups()] == [adam.base_lr, adam.decay]
    assert plain.optimizer == "sgd" and not plain.nesterov
