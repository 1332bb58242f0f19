"""Double similarity: match differences of attention maps between depths, and class-to-class similarities.

1. attention a_i = unit over cells of the mean over channels of map_i^2, maps in order: aux, neck, logits;
2. psd = mean over pairs i < j, images and cells of (r^S - r^T)^2, r_ij = unit over cells of a_j - a_i;
3. csd: logits are average-pooled 2x2 (ceil mode), P = softmax over cells of logits / 4, G = P P^T (K x K),
   mean over images and K^2 of (G_S - G_T)^2;
4. L = 1000 * psd + 10 * csd.
A student without the auxiliary head (MobileNet) gives its logits in its place, as published: the pair of
equal maps is then 0 on its side, and its teacher's is not.
Feng et al. 2021, https://arxiv.org/abs/2107.08591; winycg/CIRKD dab64db `losses/dsd.py`.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional

from kdcache.cache.spec import BadOption, Need
from kdcache.cache.tasks.table import SEGMENTATION
from kdcache.losses.contract import LossTerm, Maps, Method, Reads, Weighted, tap_list
from kdcache.losses.formulas.precision import in_float32
from kdcache.losses.formulas.shapes import check_same_channels, check_same_size
from kdcache.losses.options import About, NotNegative, OptionValue, Positive
from kdcache.losses.step_inputs import StepInputs


@in_float32
def attention(map_BCHW: Tensor) -> Tensor:
    """(B, H W): mean of squares over channels, of unit length."""
    return functional.normalize(map_BCHW.square().mean(1).flatten(1), dim=1)


def pixel_similarity(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """psd of two equally long lists of maps (B, C, H, W), two or more, all of one size."""
    gaps = zip(residuals(student), residuals(teacher), strict=True)
    return torch.stack([(mine - theirs).square().mean() for mine, theirs in gaps]).mean()


def residuals(maps: Sequence[Tensor]) -> list[Tensor]:
    """r_ij (B, H W) of all pairs. 0 without gradient where a map meets itself: there the norm has none."""
    active = [attention(one) for one in maps]
    return [
        torch.zeros_like(active[i])
        if maps[i] is maps[j]
        else functional.normalize(active[j] - active[i], dim=1)
        for i, j in combinations(range(len(maps)), 2)
    ]


@in_float32
def class_similarity(student_BKHW: Tensor, teacher_BKHW: Tensor, *, tau: float) -> Tensor:
    """csd of two score maps."""
    return (_classes(student_BKHW, tau) - _classes(teacher_BKHW, tau)).square().mean()


def _classes(logits_BKHW: Tensor, tau: float) -> Tensor:
    pooled_BKN = functional.avg_pool2d(logits_BKHW, 2, ceil_mode=True).flatten(2)
    shares_BKN = (pooled_BKN / tau).softmax(2)
    return shares_BKN @ shares_BKN.transpose(1, 2)


class DoubleSimilarity(LossTerm):
    """`taps` may list two maps or more, of one size; a lambda of 0 leaves its term out."""

    method = Method(
        title="Double similarity distillation",
        source="Feng et al. 2021, https://arxiv.org/abs/2107.08591",
        code="winycg/CIRKD dab64db losses/dsd.py CriterionDoubleSimKD",
        defaults="psd 1000, csd 10, no kd",
        published="CIRKD's table, Cityscapes mIoU: DeepLabV3-R18 74.81 (74.21), MBV2 74.11 (73.12)",
    )
    tasks = (SEGMENTATION,)

    def __init__(
        self,
        maps: Maps,
        *,
        taps: Annotated[str, About("maps of both networks, in order of depth, one size")] = "aux/neck/logits",
        tau: Annotated[Positive, About("temperature of the softmax over cells, csd")] = 4.0,
        lambda_psd: Annotated[NotNegative, About("weight of the pixel similarities")] = 1000.0,
        lambda_csd: Annotated[NotNegative, About("weight of the class similarities")] = 10.0,
    ) -> None:
        super().__init__()
        self.taps = tap_list(taps) if lambda_psd else ("logits", "logits")
        self.tau, self.lambda_psd, self.lambda_csd = tau, lambda_psd, lambda_csd
        if len(self.taps) < 2:
            raise BadOption(
                f"'{taps}' has no two maps to compare",
                where="loss term 'dsd'",
                fix="for example dsd(taps=neck/logits)",
            )
        self.student_places = tuple(tap if tap in maps.student else "logits" for tap in self.taps)
        check_same_channels("dsd", "logits", maps.student["logits"], maps.teacher["logits"])
        for tap, place in zip(self.taps, self.student_places, strict=True):
            check_same_size("dsd", tap, maps.student[place], maps.teacher[tap])
            check_same_size("dsd", f"{tap}' beside 'logits", maps.student[place], maps.teacher["logits"])
        if "aux" in self.taps and "aux" not in maps.student:
            self.notes = ("dsd: the student has no tap 'aux', its logits stand there, as published",)

    @classmethod
    def reads(cls, options: Mapping[str, OptionValue]) -> Reads:
        """The maps of the pixel similarities are not read where these are switched off."""
        compared = tap_list(options["taps"]) if options["lambda_psd"] else ()
        taps = tuple(dict.fromkeys((*compared, "logits")))
        optional = tuple(tap for tap in taps if tap == "aux")
        return Reads(
            tuple(tap for tap in taps if tap != "aux"), tuple(Need(tap=tap) for tap in taps), optional
        )

    def forward(self, inputs: StepInputs) -> dict[str, Weighted]:
        student, teacher = inputs.student, inputs.teacher
        terms = {}
        if self.lambda_psd:
            mine = [student[tap] for tap in self.student_places]
            psd = pixel_similarity(mine, [teacher[tap] for tap in self.taps])
            terms["psd"] = Weighted(psd, self.lambda_psd)
        if self.lambda_csd:
            csd = class_similarity(student["logits"], teacher["logits"], tau=self.tau)
            terms["csd"] = Weighted(csd, self.lambda_csd)
        return terms
