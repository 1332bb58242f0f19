"""Pixel-wise term of structured distillation: cross-entropy against the teacher's class posteriors.

    L = - 1 / (H W) * sum over images, pixels and classes of p_T log p_S,  p = softmax(z), T = 1

The teacher's entropy is not subtracted (same gradient as KL) and the images are summed, not averaged: the
value grows with the batch of a rank. Pixels with an ignored label count.
Liu et al. 2019, https://arxiv.org/abs/1903.04197; structure_knowledge_distillation ce208e1
`utils/criterion.py`.
"""

from torch import Tensor

from kdcache.cache.spec import Need
from kdcache.cache.tasks.table import SEGMENTATION
from kdcache.losses.contract import LossTerm, Maps, Method
from kdcache.losses.formulas.divergence import pixel_kl
from kdcache.losses.formulas.shapes import check_same_channels
from kdcache.losses.step_inputs import StepInputs


class PixelWise(LossTerm):
    """The published reduction, weight 10; `kd` is the same without it. Defined per micro batch: the
    images are summed.
    """

    method = Method(
        title="Structured distillation, pixel-wise term",
        source="Liu et al. 2019, https://arxiv.org/abs/1903.04197",
        code="irfanICMLL/structure_knowledge_distillation ce208e1 utils/criterion.py CriterionPixelWise",
        defaults="weight 10",
        published="Cityscapes mIoU PSPNet-R18 69.10 -> 70.51",
    )
    per_micro_batch = "the images are summed"
    tasks = (SEGMENTATION,)
    needs = (Need(tap="logits"),)
    student_taps = ("logits",)
    published_weight = 10.0

    def __init__(self, maps: Maps) -> None:
        super().__init__()
        check_same_channels("skds-pixel", "logits", maps.student["logits"], maps.teacher["logits"])

    def forward(self, inputs: StepInputs) -> Tensor:
        return pixel_kl(inputs.student["logits"], inputs.teacher["logits"], form="skds")
