"""FitNets' regressors: learned (or random) layers from a student's map to the size of a teacher's.

None of them reaches the exported student. Vectors count as maps of one cell.
"""

from typing import NamedTuple

from torch import Tensor, nn

from kdcache.cache.spec import BadOption, TensorSpec
from kdcache.losses.formulas.rows import as_map, cells_of, check_statistics
from kdcache.losses.formulas.shapes import check_same_size, size_text

RANDOM_BOUND = 0.005  # lenscloth: weights of the regressors, which are never trained
ORIGINAL_BOUND = 0.05  # of the first weights of the two-stage regressor
ORIGINAL_MAX_NORM = 0.9  # of one kernel, after every update


class Pair(NamedTuple):
    """The two maps that a regressor stands between."""

    tap: str
    student: TensorSpec
    teacher: TensorSpec


def adapter(pair: Pair) -> nn.Conv2d:
    """1x1 convolution without bias, also between equal channels (CIRKD)."""
    check_same_size("fitnet", pair.tap, pair.student, pair.teacher)
    return nn.Conv2d(pair.student.channels, pair.teacher.channels, kernel_size=1, bias=False)


def random_adapter(pair: Pair) -> nn.Conv2d:
    """The same, random for good: no optimizer ever gets its weights (lenscloth)."""
    convolution = adapter(pair)
    nn.init.uniform_(convolution.weight, -RANDOM_BOUND, RANDOM_BOUND)
    return convolution.requires_grad_(False)


class Regressor(nn.Module):
    """Convolution chosen by the sizes, batch norm, ReLU (RepDistiller). BadOption for sizes that it cannot
    bridge.
    """

    def __init__(self, pair: Pair, *, relu: bool = True) -> None:
        super().__init__()
        self.tap = pair.tap
        self.conv = _bridge(pair)
        self.norm = nn.BatchNorm2d(pair.teacher.channels)
        self.relu = relu

    def forward(self, map_BCHW: Tensor) -> Tensor:
        values: Tensor = self.conv(map_BCHW)
        if self.training:
            check_statistics("fitnet", self.tap, values)
        values = self.norm(values)
        return values.relu() if self.relu else values


def _bridge(pair: Pair) -> nn.Module:
    channels = (pair.student.channels, pair.teacher.channels)
    (high, wide), (target_high, target_wide) = cells_of(pair.student), cells_of(pair.teacher)
    if (high, wide) == (2 * target_high, 2 * target_wide):
        return nn.Conv2d(*channels, kernel_size=3, stride=2, padding=1)
    if (2 * high, 2 * wide) == (target_high, target_wide):
        return nn.ConvTranspose2d(*channels, kernel_size=4, stride=2, padding=1)
    if high >= target_high and wide >= target_wide:
        return nn.Conv2d(*channels, kernel_size=(1 + high - target_high, 1 + wide - target_wide))
    raise _too_small(pair, "half, the same or a larger size")


class ValidRegressor(nn.Module):
    """A convolution without padding and the hint's own non-linearity; nothing where the shapes agree (the
    original two stages).
    """

    def __init__(self, pair: Pair) -> None:
        super().__init__()
        self.conv: nn.Conv2d | None = None
        self.relu = not pair.tap.startswith("pre")  # hints before an activation keep their sign
        if pair.student.shape == pair.teacher.shape:
            return
        (high, wide), (target_high, target_wide) = cells_of(pair.student), cells_of(pair.teacher)
        if high < target_high or wide < target_wide:
            raise _too_small(pair, "at least the teacher's size")
        kernel = (high - target_high + 1, wide - target_wide + 1)
        self.conv = nn.Conv2d(pair.student.channels, pair.teacher.channels, kernel_size=kernel)
        nn.init.uniform_(self.conv.weight, -ORIGINAL_BOUND, ORIGINAL_BOUND)
        nn.init.zeros_(bias_of(self.conv))

    def forward(self, map_BCHW: Tensor) -> Tensor:
        if self.conv is None:
            return map_BCHW
        limit_norm(self.conv.weight, ORIGINAL_MAX_NORM)
        values: Tensor = self.conv(as_map(map_BCHW))
        return values.relu() if self.relu else values


def limit_norm(weight: Tensor, bound: float) -> None:
    """Shrink every kernel whose L2 norm is over the bound, in place: what the update before should have
    kept. Outside autograd, because doing it twice changes nothing.
    """
    weight.data.renorm_(2, 0, bound)


def bias_of(convolution: nn.Conv2d) -> Tensor:
    assert convolution.bias is not None
    return convolution.bias


def _too_small(pair: Pair, wanted: str) -> BadOption:
    return BadOption(
        f"the student's map is {size_text(pair.student)} and the teacher's {size_text(pair.teacher)}: no "
        "published regressor bridges that",
        where=f"loss term 'fitnet', tap '{pair.tap}'",
        fix=f"name a tap where the student's map has {wanted}: fitnet(taps=...,hints=...)",
    )
