"""What few seeds can say: mean, spread, and a 95 % interval by Student's t.

The quantile is found by halving on the closed form of the distribution for whole degrees of freedom
(Abramowitz and Stegun 1964, 26.7.3 and 26.7.4), so no library of statistics is needed.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

LEVEL = 0.95  # of every interval
_HALVINGS = 200  # more than a double can tell apart


class Spread(NamedTuple):
    """Of some figures, in their own unit. Without two of them there is neither deviation nor interval."""

    num: int
    mean: float
    deviation: float | None  # of a sample: divided by num - 1
    low: float | None  # ends of the interval of the mean
    high: float | None


def spread(values: Sequence[float]) -> Spread:
    """Raises ValueError for no value, and for one that is not finite: no mean can hold it."""
    if not values or not all(map(math.isfinite, values)):
        raise ValueError("a mean is of finite values, and of at least one")
    count, mean = len(values), math.fsum(values) / len(values)
    if count == 1:
        return Spread(1, mean, None, None, None)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    half = t_quantile(count - 1) * deviation / math.sqrt(count)
    return Spread(count, mean, deviation, mean - half, mean + half)


def paired(ours: Mapping[int, float], theirs: Mapping[int, float]) -> dict[int, float]:
    """Differences ours - theirs of the seeds that both have, by seed."""
    return {seed: ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())}


def verdict(differences: Spread | None, against: str) -> str:
    """What paired differences allow to say, in words."""
    if differences is None:
        return "no pair"
    if differences.low is None or differences.high is None:
        return "one seed"
    if differences.low <= 0 <= differences.high:
        return f"not distinguishable from {against}"
    return f"{'above' if differences.mean > 0 else 'below'} {against}"


def t_quantile(degrees: int, level: float = LEVEL) -> float:
    """The t below which |T| lies with probability `level`, T with `degrees` >= 1 degrees of freedom."""
    low, high = 0.0, 1.0
    while t_inside(high, degrees) < level:
        high *= 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if t_inside(middle, degrees) < level else (low, middle)
    return (low + high) / 2


def t_inside(t: float, degrees: int) -> float:
    """P(|T| < t). With a = atan(t / sqrt(degrees)), even: sin a (1 + 1/2 cos^2 a + 1/2 3/4 cos^4 a + ...);
    odd: 2/pi (a + sin a cos a (1 + 2/3 cos^2 a + 2/3 4/5 cos^4 a + ...)); both have degrees // 2 terms."""
    angle = math.atan(t / math.sqrt(degrees))
    odd, square = degrees % 2, math.cos(angle) ** 2
    term, total = 1.0, 0.0
    for number in range(degrees // 2):
        total += term
        term *= square * (2 * number + 1 + odd) / (2 * number + 2 + odd)
    if odd:
        return 2 / math.pi * (angle + math.sin(angle) * math.cos(angle) * total)
    return math.sin(angle) * total
