"""ReviewKD: the student's levels, fused from the deepest to the shallowest, learn the teacher's levels.

ABF at a level: x = bn(conv1x1(student level)); below the deepest, the result y of the level before, enlarged
to x, joins it: (g_x, g_y) = sigmoid(conv1x1([x, y])), x = g_x x + g_y y. x, as large as the teacher's, is
passed on; bn(conv3x3(x)) is compared by HCL:
    HCL = [MSE(whole) + sum of 2^-k MSE(pooled to l x l) over the l of (4, 2, 1) below the size]
          / (1 + sum of 2^-k)
    L   = sum over levels of HCL        weight 1 (resnet32x4 -> resnet8x4: 5), warm-up 20 epochs
Chen et al. 2021, https://arxiv.org/abs/2104.09044; megvii-research/mdistiller a08d46f. Resizing takes the
nearest cell. The student gives its stages, the teacher the same before their last activation, as published.
"""

from collections.abc import Mapping
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdcache.cache.spec import Need
from kdcache.cache.tasks.table import CLASSIFICATION, SEGMENTATION
from kdcache.losses.contract import LossTerm, Maps, Method, Reads
from kdcache.losses.formulas.precision import in_float32
from kdcache.losses.formulas.rows import as_map, check_statistics, tap_pairs
from kdcache.losses.options import About, OptionValue
from kdcache.losses.step_inputs import StepInputs, plain_rows

MIDDLE_CHANNELS = 512  # at most, between the two convolutions of a level
POOLED_SIDES = (4, 2, 1)
FEW_VALUES = 64  # per channel, up to which batch norm costs nothing in float64


@in_float32
def hcl(student_BCHW: Tensor, teacher_BCHW: Tensor) -> Tensor:
    """Hierarchical context loss: one level at its own size and at coarser ones."""
    total = functional.mse_loss(student_BCHW, teacher_BCHW)
    share, shares = 1.0, 1.0
    for side in POOLED_SIDES:
        if side >= student_BCHW.shape[-2]:  # the height decides, as published
            continue
        share /= 2
        shares += share
        student, teacher = (functional.adaptive_avg_pool2d(m, side) for m in (student_BCHW, teacher_BCHW))
        total = total + share * functional.mse_loss(student, teacher)
    return total / shares


class Fusion(nn.Module):
    """ABF, the attention based fusion of one level."""

    def __init__(self, tap: str, channels: tuple[int, int, int], *, deepest: bool) -> None:
        super().__init__()
        student, middle, teacher = channels
        self.tap = tap
        self.narrow = _conv_bn(student, middle, kernel=1)
        self.out = _conv_bn(middle, teacher, kernel=3)
        self.gate = None if deepest else nn.Conv2d(2 * middle, 2, kernel_size=1)

    def forward(
        self, student_BCHW: Tensor, deeper_BMhw: Tensor | None, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """`size` of the teacher's level -> (what it is compared with, what is passed on)."""
        if self.training:
            check_statistics("reviewkd", self.tap, student_BCHW)
        fused: Tensor = self.narrow(student_BCHW)
        if self.gate is not None:
            assert deeper_BMhw is not None
            deeper = functional.interpolate(deeper_BMhw, fused.shape[-2:], mode="nearest")
            gates = self.gate(torch.cat([fused, deeper], 1)).sigmoid()
            fused = fused * gates[:, :1] + deeper * gates[:, 1:]
        if tuple(fused.shape[-2:]) != size:
            fused = functional.interpolate(fused, size, mode="nearest")
        if self.training:
            check_statistics("reviewkd", self.tap, fused)
        return self.out(fused), fused


def _conv_bn(channels: int, to: int, *, kernel: int) -> nn.Sequential:
    convolution = nn.Conv2d(channels, to, kernel, padding=kernel // 2, bias=False)
    nn.init.kaiming_uniform_(convolution.weight, a=1)
    return nn.Sequential(convolution, SteadyNorm(to))


class SteadyNorm(nn.BatchNorm2d):
    """Batch norm with the statistics of the batch, in float64 where a channel has few values: of two values
    the gradient is what is left of a difference of nearly equal numbers, and float32 loses it in rounding.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, track_running_stats=False)

    def forward(self, input: Tensor) -> Tensor:
        if input[:, 0].numel() > FEW_VALUES:
            return super().forward(input)
        with torch.autocast(input.device.type, enabled=False):
            weight, bias = self.weight.double(), self.bias.double()
            normed = functional.batch_norm(input.double(), None, None, weight, bias, True, eps=self.eps)
        return normed.to(input.dtype)


class Review(LossTerm):
    """The order of `taps` is shallow to deep; vectors are levels of one cell. Defined per micro batch:
    the fused levels are normalised by batch statistics.
    """

    method = Method(
        title="Knowledge review",
        source="Chen et al. 2021, https://arxiv.org/abs/2104.09044",
        code="megvii-research/mdistiller a08d46f mdistiller/distillers/ReviewKD.py",
        modules="a fusion per level",
        defaults="weight 1, warm-up 20 epochs; CIFAR-100 resnet32x4 -> resnet8x4: weight 5",
        published="none listed for the port",
    )
    per_micro_batch = "the fused levels are normalised by batch statistics"
    same_size = False
    task_settings = {
        CLASSIFICATION: {"warmup": 20.0},
        SEGMENTATION: {"taps": "stage1/stage2/stage3/stage4", "hints": "same", "warmup": 20.0},
    }

    def __init__(
        self,
        maps: Maps,
        *,
        taps: Annotated[str, About("levels of the student, shallow to deep, separated by /")] = (
            "stage1/stage2/stage3/embedding"
        ),
        hints: Annotated[str, About("levels of the teacher, one per tap, or the word same")] = (
            "pre1/pre2/pre3/embedding"
        ),
    ) -> None:
        super().__init__()
        self.taps, self.hints = tap_pairs("reviewkd", taps, hints)
        middle = min(MIDDLE_CHANNELS, maps.student[self.taps[-1]].channels)
        self.levels = nn.ModuleList(
            Fusion(
                tap,
                (maps.student[tap].channels, middle, maps.teacher[hint].channels),
                deepest=tap == self.taps[-1],
            )
            for tap, hint in zip(self.taps, self.hints, strict=True)
        )

    @classmethod
    def reads(cls, options: Mapping[str, OptionValue]) -> Reads:
        taps, hints = tap_pairs("reviewkd", str(options["taps"]), str(options["hints"]))
        return Reads(taps, tuple(Need(tap=hint) for hint in hints))

    def forward(self, inputs: StepInputs) -> Tensor:
        distances = []
        passed: Tensor | None = None
        for tap, hint, level in reversed(list(zip(self.taps, self.hints, self.levels, strict=True))):
            teacher = as_map(plain_rows(inputs, inputs.teacher[hint]))
            student = as_map(plain_rows(inputs, inputs.student[tap]))
            compared, passed = level(student, passed, tuple(teacher.shape[-2:]))
            distances.append(hcl(compared, teacher))
        return torch.stack(distances).sum()
