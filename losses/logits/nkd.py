"""Normalised distillation: soft cross-entropies of the true class and, renormalised, of the others.

    target = -mean over images of p_T(y) log p_S(y)                    p = softmax(z), no temperature
    others = -T^2 * mean over images of sum over k != y of q_T(k) log q_S(k)
    q      = softmax over the K - 1 other classes of z / T
    L      = target + gamma * others, beside the full task loss
Cross-entropies, not divergences: equal scores do not give 0.
"""

from typing import Annotated

from torch import Tensor
from torch.nn import functional

from kdcache.cache.spec import Need
from kdcache.cache.tasks.table import CLASSIFICATION
from kdcache.losses.contract import LossOutput, LossTerm, Maps, Method, Weighted
from kdcache.losses.formulas.precision import in_float32
from kdcache.losses.formulas.scores import check_scores, of_other_classes, of_true_class
from kdcache.losses.options import About, NotNegative, Positive
from kdcache.losses.step_inputs import StepInputs, plain_rows


@in_float32
def target_entropy(student_BK: Tensor, teacher_BK: Tensor, labels_B: Tensor) -> Tensor:
    """Cross-entropy of the true class, weighed by the teacher's probability of it; in nats."""
    share_B = of_true_class(teacher_BK.softmax(1), labels_B)
    return -(share_B * of_true_class(functional.log_softmax(student_BK, dim=1), labels_B)).mean()


@in_float32
def others_entropy(student_BK: Tensor, teacher_BK: Tensor, labels_B: Tensor, *, temperature: float) -> Tensor:
    """T^2 times the soft cross-entropy over the other classes, in nats."""
    student, teacher = (of_other_classes(z_BK, labels_B) / temperature for z_BK in (student_BK, teacher_BK))
    cross_B = -(teacher.softmax(1) * functional.log_softmax(student, dim=1)).sum(1)
    return temperature**2 * cross_B.mean()


class NormalisedKD(LossTerm):
    """With mixed images the class of the larger share is the true one, as published."""

    method = Method(
        title="Normalised knowledge distillation",
        source="Yang et al. 2023, https://arxiv.org/abs/2303.13005",
        code="yzd-v/cls_KD 1e5d48f, mmcls/models/dis_losses/nkd.py",
        defaults="ImageNet: T 1, gamma 1.5 (ViT: 1); CIFAR: T 3, gamma 3.5",
        published="ImageNet R34 -> R18 71.96 (student 69.90), R50 -> MobileNetV1 72.58 (69.21)",
    )
    tasks = (CLASSIFICATION,)
    needs = (Need(tap="logits"),)
    student_taps = ("logits",)

    def __init__(
        self,
        maps: Maps,
        *,
        T: Annotated[Positive, About("temperature of the other classes, divides their logits")] = 1.0,
        gamma: Annotated[NotNegative, About("weight of the other classes")] = 1.5,
    ) -> None:
        super().__init__()
        check_scores("nkd", maps)
        self.T = T
        self.gamma = gamma

    def forward(self, inputs: StepInputs) -> LossOutput:
        student, teacher = (plain_rows(inputs, side["logits"]) for side in (inputs.student, inputs.teacher))
        labels_B = plain_rows(inputs, inputs.truth)
        others = others_entropy(student, teacher, labels_B, temperature=self.T)
        return {
            "target": Weighted(target_entropy(student, teacher, labels_B), 1.0),
            "others": Weighted(others, self.gamma),
        }
