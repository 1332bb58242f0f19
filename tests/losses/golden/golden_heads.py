"""A stored GFL head as a step of a run: its maps on both sides, the assignment that the file gives, and the
terms of the real objects, the task's and a distillation's, on it.
"""

from typing import Literal

import torch
from bare_inputs import specs, step_inputs
from golden_case import Case
from torch import Tensor

from kdcache.cache.grid import DenseGrid
from kdcache.cache.positions import level_rows
from kdcache.cache.spec import TensorSpec
from kdcache.losses.contract import Facts, LossTerm, Maps, Weighted
from kdcache.losses.detection.matched import BACKGROUND, Matched
from kdcache.losses.step_inputs import StepInputs
from kdcache.losses.supervised.detection import Supervised

LEVEL = 3  # of the one level that these files have
Form = Literal["own", "bckd"]
OWN_CODE: Form = "own"  # how a positive's box is weighed: as GFL's code does, or as BCKD's
BCKDS_CODE: Form = "bckd"


def head_maps(case: Case) -> Maps:
    stride = case.meta["stride"]
    grid = DenseGrid(levels=(LEVEL,), strides=(stride,), num_bins=case.meta["reg_max"] + 1)
    height, width = (cells * stride for cells in case["cls_score"].shape[2:])
    sides: list[dict[str, TensorSpec]] = [
        {tap: spec._replace(stride=stride) for tap, spec in specs(side).items()}
        for side in (_taps(case, "cls_score", "bbox_pred"), _taps(case, "soft_label", "soft_targets"))
    ]
    return Maps(sides[0], sides[1], Facts(input_size=(height, width)), grid, grid)


def head_inputs(case: Case) -> StepInputs:
    student, teacher = (
        _taps(case, cls, bins) for cls, bins in (("cls_score", "bbox_pred"), ("soft_label", "soft_targets"))
    )
    return step_inputs(student, teacher, torch.zeros(1, 0, 5), prepared=given(case))


def given(case: Case) -> Matched:
    """The assignment that the file stores; its background is the number of classes."""
    labels_BP, boxes_BP4 = case["labels"], case["bbox_targets"].detach()
    num_classes = case["cls_score"].shape[1]
    labels_BP = labels_BP.where(labels_BP < num_classes, torch.tensor(BACKGROUND))
    return Matched(
        labels_BP=labels_BP,
        weights_BP=case["label_weights"].detach(),
        boxes_BP4=boxes_BP4,
        centerness_BP=torch.zeros_like(boxes_BP4[..., 0]),
        positive_levels=(labels_BP >= 0).any()[None],
        level_sizes=(labels_BP.shape[1],),
        num_positives=torch.tensor(case.meta["num_total_samples"], dtype=boxes_BP4.dtype),
    )


def task_answers(case: Case, inputs: StepInputs, form: Form) -> tuple[dict[str, Tensor], Tensor]:
    """The supervised terms by the keys of the files, which store those of boxes and bins before the division;
    and their sum as a run has it."""
    terms = weighted(Supervised(head_maps(case), score=form), inputs)
    scores = _sum_of_best_scores(case, 1e-4 if form == BCKDS_CODE else 0.0)
    divisor = scores + 1e-6 if form == BCKDS_CODE else scores.clamp(min=1)
    answers = {
        "out.loss_cls": terms["cls"],
        "out.loss_bbox": terms["box"] * divisor,
        "out.loss_dfl": terms["dfl"] * divisor,
        "out.weight_targets_sum": scores,
    }
    return answers, torch.stack(list(terms.values())).sum()


def weighted(term: LossTerm, inputs: StepInputs, **more: Tensor) -> dict[str, Tensor]:
    """Each part of a term as it enters a run's total."""
    parts: dict[str, Weighted] = term(inputs, **more)
    return {name: part.value * part.weight for name, part in parts.items()}


def _taps(case: Case, cls: str, bins: str) -> dict[str, Tensor]:
    """What a gfl network answers where its head says this; boxes follow from the bins."""
    maps = {f"cls{LEVEL}": case[cls], f"bins{LEVEL}": case[bins]}
    return {**maps, f"box{LEVEL}": _expected_sides(case[bins])}


def _expected_sides(bins_BCHW: Tensor) -> Tensor:
    """(B, 4, H, W): the mean bin of each side."""
    num_images, channels, height, width = bins_BCHW.shape
    bins = bins_BCHW.reshape(num_images, 4, channels // 4, height, width).softmax(2)
    return (bins * torch.arange(channels // 4, dtype=bins.dtype)[:, None, None]).sum(2)


def _sum_of_best_scores(case: Case, eps: float) -> Tensor:
    """Over the positives, in plain words."""
    labels_BP = given(case).labels_BP
    scores = level_rows(case["cls_score"], 1).detach().sigmoid()
    best = [(row + eps).max() + eps for row in scores[labels_BP >= 0]]
    return torch.stack(best).sum() if best else scores.new_zeros(())
