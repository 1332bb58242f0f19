"""Per-pixel distillation of class posteriors at the logits' own size, ignored pixels included.

Default: T^2 times the mean over pixels of KL(teacher || student), weight 1, T = 1 (Af-DCD, CIRKD). Other
published reductions by `form`: skds and ifvd, weight 10 in their scripts, ifvd also with `upsample=8`.
"""

from typing import Literal

from torch import Tensor
from torch.nn import functional

from kdcache.cache.spec import Need
from kdcache.losses.contract import LossTerm, Maps
from kdcache.losses.divergence import pixel_kl
from kdcache.losses.options import Count, Positive
from kdcache.losses.shapes import check_same_channels
from kdcache.losses.step_inputs import StepInputs


class PixelKD(LossTerm):
    """`T` divides the logits; `upsample` enlarges both maps bilinearly (aligned corners) first."""

    needs = (Need(tap="logits"),)
    student_taps = ("logits",)

    def __init__(
        self,
        maps: Maps,
        *,
        T: Positive = 1.0,
        form: Literal["cirkd", "skds", "ifvd"] = "cirkd",
        upsample: Count = 1,
    ) -> None:
        super().__init__()
        check_same_channels("kd", "logits", maps.student["logits"], maps.teacher["logits"])
        self.T = T
        self.form: Literal["cirkd", "skds", "ifvd"] = form
        self.upsample = upsample

    def forward(self, inputs: StepInputs) -> Tensor:
        student, teacher = (self._enlarge(side["logits"]) for side in (inputs.student, inputs.teacher))
        return pixel_kl(student, teacher, temperature=self.T, form=self.form)

    def _enlarge(self, logits_BKHW: Tensor) -> Tensor:
        if self.upsample == 1:
            return logits_BKHW
        return functional.interpolate(
            logits_BKHW, scale_factor=self.upsample, mode="bilinear", align_corners=True
        )
