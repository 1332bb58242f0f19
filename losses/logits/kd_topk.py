"""Partial knowledge: only the k likeliest classes of the teacher, the rest of the mass spread evenly.

rho = p_k for the k largest, the remaining mass / (K - k) on each other    p = softmax(t / T)
L   = 0.1 * CE + 0.9 * T^2 * mean over images of KL(rho || softmax(s / T))
"""

from collections.abc import Mapping
from typing import Annotated

from torch import Tensor

from kdcache.cache.spec import BadOption, Need
from kdcache.cache.tasks.table import CLASSIFICATION
from kdcache.losses.contract import LossTerm, Maps, Method
from kdcache.losses.formulas.scores import check_scores
from kdcache.losses.logits.partial import keep_top, partial_kd, tempered
from kdcache.losses.options import About, Count, OptionValue, Positive
from kdcache.losses.step_inputs import StepInputs, plain_rows


class TopK(LossTerm):
    """k = K - 1 and k = K are plain distillation."""

    method = Method(
        title="Partial knowledge: top k",
        source="after Tang et al. 2020, https://arxiv.org/abs/2002.03532 (recalled)",
        code="none at hand",
        defaults="T 4, weight 0.9, task 0.1 as kd; k 5",
        published="none at hand",
    )
    tasks = (CLASSIFICATION,)
    needs = (Need(tap="logits"),)
    student_taps = ("logits",)
    published_weight = 0.9

    def __init__(
        self,
        maps: Maps,
        *,
        k: Annotated[Count, About("classes whose probability is kept")] = 5,
        T: Annotated[Positive, About("temperature, divides the logits")] = 4.0,
    ) -> None:
        super().__init__()
        check_scores("kd-topk", maps)
        num_classes = maps.student["logits"].channels
        if k > num_classes:
            raise BadOption(
                f"k={k} of {num_classes} classes",
                where="loss term 'kd-topk'",
                fix=f"take at most {num_classes - 1}: kd-topk(k={num_classes - 1})",
            )
        self.k = k
        self.T = T

    @classmethod
    def task_weight(cls, options: Mapping[str, OptionValue]) -> float:
        return 0.1

    def forward(self, inputs: StepInputs) -> Tensor:
        student, teacher = (plain_rows(inputs, side["logits"]) for side in (inputs.student, inputs.teacher))
        target_BK = keep_top(tempered(teacher, temperature=self.T), self.k)
        return partial_kd(student, target_BK, temperature=self.T)
