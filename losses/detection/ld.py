"""LD: the distribution of a box's side over the bins, as knowledge distillation of logits.

    ld(s, t)  = T^2 / n * KL(softmax(t / T) || softmax(s / T))        per side, n bins, mean over them
    L_main    = 1/4  * sum over positives i and sides of max_k sigma(s_ik) * ld            T 10, weight 0.25
    L_vlr     = 1/16 * sum over the valuable region of v_i * sum over sides of ld          T 10, weight 0.25
    L_kd      = T^2 / K * mean over positives of KL of softmaxes over the K classes        T 2, weight 10
summed over levels; the factor max_k sigma(s) has no gradient, and nothing is divided by the positives but
L_kd, level by level. v: `regions.py`. "LD alone" of the paper is ld(vlr=0,kd=0).
Zheng et al. 2022, https://arxiv.org/abs/2102.12252; HikariTJU/LD 4287990 `ld_head.py`.
"""

from collections.abc import Mapping
from typing import Annotated

import torch
from torch import Tensor

from kdcache.cache.grid import BINS, CLS
from kdcache.cache.positions import anchors, level_rows
from kdcache.cache.spec import BadOption, Need
from kdcache.cache.tasks.table import DETECTION
from kdcache.losses.contract import LossOutput, LossTerm, Maps, Method, Reads, Weighted
from kdcache.losses.detection.match import TapPair, canvas_of, grids, same_levels
from kdcache.losses.detection.matched import Matched
from kdcache.losses.detection.regions import valuable_regions
from kdcache.losses.formulas.divergence import kl
from kdcache.losses.formulas.precision import in_float32
from kdcache.losses.options import About, NotNegative, OptionValue, Positive
from kdcache.losses.step_inputs import StepInputs

SIDES = 4


@in_float32
def mean_divergence(student_ND: Tensor, teacher_ND: Tensor, *, temperature: float) -> Tensor:
    """(N,): T^2 times the mean, not the sum, over D of the divergence's addends."""
    summed = kl(student_ND, teacher_ND, temperature=temperature, dim=-1)
    return summed * (temperature**2 / student_ND.shape[-1])


@in_float32
def best_score(logits_NK: Tensor) -> Tensor:
    """(N,): the largest class probability, without gradient."""
    return logits_NK.sigmoid().amax(-1).detach()


class LocalisationDistillation(LossTerm):
    """Needs bins on both sides. The valuable region is worked out from the boxes of the batch. Defined
    per micro batch: boxes are summed over its positions and classes averaged over its positives.
    """

    method = Method(
        title="Localisation distillation",
        source="Zheng et al. 2022, https://arxiv.org/abs/2102.12252",
        code="HikariTJU/LD 4287990 mmdet/models/dense_heads/ld_head.py",
        defaults="main 0.25 at T 10, vlr 0.25 at T 10, kd 10 at T 2; LD alone is ld(vlr=0,kd=0)",
        published="COCO AP GFL-R101 -> GFL-R50 42.1 (40.1), main alone 41.1; -> R34 41.0, -> R18 37.5",
        detectors=("gfl",),
    )
    per_micro_batch = "boxes are summed over its positions and classes averaged over its positives"
    tasks = (DETECTION,)

    def __init__(
        self,
        maps: Maps,
        *,
        main: Annotated[NotNegative, About("weight of the bins at positives; 0 = off")] = 0.25,
        vlr: Annotated[NotNegative, About("weight of the bins in the valuable region; 0 = off")] = 0.25,
        T: Annotated[Positive, About("temperature of the bins")] = 10.0,
        kd: Annotated[NotNegative, About("weight of the classes at positives; 0 = off")] = 10.0,
        kd_T: Annotated[Positive, About("temperature of the classes")] = 2.0,
    ) -> None:
        super().__init__()
        if not main and not vlr and not kd:
            raise BadOption(
                "main=0, vlr=0 and kd=0 leave nothing to distil",
                where="loss term 'ld'",
                fix="leave one of them out, for example ld(vlr=0,kd=0)",
            )
        self.grid, _ = grids("ld", maps)
        self.canvas = canvas_of(maps)
        self.bins_taps = same_levels("ld", maps, BINS).taps
        self.cls_taps = (
            same_levels("ld", maps, CLS).taps
            if kd
            else tuple(TapPair(tap, "") for tap in self.grid.groups[CLS])
        )
        self.main, self.vlr, self.T, self.kd, self.kd_T = main, vlr, T, kd, kd_T

    @classmethod
    def reads(cls, options: Mapping[str, OptionValue]) -> Reads:
        """The student's classes always: they weigh its bins."""
        kinds = (BINS, CLS) if options["kd"] else (BINS,)
        return Reads((BINS, CLS), tuple(Need(tap=kind) for kind in kinds))

    def forward(self, inputs: StepInputs, *, regions: Tensor | None = None) -> LossOutput:
        """`regions` (B, P) takes the place of the valuable region of the batch's boxes."""
        matched: Matched = inputs.prepared
        values_BP = regions
        if values_BP is None:
            values_BP = self._regions(inputs, matched) if self.vlr else torch.zeros_like(matched.weights_BP)
        sizes = list(matched.level_sizes)
        labels = torch.split(matched.labels_BP, sizes, 1)
        weights = torch.split(matched.weights_BP, sizes, 1)
        values = torch.split(values_BP, sizes, 1)
        levels: dict[str, list[Tensor]] = {"main": [], "vlr": [], "kd": []}
        for index, (bins, scores) in enumerate(zip(self.bins_taps, self.cls_taps, strict=True)):
            positive = (labels[index] >= 0).to(values_BP.dtype)
            student_cls = self._rows(inputs.student[scores.student])
            if self.main or self.vlr:
                sides = self._sides(inputs, bins)
                levels["main"].append((sides * positive * best_score(student_cls)).sum() / SIDES)
                levels["vlr"].append((sides * values[index]).sum() / SIDES**2)
            if self.kd:
                teacher_cls = self._rows(inputs.teacher[scores.teacher])
                apart = mean_divergence(student_cls, teacher_cls, temperature=self.kd_T)
                summed = (apart * positive * weights[index]).sum()
                levels["kd"].append(summed / positive.sum().clamp(min=1))
        factors = {"main": self.main, "vlr": self.vlr, "kd": self.kd}
        return {
            name: Weighted(torch.stack(levels[name]).sum(), factor)
            for name, factor in factors.items()
            if factor
        }

    def _sides(self, inputs: StepInputs, pair: TapPair) -> Tensor:
        """(B, P_l): the sum over the four sides of ld."""
        student, teacher = (
            rows.reshape(*rows.shape[:2], SIDES, -1)
            for rows in (self._rows(inputs.student[pair.student]), self._rows(inputs.teacher[pair.teacher]))
        )
        return mean_divergence(student, teacher, temperature=self.T).sum(-1)

    def _rows(self, level_map: Tensor) -> Tensor:
        return level_rows(level_map, self.grid.anchors_per_cell)

    @torch.no_grad()
    def _regions(self, inputs: StepInputs, matched: Matched) -> Tensor:
        """(B, P): v of each image's objects; padding of the truth is none."""
        all_anchors = torch.cat(anchors(self.grid, *self.canvas, device=matched.weights_BP.device))
        rows = [
            valuable_regions(all_anchors, truth_M5[truth_M5[:, 4] >= 0, :4], matched.level_sizes)
            for truth_M5 in inputs.truth
        ]
        return torch.stack(rows)
