"""Label smoothing as the teacher-free repository writes it, in place of the task loss.

    L = -1 / B * sum over images and classes of p log softmax(s)
    p = 1 - alpha on the true class, alpha / (K - 1) on each other
PyTorch's own, `task(smoothing=0.1)`, spreads alpha / K over all classes, the true one included.
"""

from collections.abc import Mapping
from typing import Annotated

from torch import Tensor
from torch.nn import functional

from kdcache.cache.tasks.table import CLASSIFICATION
from kdcache.losses.contract import LossTerm, Maps, Method
from kdcache.losses.formulas.precision import in_float32
from kdcache.losses.formulas.scores import check_several_classes, of_true_class
from kdcache.losses.options import About, OptionValue, Share
from kdcache.losses.step_inputs import StepInputs, plain_rows


@in_float32
def smoothed_ce(student_BK: Tensor, labels_B: Tensor, *, alpha: float) -> Tensor:
    """(B,): each image's smoothed cross-entropy, in nats."""
    log_p_BK = functional.log_softmax(student_BK, dim=1)
    true_B = of_true_class(log_p_BK, labels_B)
    others_B = log_p_BK.sum(1) - true_B
    return -((1 - alpha) * true_B + alpha / (student_BK.shape[1] - 1) * others_B)


class LabelSmoothing(LossTerm):
    """Takes the place of the task loss. Of a mixed image the shares of both labels weigh both entropies."""

    method = Method(
        title="Label smoothing",
        source="Yuan et al. 2020, https://arxiv.org/abs/1909.11723 (the form compared there)",
        code="yuanli2333/Teacher-free-Knowledge-Distillation d000ab3, my_loss_function.py",
        cacheable="no teacher",
        defaults="alpha 0.1",
        published="none as text",
    )
    tasks = (CLASSIFICATION,)
    student_taps = ("logits",)

    def __init__(
        self, maps: Maps, *, alpha: Annotated[Share, About("probability given to the other classes")] = 0.1
    ) -> None:
        super().__init__()
        check_several_classes("label-smoothing", maps.student["logits"])
        self.alpha = alpha

    @classmethod
    def task_weight(cls, options: Mapping[str, OptionValue]) -> float:
        return 0.0

    def forward(self, inputs: StepInputs) -> Tensor:
        student = plain_rows(inputs, inputs.student["logits"])
        own_B = smoothed_ce(student, plain_rows(inputs, inputs.truth), alpha=self.alpha)
        if inputs.mixed is None:
            return own_B.mean()
        other_B = smoothed_ce(student, inputs.mixed.labels_B, alpha=self.alpha)
        share_B = inputs.mixed.share_B.to(own_B.dtype)
        return (share_B * own_B + (1 - share_B) * other_B).mean()
