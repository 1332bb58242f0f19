"""Partial knowledge: only how sure the teacher is of the true class, nothing about the others.

rho = p_y on the true class, (1 - p_y) / (K - 1) on each other             p = softmax(t / T)
L   = 0.1 * CE + 0.9 * T^2 * mean over images of KL(rho || softmax(s / T))
"""

from collections.abc import Mapping
from typing import Annotated

from torch import Tensor

from kdcache.cache.spec import Need
from kdcache.cache.tasks.table import CLASSIFICATION
from kdcache.losses.contract import LossTerm, Maps, Method
from kdcache.losses.formulas.scores import check_scores
from kdcache.losses.logits.partial import keep_true, partial_kd, tempered
from kdcache.losses.options import About, OptionValue, Positive
from kdcache.losses.step_inputs import StepInputs, plain_rows


class InstanceDifficulty(LossTerm):
    """With mixed images the class of the larger share is the true one."""

    method = Method(
        title="Partial knowledge: instance difficulty",
        source="after Tang et al. 2020, https://arxiv.org/abs/2002.03532 (recalled)",
        code="none at hand",
        defaults="T 4, weight 0.9, task 0.1 as kd",
        published="none at hand",
    )
    tasks = (CLASSIFICATION,)
    needs = (Need(tap="logits"),)
    student_taps = ("logits",)
    published_weight = 0.9

    def __init__(
        self, maps: Maps, *, T: Annotated[Positive, About("temperature, divides the logits")] = 4.0
    ) -> None:
        super().__init__()
        check_scores("kd-pt", maps)
        self.T = T

    @classmethod
    def task_weight(cls, options: Mapping[str, OptionValue]) -> float:
        return 0.1

    def forward(self, inputs: StepInputs) -> Tensor:
        student, teacher = (plain_rows(inputs, side["logits"]) for side in (inputs.student, inputs.teacher))
        target_BK = keep_true(tempered(teacher, temperature=self.T), plain_rows(inputs, inputs.truth))
        return partial_kd(student, target_BK, temperature=self.T)
