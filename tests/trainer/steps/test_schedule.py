"""The learning rate and the due dates: pure functions of the step."""

from dataclasses import replace
from typing import Any

import pytest

from kdcache.trainer.config import TrainConfig
from kdcache.trainer.steps.options import StepOptions
from kdcache.trainer.steps.schedule import due, run_lr


def lr_at(step: int, *, base: float, total: int, **options: Any) -> float:
    return run_lr(StepOptions(steps=total, lr=base, **options), step)


def test_rate_falls_from_base_towards_zero_with_the_published_power() -> None:
    rates = [lr_at(step, base=0.02, total=100, poly_power=0.9) for step in range(100)]
    assert rates[0] == 0.02
    assert rates[50] == pytest.approx(0.02 * 0.5**0.9)
    assert all(early > late > 0 for early, late in zip(rates, rates[1:], strict=False))


def test_warmup_multiplies_the_polynomial_and_leaves_the_rest_alone() -> None:
    plain = [lr_at(step, base=1.0, total=20, poly_power=0.9) for step in range(20)]
    warm = [lr_at(step, base=1.0, total=20, poly_power=0.9, warmup_steps=4) for step in range(20)]
    assert warm[:4] == pytest.approx([r * f for r, f in zip(plain, (0.25, 0.5, 0.75, 1.0), strict=False)])
    assert warm[4:] == plain[4:]


def test_due_each_n_steps_and_always_at_the_end() -> None:
    assert [done for done in range(1, 11) if due(done, 4, 10)] == [4, 8, 10]
    assert [done for done in range(1, 11) if due(done, None, 10)] == [10]


def multistep(total: int) -> list[float]:
    return [lr_at(step, base=1.0, total=total, lr_schedule="multistep") for step in range(total)]


def test_multistep_drops_where_the_published_runs_do() -> None:
    """150, 180 and 210 of 240 epochs: the first epoch after each runs at a tenth."""
    rates = multistep(240)
    assert rates[149:151] == pytest.approx([1.0, 0.1])
    assert rates[179:181] == pytest.approx([0.1, 0.01])
    assert rates[209:211] == pytest.approx([0.01, 0.001])


def test_a_shortened_run_has_its_drops_at_the_same_shares() -> None:
    """An early-stopped teacher runs its own schedule to the end."""
    assert multistep(24) == multistep(240)[::10]


def test_a_milestone_that_falls_on_a_step_belongs_to_it_despite_rounding() -> None:
    rates = [lr_at(s, base=1.0, total=100, lr_schedule="multistep", milestones=(0.57,)) for s in range(100)]
    assert 0.57 * 100 < 57 and rates[56:58] == pytest.approx([1.0, 0.1])
    rates = [lr_at(s, base=1.0, total=100, lr_schedule="multistep", milestones=(0.55,)) for s in range(100)]
    assert 0.55 * 100 > 55 and rates[54:56] == pytest.approx([1.0, 0.1])


def test_cosine_halves_in_the_middle_and_stays_above_zero() -> None:
    rates = [lr_at(step, base=0.2, total=10, lr_schedule="cosine") for step in range(10)]
    assert rates[0] == 0.2 and rates[5] == pytest.approx(0.1)
    assert all(early > late > 0 for early, late in zip(rates, rates[1:], strict=False))


@pytest.mark.parametrize("schedule", ["poly", "multistep", "cosine"])
def test_warmup_applies_to_every_schedule(schedule: str) -> None:
    plain, warm = (
        [lr_at(step, base=1.0, total=20, lr_schedule=schedule, warmup_steps=w) for step in range(20)]
        for w in (0, 4)
    )
    assert warm[:4] == pytest.approx([r * f for r, f in zip(plain, (0.25, 0.5, 0.75, 1.0), strict=False)])
    assert warm[4:] == plain[4:]


def test_the_rate_of_a_run_follows_its_options() -> None:
    config = TrainConfig(
        run="r", steps=10, lr=0.5, lr_schedule="multistep", milestones=(0.2, 0.4), lr_drop=0.5, warmup_steps=2
    )
    assert [run_lr(config, step) for step in range(5)] == pytest.approx([0.25, 0.5, 0.25, 0.25, 0.125])
    assert run_lr(
        replace(config, lr_schedule="poly", milestones=StepOptions.milestones, lr_drop=0.1), 5
    ) == lr_at(5, base=0.5, total=10, warmup_steps=2)
