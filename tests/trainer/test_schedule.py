"""The learning rate and the due dates: pure functions of the step."""

import pytest

from kdcache.trainer.schedule import due, lr_at


def test_rate_falls_from_base_towards_zero_with_the_published_power() -> None:
    rates = [lr_at(step, base=0.02, total=100, power=0.9) for step in range(100)]
    assert rates[0] == 0.02
    assert rates[50] == pytest.approx(0.02 * 0.5**0.9)
    assert all(early > late > 0 for early, late in zip(rates, rates[1:], strict=False))


def test_warmup_multiplies_the_polynomial_and_leaves_the_rest_alone() -> None:
    plain = [lr_at(step, base=1.0, total=20, power=0.9) for step in range(20)]
    warm = [lr_at(step, base=1.0, total=20, power=0.9, warmup=4) for step in range(20)]
    assert warm[:4] == pytest.approx([r * f for r, f in zip(plain, (0.25, 0.5, 0.75, 1.0), strict=False)])
    assert warm[4:] == plain[4:]


def test_rate_does_not_depend_on_the_number_of_calls() -> None:
    assert lr_at(7, base=1.0, total=10, power=0.9) == lr_at(7, base=1.0, total=10, power=0.9)


def test_due_each_n_steps_and_always_at_the_end() -> None:
    assert [done for done in range(1, 11) if due(done, 4, 10)] == [4, 8, 10]
    assert [done for done in range(1, 11) if due(done, None, 10)] == [10]
