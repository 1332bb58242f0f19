"""CL-ILR: branches of one trunk, each learning from the mean logits of the others.

    L = sum of CE(z_i) + alpha * w(e) * sum over branches of D(z_i, mean over j != i of z_j)
D and the ramp-up w as in okddip; as published there the targets are not detached. `bpscale` divides the
gradient that reaches the trunk by the number of branches. Branch 0 is deployed.
"""

from collections.abc import Mapping
from typing import Annotated

from kdcache.cache.tasks.table import CLASSIFICATION
from kdcache.losses.contract import LossOutput, LossTerm, Maps, Method, Reads, StudentForm, Weighted
from kdcache.losses.options import About, NotNegative, OptionValue, Positive
from kdcache.losses.peers.online import (
    Divergence,
    Several,
    consistency,
    mean_of_others,
    peer_taps,
    stacked,
    summed_ce,
    summed_divergence,
)
from kdcache.losses.step_inputs import StepInputs


class CollaborativeLearning(LossTerm):
    """Takes the place of the task loss. `alpha=0` is the published `--ind`: they share a trunk alone."""

    method = Method(
        title="Collaborative learning with intermediate-level representation sharing",
        source="Song and Chai 2018, https://arxiv.org/abs/1805.11761",
        code="DefangChen/OKDDip-AAAI2020 c6a05de, avg and bpscale on",
        cacheable="no: the branches are each other's teachers",
        modules="the other branches",
        defaults="CIFAR: 4 branches, T 3, alpha 1, length 80, 300 epochs, SGD Nesterov 0.1, wd 5e-4",
        published="none in the repository",
    )
    tasks = (CLASSIFICATION,)

    def __init__(
        self,
        maps: Maps,
        *,
        branches: Annotated[Several, About("last stages of one trunk")] = 4,
        T: Annotated[Positive, About("temperature, divides the logits")] = 3.0,
        alpha: Annotated[NotNegative, About("weight of the divergences, after their ramp-up")] = 1.0,
        length: Annotated[NotNegative, About("epochs of ramp-up of the divergences, 0 = none")] = 80.0,
        loss: Annotated[Divergence, About("divergence or cross-entropy with the targets")] = "KL",
        bpscale: Annotated[bool, About("divide the trunk's gradient by the number of branches")] = True,
    ) -> None:
        super().__init__()
        self.branches = branches
        self.T = T
        self.alpha = alpha
        self.length = length
        self.loss: Divergence = loss

    @classmethod
    def reads(cls, options: Mapping[str, OptionValue]) -> Reads:
        return Reads(peer_taps(int(options["branches"]), "logits"), ())  # type: ignore[arg-type]

    @classmethod
    def task_weight(cls, options: Mapping[str, OptionValue]) -> float:
        return 0.0

    @classmethod
    def student_form(cls, options: Mapping[str, OptionValue]) -> StudentForm:
        scaled = "bpscale" if options["bpscale"] else ""
        return StudentForm("branches", count=int(options["branches"]), option=scaled)  # type: ignore[arg-type]

    def forward(self, inputs: StepInputs) -> LossOutput:
        logits_MBK = stacked(inputs, self.branches, "logits")
        divergence = summed_divergence(
            logits_MBK, mean_of_others(logits_MBK), temperature=self.T, kind=self.loss
        )
        return {
            "ce": Weighted(summed_ce(logits_MBK, inputs), 1.0),
            "branches": Weighted(divergence, consistency(self.alpha, self.length, inputs.epoch)),
        }
