"""PKD: maps that are standardised per channel, so that only their pattern is compared.

    z = (x - mean) / (std + 1e-6)        per channel over images and cells, std unbiased
    L = sum over taps of 1/2 * mean (z_student - z_teacher)^2        about 1 - Pearson's r

Cao et al. 2022, https://arxiv.org/abs/2207.02039; open-mmlab/mmrazor 90c7af1 `pkd_loss.py`. Gradient flows
through mean and std, which are those of one rank's batch. Equal channels. Where the sizes differ one side is
resized, bilinear without aligned corners. Weight 6 for two-stage detectors, 10 for one-stage ones; nothing is
published for segmentation and classification.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from torch import Tensor
from torch.nn import functional

from kdcache.cache.tasks.table import CLASSIFICATION
from kdcache.losses.contract import LossTerm, Maps, Method, Reads, same_taps
from kdcache.losses.formulas.precision import in_float32
from kdcache.losses.formulas.rows import as_map, named_taps
from kdcache.losses.formulas.shapes import check_same_channels
from kdcache.losses.options import About, OptionValue
from kdcache.losses.step_inputs import StepInputs, plain_rows

EPSILON = 1e-6


@in_float32
def pearson_distance(student_BCHW: Tensor, teacher_BCHW: Tensor) -> Tensor:
    """1/2 * mean squared difference of the standardised maps. NaN for a single value per channel."""
    return functional.mse_loss(standardised(student_BCHW), standardised(teacher_BCHW)) / 2


def standardised(map_BCHW: Tensor) -> Tensor:
    """(C, B H W), per channel of mean 0 and deviation 1. A constant channel is 0 and has no gradient."""
    rows_CN = map_BCHW.transpose(0, 1).flatten(1)
    return (rows_CN - rows_CN.mean(1, keepdim=True)) / (rows_CN.std(1, keepdim=True) + EPSILON)


class PearsonFeatures(LossTerm):
    """A single value per channel (one image, one cell) has no pattern: 0 with a zero gradient."""

    method = Method(
        title="Pearson KD of features",
        source="Cao et al. 2022, https://arxiv.org/abs/2207.02039",
        code="open-mmlab/mmrazor 90c7af1 mmrazor/models/losses/pkd_loss.py",
        defaults="weight 6 (two-stage detectors), 10 (one-stage); published for detection only",
        published="COCO RetinaNet-X101 -> RetinaNet-R50 40.8 AP (student 37.4)",
    )
    same_size = False
    task_settings = {CLASSIFICATION: {"taps": "stage3"}}
    published_weight = 6.0

    def __init__(
        self,
        maps: Maps,
        *,
        taps: Annotated[str, About("maps of both sides, separated by /")] = "neck",
        resize: Annotated[
            Literal["student", "teacher"], About("which side takes the other's size where they differ")
        ] = "student",
    ) -> None:
        super().__init__()
        self.taps = named_taps("pkd", taps)
        self.resize = resize
        for tap in self.taps:
            check_same_channels("pkd", tap, maps.student[tap], maps.teacher[tap])

    @classmethod
    def reads(cls, options: Mapping[str, OptionValue]) -> Reads:
        return same_taps(options)

    def forward(self, inputs: StepInputs) -> Tensor:
        return torch.stack([self._level(tap, inputs) for tap in self.taps]).sum()

    def _level(self, tap: str, inputs: StepInputs) -> Tensor:
        student = as_map(plain_rows(inputs, inputs.student[tap]))
        teacher = as_map(plain_rows(inputs, inputs.teacher[tap]))
        if student.shape[-2:] != teacher.shape[-2:]:
            if self.resize == "student":
                student = _resized(student, teacher)
            else:
                teacher = _resized(teacher, student)
        if student[:, 0].numel() == 1:
            return student.float().sum() * 0.0
        return pearson_distance(student, teacher)


def _resized(map_BCHW: Tensor, like_BCHW: Tensor) -> Tensor:
    return functional.interpolate(map_BCHW, size=like_BCHW.shape[-2:], mode="bilinear", align_corners=False)
