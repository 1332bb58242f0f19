"""Golden adapters of what dense heads are trained with on their own: the terms of the task in files of heads.

Their totals hold the distillation too, so adapters of those files take `task_terms` from here.
"""

from typing import Any

import torch
from bare_inputs import spec, step_inputs
from golden_case import Case
from torch import Tensor

from kdcache.cache.grid import DenseGrid
from kdcache.cache.positions import level_rows
from kdcache.losses.contract import Facts, Maps, Weighted
from kdcache.losses.detection.matched import BACKGROUND, Matched
from kdcache.losses.step_inputs import StepInputs
from kdcache.losses.supervised.detection import Supervised

LEVEL = 3  # of the one level that these files have


def head_grid(case: Case) -> DenseGrid:
    return DenseGrid(levels=(LEVEL,), strides=(case.meta["stride"],), num_bins=case.meta["reg_max"] + 1)


def canvas(case: Case) -> tuple[int, int]:
    """(height, width) in pixels whose cells are those of the stored maps."""
    height, width = case["cls_score"].shape[2:]
    return height * case.meta["stride"], width * case.meta["stride"]


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


def expected_sides(bins_BCHW: Tensor) -> Tensor:
    """(B, 4, H, W): what a gfl student's `box` tap is, the mean bin of each side."""
    num_images, channels, height, width = bins_BCHW.shape
    bins = bins_BCHW.reshape(num_images, 4, channels // 4, height, width).softmax(2)
    return (bins * torch.arange(channels // 4, dtype=bins.dtype)[:, None, None]).sum(2)


def head_maps(case: Case) -> dict[str, Tensor]:
    """The student's taps of the stored head."""
    bins = case["bbox_pred"]
    return {f"cls{LEVEL}": case["cls_score"], f"bins{LEVEL}": bins, f"box{LEVEL}": expected_sides(bins)}


def head_inputs(case: Case, teacher: dict[str, Tensor] | None = None) -> StepInputs:
    return step_inputs(head_maps(case), teacher or {}, torch.zeros(1, 0, 5), prepared=given(case))


def task_terms(case: Case, **options: Any) -> dict[str, Weighted]:
    """The supervised terms of the stored head under the stored assignment."""
    specs = {tap: spec(one) for tap, one in head_maps(case).items()}
    maps = Maps(specs, {}, Facts(input_size=canvas(case)), student_grid=head_grid(case))
    terms = Supervised(maps, **options)(head_inputs(case))
    assert not isinstance(terms, Tensor)
    return dict(terms)


def undivided(case: Case, terms: dict[str, Weighted], divisor: Tensor) -> dict[str, Tensor]:
    """As the files store them: box and bins with their weights, before the division."""
    return {
        "loss_cls": terms["cls"].value * terms["cls"].weight,
        "loss_bbox": terms["box"].value * terms["box"].weight * divisor,
        "loss_dfl": terms["dfl"].value * terms["dfl"].weight * divisor,
    }


def weight_sum(case: Case, eps: float) -> Tensor:
    """The sum of the positives' best scores, in plain words."""
    labels_BP = given(case).labels_BP
    scores = level_rows(case["cls_score"], 1).detach().sigmoid()
    best = [(row + eps).max() + eps for row in scores[labels_BP >= 0]]
    return torch.stack(best).sum() if best else scores.new_zeros(())
