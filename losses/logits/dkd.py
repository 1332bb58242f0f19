"""Decoupled distillation: the true class against all others, and the others among themselves.

    b    = [p_y, 1 - p_y]                          p = softmax(z / T)
    TCKD = T^2 * mean over images of KL(b_T || b_S)
    NCKD = T^2 * mean over images of KL of the softmaxes over the K - 1 other classes
    L    = alpha * TCKD + beta * NCKD, beside the full task loss, growing linearly over 20 epochs
The published code takes log(1 - p_y) as it is and drops the true class by subtracting 1000 from its score;
here both stay in log space, which is the same where that is finite.
"""

from typing import Annotated

import torch
from torch import Tensor

from kdcache.cache.spec import Need
from kdcache.cache.tasks.table import CLASSIFICATION, DETECTION
from kdcache.losses.contract import LossOutput, LossTerm, Maps, Method, Weighted
from kdcache.losses.formulas.precision import in_float32
from kdcache.losses.formulas.scores import NO_SOFTMAX, check_scores, mean_kl, of_other_classes, of_true_class
from kdcache.losses.options import About, NotNegative, Positive
from kdcache.losses.step_inputs import StepInputs, plain_rows


@in_float32
def true_class_kl(student_BK: Tensor, teacher_BK: Tensor, labels_B: Tensor, *, temperature: float) -> Tensor:
    """TCKD with its T^2, in nats."""
    log_s_B2, log_t_B2 = (_log_two(z_BK / temperature, labels_B) for z_BK in (student_BK, teacher_BK))
    return temperature**2 * (log_t_B2.exp() * (log_t_B2 - log_s_B2)).sum(1).mean()


def other_classes_kl(
    student_BK: Tensor, teacher_BK: Tensor, labels_B: Tensor, *, temperature: float
) -> Tensor:
    """NCKD with its T^2, in nats."""
    student, teacher = (of_other_classes(z_BK, labels_B) for z_BK in (student_BK, teacher_BK))
    return temperature**2 * mean_kl(student, teacher, temperature=temperature)


def _log_two(scaled_BK: Tensor, labels_B: Tensor) -> Tensor:
    """(B, 2): log p_y and log(1 - p_y), the latter by what loses no digits on its side of p_y = 1/2."""
    total_B = scaled_BK.logsumexp(1)
    true_B = of_true_class(scaled_BK, labels_B) - total_B
    likely_B = of_other_classes(scaled_BK, labels_B).logsumexp(1) - total_B
    unlikely_B = torch.log1p(-true_B.exp().clamp(max=0.5))
    return torch.stack([true_B, torch.where(true_B.exp() > 0.5, likely_B, unlikely_B)], dim=1)


class DecoupledKD(LossTerm):
    """With mixed images the class of the larger share is the true one."""

    method = Method(
        title="Decoupled knowledge distillation",
        source="Zhao et al. 2022, https://arxiv.org/abs/2203.08679",
        code="megvii-research/mdistiller a08d46f, mdistiller/distillers/DKD.py",
        defaults="CIFAR: T 4, alpha 1, warmup 20, beta 2 (resnet110 -> 32, resnet56 -> 20), 6 (vgg13, "
        "wrn -> wrn), 8 (all others); ImageNet: T 1, warmup 1, beta 0.5 (R34 -> R18) or 2 (R50 -> MBv1)",
        published="CIFAR-100 resnet32x4 -> resnet8x4 76.32; ImageNet R34 -> R18 71.70, R50 -> MBv1 72.05",
    )
    tasks = (CLASSIFICATION,)
    needs = (Need(tap="logits"),)
    student_taps = ("logits",)
    refused = {DETECTION: NO_SOFTMAX}
    task_settings = {CLASSIFICATION: {"warmup": 20.0}}

    def __init__(
        self,
        maps: Maps,
        *,
        T: Annotated[Positive, About("temperature, divides the logits")] = 4.0,
        alpha: Annotated[NotNegative, About("weight of true class against others")] = 1.0,
        beta: Annotated[NotNegative, About("weight of the others among themselves")] = 8.0,
    ) -> None:
        super().__init__()
        check_scores("dkd", maps)
        self.T = T
        self.alpha = alpha
        self.beta = beta

    def forward(self, inputs: StepInputs) -> LossOutput:
        student, teacher = (plain_rows(inputs, side["logits"]) for side in (inputs.student, inputs.teacher))
        labels_B = plain_rows(inputs, inputs.truth)
        return {
            "tckd": Weighted(true_class_kl(student, teacher, labels_B, temperature=self.T), self.alpha),
            "nckd": Weighted(other_classes_kl(student, teacher, labels_B, temperature=self.T), self.beta),
        }
