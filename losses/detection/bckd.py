"""BCKD: every class of every position as a problem of its own, and boxes by overlap, both where the scores
of student and teacher are apart.

    w     = |sigma(t) - sigma(s)|                                  per position i and class k
    L_cls = 1 / N * sum_i m_i sum_k w_ik^beta * bce(s_ik, sigma(t_ik))       gradient through w too
    L_loc = 1 / N * sum_i m_i max_k w_ik * (1 - GIoU(box_s, box_t))          no gradient through w
m is 0 on ignored positions, N the number of positives (`Matched`; 1.2e-7 is added to it). Boxes are in
strides about their cell's point. A level without a positive in the whole batch of a rank counts in neither
term (`skip_levels`): the papers do not say so, the published code does it. Weights 1 and 4.
Yang et al. 2023, https://arxiv.org/abs/2308.14286; TinyTigerPan/BCKD 121c9aa. The paper writes IoU, its
configurations take GIoU.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from torch import Tensor
from torch.nn import functional

from kdcache.cache.grid import BOX, CLS
from kdcache.cache.positions import level_rows
from kdcache.cache.spec import BadOption, Need
from kdcache.cache.tasks.table import DETECTION
from kdcache.losses.contract import LossOutput, LossTerm, Maps, Method, Reads, Weighted
from kdcache.losses.detection.boxes import paired_giou
from kdcache.losses.detection.match import TapPair, grids, same_levels, score_notes
from kdcache.losses.detection.matched import Matched
from kdcache.losses.formulas.precision import in_float32
from kdcache.losses.options import About, NotNegative, OptionValue, Range
from kdcache.losses.step_inputs import StepInputs

EPSILON = 1.1920929e-07  # added to N, as published
AtLeastOne = Annotated[float, Range(1.0)]  # below 1 the power has an infinite slope where the scores agree


@in_float32
def class_distance(student_NK: Tensor, teacher_NK: Tensor, *, beta: float = 1.0) -> Tensor:
    """(N,): sum over the classes of w^beta * bce, from logits. The gradient reaches the weight as well."""
    target_NK = teacher_NK.sigmoid()
    apart_NK = (target_NK - student_NK.sigmoid()).abs()
    bce_NK = functional.binary_cross_entropy_with_logits(student_NK, target_NK, reduction="none")
    return (apart_NK.pow(beta) * bce_NK).sum(-1)


@in_float32
def box_distance(student_N4: Tensor, teacher_N4: Tensor) -> Tensor:
    """(N,): 1 - GIoU of boxes x1 y1 x2 y2, 0 for equal ones, up to 2 for boxes far apart."""
    return 1 - paired_giou(student_N4, teacher_N4)


@in_float32
def largest_gap(student_NK: Tensor, teacher_NK: Tensor) -> Tensor:
    """(N,): max over the classes of |sigma(t) - sigma(s)|, without gradient."""
    return (teacher_NK.sigmoid() - student_NK.sigmoid()).abs().amax(-1).detach()


@in_float32
def about_point(sides_N4: Tensor) -> Tensor:
    """Left, top, right, bottom to x1 y1 x2 y2 about the cell's point, in the same unit."""
    return torch.cat([-sides_N4[..., :2], sides_N4[..., 2:]], dim=-1)


def shared_out(rows: Tensor, weights: Tensor, num_positives: Tensor | float) -> Tensor:
    """Weighted sum of rows over N."""
    return (rows * weights).sum() / (num_positives + EPSILON)


class BinaryClassification(LossTerm):
    """`cls=0` or `loc=0` leaves that term out; the scores are read for the other's weights all the
    same. Defined per micro batch: sums are divided by its positives, and levels without one are
    skipped.
    """

    method = Method(
        title="BCKD, binary classification and localisation distillation",
        source="Yang et al. 2023, https://arxiv.org/abs/2308.14286",
        code="TinyTigerPan/BCKD 121c9aa",
        defaults="cls 1, loc 4, GIoU, levels without a positive skipped",
        published="COCO AP GFL-R101 -> GFL-R50 43.2 (40.1), -> R34 42.0 (38.9), -> R18 38.6 (35.8)",
        detectors=("gfl",),
        elsewhere=("retinanet", "fcos", "atss"),
    )
    per_micro_batch = "sums are divided by its positives, and levels without one are skipped"
    tasks = (DETECTION,)

    def __init__(
        self,
        maps: Maps,
        *,
        cls: Annotated[NotNegative, About("weight of the classification term; 0 = off")] = 1.0,
        loc: Annotated[NotNegative, About("weight of the localisation term; 0 = off, no box is read")] = 4.0,
        beta: Annotated[AtLeastOne, About("power of the score gap in the classification term")] = 1.0,
        skip_levels: Annotated[
            Literal["on", "off"], About("levels without a positive in the batch: on = count in neither term")
        ] = "on",
    ) -> None:
        super().__init__()
        if not cls and not loc:
            raise BadOption(
                "cls=0 and loc=0 leave nothing to distil",
                where="loss term 'bckd'",
                fix="leave one of them out: bckd(cls=0) or bckd(loc=0)",
            )
        student, teacher = grids("bckd", maps)
        self.cls_taps = same_levels("bckd", maps, CLS).taps
        self.box_taps = same_levels("bckd", maps, BOX).taps if loc else ()
        self.anchors_per_cell = student.anchors_per_cell
        self.cls, self.loc, self.beta, self.skip_levels = cls, loc, beta, skip_levels
        self.notes = score_notes(student, teacher)

    @classmethod
    def task_options(cls, options: Mapping[str, OptionValue]) -> Mapping[str, OptionValue]:
        """The published code changes how gfl weighs the boxes of its own loss too."""
        return {"score": "auto"}

    @classmethod
    def reads(cls, options: Mapping[str, OptionValue]) -> Reads:
        kinds = (CLS, BOX) if options["loc"] else (CLS,)
        return Reads(kinds, tuple(Need(tap=kind) for kind in kinds))

    def forward(self, inputs: StepInputs) -> LossOutput:
        matched: Matched = inputs.prepared
        counted_BP = self._counted(matched)
        split = torch.split(counted_BP, list(matched.level_sizes), dim=1)
        num_positives = matched.num_positives
        terms = {}
        if self.cls:
            levels = [
                shared_out(class_distance(*self._rows(inputs, pair), beta=self.beta), weights, num_positives)
                for pair, weights in zip(self.cls_taps, split, strict=True)
            ]
            terms["cls"] = Weighted(torch.stack(levels).sum(), self.cls)
        if self.loc:
            levels = [
                self._boxes(inputs, scores, boxes, weights, num_positives)
                for scores, boxes, weights in zip(self.cls_taps, self.box_taps, split, strict=True)
            ]
            terms["loc"] = Weighted(torch.stack(levels).sum(), self.loc)
        return terms

    def _boxes(
        self, inputs: StepInputs, scores: TapPair, boxes: TapPair, weights: Tensor, num_positives: Tensor
    ) -> Tensor:
        gap = largest_gap(*self._rows(inputs, scores))
        student, teacher = (about_point(sides) for sides in self._rows(inputs, boxes))
        return shared_out(box_distance(student, teacher), weights * gap, num_positives)

    def _counted(self, matched: Matched) -> Tensor:
        """(B, P): m, and 0 on levels that are skipped. Without a branch, so that no GPU waits for it."""
        if self.skip_levels == "off":
            return matched.weights_BP
        used_L = matched.positive_levels.to(matched.weights_BP.dtype)
        sizes = torch.tensor(matched.level_sizes, device=used_L.device)
        return matched.weights_BP * used_L.repeat_interleave(sizes, output_size=sum(matched.level_sizes))

    def _rows(self, inputs: StepInputs, pair: TapPair) -> tuple[Tensor, Tensor]:
        """(B, P_l, C) of the student and of the teacher."""
        student = level_rows(inputs.student[pair.student], self.anchors_per_cell)
        return student, level_rows(inputs.teacher[pair.teacher], self.anchors_per_cell)
