"""ONE: branches of one trunk learn from their gated mix.

    g = softmax(ReLU(BatchNorm(linear(mean over cells of the trunk's map))))   m weights per image
    e = sum over branches of g_i z_i
    L = sum of CE(z_i) + CE(e) + alpha * w(e) * sum over branches of D(z_i, e)
D and the ramp-up w as in okddip. As published e is not detached. BatchNorm takes the statistics of the batch
of this process, as any normalisation in train mode. Branch 0 is deployed.
"""

from collections.abc import Mapping
from typing import Annotated

import torch
from torch import Tensor, nn

from kdcache.cache.spec import BadOption
from kdcache.cache.tasks.table import CLASSIFICATION
from kdcache.losses.contract import LossOutput, LossTerm, Maps, Method, Reads, StudentForm, Weighted
from kdcache.losses.formulas.precision import in_float32
from kdcache.losses.options import About, NotNegative, OptionValue, Positive
from kdcache.losses.peers.online import (
    Divergence,
    Several,
    consistency,
    peer_taps,
    stacked,
    summed_ce,
    summed_divergence,
)
from kdcache.losses.step_inputs import StepInputs, plain_rows

TRUNK = "trunk"


class Gate(nn.Module):
    """Weights of m branches from the pooled trunk: (B, C) -> (B, m), rows sum to 1."""

    def __init__(self, channels: int, count: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, count)
        self.norm = nn.BatchNorm1d(count)

    def forward(self, pooled_BC: Tensor) -> Tensor:
        scores_BM: Tensor = self.norm(self.linear(pooled_BC))
        return scores_BM.relu().softmax(1)


@in_float32
def gated_logits(gate_BM: Tensor, logits_MBK: Tensor) -> Tensor:
    """(B, K): the branches' logits mixed by the gate."""
    return torch.einsum("bm,mbk->bk", gate_BM, logits_MBK)


class NativeEnsemble(LossTerm):
    """Takes the place of the task loss. Defined per micro batch: the gate is normalised by batch
    statistics.
    """

    method = Method(
        title="On-the-fly native ensemble",
        source="Lan et al. 2018, https://arxiv.org/abs/1806.04606",
        code="DefangChen/OKDDip-AAAI2020 c6a05de, its form of ONE",
        cacheable="no: the branches are each other's teachers",
        modules="the other branches; gate: linear C -> m and BatchNorm",
        defaults="CIFAR: 4 branches, T 3, alpha 1, length 80, 300 epochs, SGD Nesterov 0.1, wd 5e-4",
        published="none in the repository",
    )
    per_micro_batch = "the gate is normalised by batch statistics"
    tasks = (CLASSIFICATION,)

    def __init__(
        self,
        maps: Maps,
        *,
        branches: Annotated[Several, About("last stages of one trunk")] = 4,
        T: Annotated[Positive, About("temperature, divides the logits")] = 3.0,
        alpha: Annotated[NotNegative, About("weight of the divergences, after their ramp-up")] = 1.0,
        length: Annotated[NotNegative, About("epochs of ramp-up of the divergences, 0 = none")] = 80.0,
        loss: Annotated[Divergence, About("divergence or cross-entropy with the mix")] = "KL",
    ) -> None:
        super().__init__()
        self.branches = branches
        self.T = T
        self.alpha = alpha
        self.length = length
        self.loss: Divergence = loss
        self.gate = Gate(maps.student[TRUNK].channels, branches)

    @classmethod
    def reads(cls, options: Mapping[str, OptionValue]) -> Reads:
        return Reads((TRUNK, *peer_taps(int(options["branches"]), "logits")), ())  # type: ignore[arg-type]

    @classmethod
    def task_weight(cls, options: Mapping[str, OptionValue]) -> float:
        return 0.0

    @classmethod
    def student_form(cls, options: Mapping[str, OptionValue]) -> StudentForm:
        return StudentForm("branches", count=int(options["branches"]))  # type: ignore[arg-type]

    def mixed(self, trunk_BCHW: Tensor, logits_MBK: Tensor) -> Tensor:
        """(B, K): what the branches say together."""
        if self.gate.training and trunk_BCHW.shape[0] < 2:
            raise BadOption(
                "a batch of one image has no batch statistics for the gate",
                where="loss term 'one'",
                fix="train with --batch-size 2 or more",
            )
        return gated_logits(self.gate(trunk_BCHW.mean((2, 3))), logits_MBK)

    def forward(self, inputs: StepInputs) -> LossOutput:
        logits_MBK = stacked(inputs, self.branches, "logits")
        mix_BK = self.mixed(plain_rows(inputs, inputs.student[TRUNK]), logits_MBK)
        divergence = summed_divergence(
            logits_MBK, mix_BK.expand_as(logits_MBK), temperature=self.T, kind=self.loss
        )
        return {
            "ce": Weighted(summed_ce(logits_MBK, inputs), 1.0),
            "ce_mix": Weighted(summed_ce(mix_BK[None], inputs), 1.0),
            "branches": Weighted(divergence, consistency(self.alpha, self.length, inputs.epoch)),
        }
