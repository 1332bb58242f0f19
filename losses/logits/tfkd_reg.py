"""Teacher-free distillation from a hand-made virtual teacher: nothing is read but the label.

    u = `correct` on the true class, (1 - correct) / (K - 1) on each other
    L = (1 - alpha) * CE + alpha * multiplier / (B K) * sum of KL(softmax(u / T) || softmax(s))
As published: the probabilities u go through a softmax once more, so the target is almost uniform (largest
ratio exp(0.99 / T)); the student is not tempered and there is no T^2.
"""

from collections.abc import Mapping
from typing import Annotated

import torch
from torch import Tensor

from kdcache.cache.tasks.table import CLASSIFICATION
from kdcache.losses.contract import LossOutput, LossTerm, Maps, Method, Weighted
from kdcache.losses.formulas.precision import in_float32
from kdcache.losses.formulas.scores import check_several_classes, kl_to_target
from kdcache.losses.options import About, NotNegative, OptionValue, Positive, Share
from kdcache.losses.step_inputs import StepInputs, plain_rows


@in_float32
def virtual_teacher_kl(student_BK: Tensor, labels_B: Tensor, *, correct: float, temperature: float) -> Tensor:
    """KL of the virtual teacher and the untempered student, mean over images and classes."""
    num_classes = student_BK.shape[1]
    virtual_BK = torch.full_like(student_BK, (1 - correct) / (num_classes - 1))
    virtual_BK = virtual_BK.scatter(1, labels_B[:, None], correct)
    target_BK = (virtual_BK / temperature).softmax(1)
    return kl_to_target(student_BK, target_BK, temperature=1.0) / num_classes


class VirtualTeacher(LossTerm):
    """The task loss weighs 1 - alpha. With mixed images the class of the larger share is the true one."""

    method = Method(
        title="Teacher-free distillation, regularisation",
        source="Yuan et al. 2020, https://arxiv.org/abs/1909.11723",
        code="yuanli2333/Teacher-free-Knowledge-Distillation d000ab3, my_loss_function.py",
        cacheable="no teacher",
        defaults="alpha/T/multiplier: ResNet18 0.1/20/100, GoogLeNet 0.1/40/50, MobileNetV2 0.95/40/1, "
        "ShuffleNetV2 0.95/10/1; DenseNet121 alpha 0.1, T 40, ResNeXt29 alpha 0.5, T 40",
        published="in images only; baselines on CIFAR-100: ResNet18 75.87, MobileNetV2 68.38",
    )
    tasks = (CLASSIFICATION,)
    student_taps = ("logits",)

    def __init__(
        self,
        maps: Maps,
        *,
        alpha: Annotated[Share, About("weight of the virtual teacher; the task loss has 1 - alpha")] = 0.1,
        T: Annotated[Positive, About("temperature of the virtual teacher alone")] = 20.0,
        multiplier: Annotated[NotNegative, About("factor against the mean over classes")] = 100.0,
        correct: Annotated[Share, About("virtual probability of the true class")] = 0.99,
    ) -> None:
        super().__init__()
        check_several_classes("tfkd-reg", maps.student["logits"])
        self.alpha = alpha
        self.T = T
        self.multiplier = multiplier
        self.correct = correct

    @classmethod
    def task_weight(cls, options: Mapping[str, OptionValue]) -> float:
        return round(1.0 - float(options["alpha"]), 12)  # type: ignore[arg-type]

    def forward(self, inputs: StepInputs) -> LossOutput:
        student, labels = (plain_rows(inputs, v) for v in (inputs.student["logits"], inputs.truth))
        value = virtual_teacher_kl(student, labels, correct=self.correct, temperature=self.T)
        return {"kl": Weighted(value, self.alpha * self.multiplier)}
