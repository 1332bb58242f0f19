"""Partial knowledge: only how alike the classes are, read off the teacher's classifier; nothing per image.

    rho_y = softmax over k of cos(w_y, w_k)^power / b                w: rows of the last linear layer
    L     = 0.1 * CE + 0.9 * T^2 * mean over images of KL(rho_y || softmax(s / T))
A negative cosine keeps its sign. The cache holds the classifier's weight.
"""

from collections.abc import Mapping
from typing import Annotated

from torch import Tensor

from kdcache.cache.spec import BadOption
from kdcache.cache.tasks.table import CLASSIFICATION
from kdcache.losses.contract import LossTerm, Maps, Method
from kdcache.losses.formulas.scores import check_several_classes
from kdcache.losses.logits.partial import class_relations, partial_kd
from kdcache.losses.options import About, OptionValue, Positive
from kdcache.losses.step_inputs import StepInputs, plain_rows


class ClassSimilarity(LossTerm):
    """With mixed images the class of the larger share is the true one."""

    target_KK: Tensor
    method = Method(
        title="Partial knowledge: class similarity",
        source="after Tang et al. 2020, https://arxiv.org/abs/2002.03532 (recalled)",
        code="none at hand",
        cacheable="yes: the classifier's weight alone, nothing per image",
        defaults="power 0.3, b 0.3 are placeholders; T 4, weight 0.9, task 0.1 as kd",
        published="none at hand",
    )
    tasks = (CLASSIFICATION,)
    student_taps = ("logits",)
    published_weight = 0.9

    def __init__(
        self,
        maps: Maps,
        *,
        power: Annotated[Positive, About("exponent of the cosines")] = 0.3,
        b: Annotated[Positive, About("temperature of the cosines")] = 0.3,
        T: Annotated[Positive, About("temperature of the student, divides its logits")] = 4.0,
    ) -> None:
        super().__init__()
        check_several_classes("kd-sim", maps.student["logits"])
        classifier_KD = _classifier(maps)
        self.T = T
        # Made anew from the cache at every start, so a checkpoint need not hold it.
        target_KK = class_relations(classifier_KD, power=power, temperature=b)
        self.register_buffer("target_KK", target_KK, persistent=False)

    @classmethod
    def task_weight(cls, options: Mapping[str, OptionValue]) -> float:
        return 0.1

    def forward(self, inputs: StepInputs) -> Tensor:
        student, labels_B = (plain_rows(inputs, v) for v in (inputs.student["logits"], inputs.truth))
        return partial_kd(student, self.target_KK[labels_B], temperature=self.T)


def _classifier(maps: Maps) -> Tensor:
    classifier_KD, num_classes = maps.facts.classifier_KD, maps.student["logits"].channels
    if classifier_KD is None:
        raise BadOption(
            "the weight of the teacher's classifier is not known",
            where="loss term 'kd-sim'",
            fix="train from a cache whose teacher ends in a linear layer (built anew if it is an old one), "
            "or take kd-topk or kd-pt",
        )
    if classifier_KD.shape[0] != num_classes:
        raise BadOption(
            f"the teacher's classifier has {classifier_KD.shape[0]} classes, the student {num_classes}",
            where="loss term 'kd-sim'",
            fix="train teacher and student on the same classes",
        )
    return classifier_KD
