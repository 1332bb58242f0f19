"""Teacher-free distillation by itself: the teacher is a trained network of the student's own architecture.

    L = (1 - alpha) * CE + alpha * multiplier * T^2 / (B K) * sum of KL(softmax(t / T) || softmax(s / T))
The mean is over all elements, not over images: K times smaller, which `multiplier` makes up for. With
`multiplier=1` it is that repository's plain distillation.
"""

from collections.abc import Mapping
from typing import Annotated

from torch import Tensor

from kdcache.cache.spec import Need
from kdcache.cache.tasks.table import CLASSIFICATION
from kdcache.losses.contract import LossOutput, LossTerm, Maps, Method, Weighted
from kdcache.losses.formulas.scores import check_scores, mean_kl
from kdcache.losses.options import About, NotNegative, OptionValue, Positive, Share
from kdcache.losses.step_inputs import StepInputs, plain_rows


def element_kl(student_BK: Tensor, teacher_BK: Tensor, *, temperature: float) -> Tensor:
    """T^2 times the KL of the tempered softmaxes, mean over images and classes."""
    summed = mean_kl(student_BK, teacher_BK, temperature=temperature)
    return temperature**2 * summed / student_BK.shape[1]


class SelfTraining(LossTerm):
    """The task loss weighs 1 - alpha."""

    method = Method(
        title="Teacher-free distillation, self-training",
        source="Yuan et al. 2020, https://arxiv.org/abs/1909.11723",
        code="yuanli2333/Teacher-free-Knowledge-Distillation d000ab3, my_loss_function.py",
        defaults="alpha/T/multiplier: ResNet18 0.95/6/50, MobileNetV2 and ShuffleNetV2 0.95/20/1, ResNeXt29 "
        "0.9/20/100, DenseNet121 0.9/20/50, GoogLeNet 0.4/20/50",
        published="CIFAR-100 ResNeXt29 82.08 (81.03 without)",
    )
    tasks = (CLASSIFICATION,)
    needs = (Need(tap="logits"),)
    student_taps = ("logits",)

    def __init__(
        self,
        maps: Maps,
        *,
        alpha: Annotated[Share, About("weight of the teacher; the task loss has 1 - alpha")] = 0.95,
        T: Annotated[Positive, About("temperature, divides the logits")] = 6.0,
        multiplier: Annotated[NotNegative, About("factor against the mean over classes")] = 50.0,
    ) -> None:
        super().__init__()
        check_scores("tfkd-self", maps)
        self.alpha = alpha
        self.T = T
        self.multiplier = multiplier

    @classmethod
    def task_weight(cls, options: Mapping[str, OptionValue]) -> float:
        return round(1.0 - float(options["alpha"]), 12)  # type: ignore[arg-type]

    def forward(self, inputs: StepInputs) -> LossOutput:
        student, teacher = (plain_rows(inputs, side["logits"]) for side in (inputs.student, inputs.teacher))
        value = element_kl(student, teacher, temperature=self.T)
        return {"kl": Weighted(value, self.alpha * self.multiplier)}
