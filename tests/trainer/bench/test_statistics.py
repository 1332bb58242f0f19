"""Intervals of few seeds, against printed tables, integrals and numbers worked out by hand."""

import math

import pytest
import torch

from kdcache.trainer.bench.statistics import Spread, paired, spread, t_inside, t_quantile, verdict

# Two-sided 95 % points of Student's t as every printed table has them.
PRINTED = {
    1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262, 10: 2.228,
    15: 2.131, 20: 2.086, 30: 2.042, 60: 2.000, 120: 1.980,
}  # fmt: skip


@pytest.mark.parametrize("degrees", PRINTED)
def test_the_quantile_is_that_of_the_printed_table(degrees: int) -> None:
    assert t_quantile(degrees) == pytest.approx(PRINTED[degrees], abs=5e-4)


def test_other_levels_too() -> None:
    assert [round(t_quantile(4, level), 3) for level in (0.9, 0.99)] == [2.132, 4.604]


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 7, 12])
def test_the_closed_form_is_the_integral_of_the_density(degrees: int) -> None:
    x = torch.linspace(0, 1.7, 20_001, dtype=torch.float64)
    constant = math.gamma((degrees + 1) / 2) / (math.sqrt(degrees * math.pi) * math.gamma(degrees / 2))
    density = constant * (1 + x**2 / degrees) ** (-(degrees + 1) / 2)
    assert t_inside(1.7, degrees) == pytest.approx(2 * float(torch.trapezoid(density, x)), abs=1e-8)


def test_mean_deviation_and_interval_of_three_seeds_by_hand() -> None:
    """71, 72, 74: mean 72.333, deviation sqrt((1.778 + 0.111 + 2.778) / 2) = 1.5275, half 4.3027 x 1.5275 /
    sqrt(3) = 3.7946."""
    made = spread([71.0, 72.0, 74.0])
    assert made.num == 3
    assert made.mean == pytest.approx(72.3333, abs=1e-4)
    assert made.deviation == pytest.approx(1.52753, abs=1e-5)
    assert (made.low, made.high) == pytest.approx((72.3333 - 3.7946, 72.3333 + 3.7946), abs=1e-4)


def test_the_deviation_is_torchs_of_a_sample() -> None:
    values = [0.31, 0.35, 0.29, 0.4, 0.33]
    assert spread(values).deviation == pytest.approx(float(torch.tensor(values).double().std()), abs=1e-8)


def test_one_seed_has_no_interval_and_no_deviation() -> None:
    assert spread([0.5]) == Spread(1, 0.5, None, None, None)


@pytest.mark.parametrize("values", [[], [0.5, math.nan], [math.inf]])
def test_what_is_no_number_has_no_mean(values: list[float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        spread(values)


def test_pairs_are_of_equal_seeds_and_lonely_seeds_are_left_out() -> None:
    ours, theirs = {2: 0.7, 0: 0.5, 5: 0.9}, {0: 0.4, 1: 0.1, 2: 0.8}
    assert paired(ours, theirs) == pytest.approx({0: 0.1, 2: -0.1})


def test_the_interval_of_differences_is_narrower_than_that_of_unpaired_scores() -> None:
    """Seeds that are all hard, or all easy: what every run shares is no noise of the difference."""
    none, kd = {0: 0.60, 1: 0.70, 2: 0.80}, {0: 0.61, 1: 0.711, 2: 0.809}
    made = spread(list(paired(kd, none).values()))
    assert made.low is not None and made.low > 0 and verdict(made, "none") == "above none"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([0.01, 0.011, 0.012], "above none"),
        ([-0.01, -0.011, -0.012], "below none"),
        ([0.03, -0.01, 0.02], "not distinguishable from none"),
        ([0.0, 0.0], "not distinguishable from none"),
        ([0.05], "one seed"),
        ([], "no pair"),
    ],
)
def test_words_say_no_more_than_the_interval(values: list[float], words: str) -> None:
    assert verdict(spread(values) if values else None, "none") == words
