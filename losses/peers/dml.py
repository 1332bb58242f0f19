"""Deep mutual learning: several students of one kind, without a teacher, learn from each other.

official  L_i = CE_i + sum over j != i of mean over images of sum p_j log(1e-8 + p_j / (p_i + 1e-8));
          T 1, label smoothing 0.1; network i alone learns from L_i, its peers are constants. The networks
          learn in turn, each by its own optimizer and on its own mini-batch.
paper     L_i = CE_i + 1 / (M - 1) * sum over j != i of KL(p_j || p_i), peers constant, all on the same
          mini-batch in one step
okddip    sum of L_i = CE_i + D(z_i, mean over j != i of z_j), or with `pairwise` the mean over j of
          D(z_i, z_j); D as in okddip with T 3; targets are not detached; one step
"""

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from torch import Tensor

from kdcache.cache.tasks.table import CLASSIFICATION
from kdcache.losses.contract import LossOutput, LossTerm, Maps, Method, Reads, StepForm, StudentForm, Weighted
from kdcache.losses.formulas.precision import in_float32
from kdcache.losses.formulas.scores import mean_kl
from kdcache.losses.options import About, OptionValue, Positive, Range
from kdcache.losses.peers.online import (
    Several,
    mean_of_others,
    online_divergence,
    peer_taps,
    stacked,
    summed_ce,
    summed_divergence,
)
from kdcache.losses.step_inputs import StepInputs

Form = Literal["official", "paper", "okddip"]
EPSILON = 1e-8
OFFICIAL_SMOOTHING = 0.1


@in_float32
def official_kl(student_BK: Tensor, peer_BK: Tensor) -> Tensor:
    """Mean over images of sum p_j log(1e-8 + p_j / (p_i + 1e-8)), the student being i."""
    student_BK, peer_BK = student_BK.softmax(1), peer_BK.softmax(1)
    return (peer_BK * (EPSILON + peer_BK / (student_BK + EPSILON)).log()).sum(1).mean()


def pairwise_divergence(logits_MBK: Tensor, *, temperature: float) -> Tensor:
    """Sum over networks of the mean over the other networks of D(z_i, z_j)."""
    count = logits_MBK.shape[0]
    pairs = [(i, j) for i in range(count) for j in range(count) if i != j]
    terms = [online_divergence(logits_MBK[i], logits_MBK[j], temperature=temperature) for i, j in pairs]
    return torch.stack(terms).sum() / (count - 1)


class MutualLearning(LossTerm):
    """Takes the place of the task loss. Network 0 is deployed. `official` evaluated without a turn is the sum
    of all networks' losses, each one's peers constant.
    """

    method = Method(
        title="Deep mutual learning",
        source="Zhang et al. 2018, https://arxiv.org/abs/1706.00384",
        code="YingZhangDUT/Deep-Mutual-Learning 34a2058; okddip: DefangChen/OKDDip-AAAI2020 c6a05de",
        cacheable="no: the students are each other's teachers",
        modules="the other students",
        defaults="official: Adam 2e-4, beta1 0.5, batch 16, EMA 0.9999; okddip: T 3, there with students=4",
        published="none in the repository",
    )
    tasks = (CLASSIFICATION,)

    def __init__(
        self,
        maps: Maps,
        *,
        students: Annotated[Several, About("networks that learn")] = 2,
        form: Annotated[Form, About("whose form")] = "official",
        smoothing: Annotated[
            float | Literal["published"],
            Range(0.0, 1.0),
            About("probability spread over all classes; published: 0.1 in the official form, else 0"),
        ] = "published",
        T: Annotated[Positive, About("temperature, form okddip alone")] = 3.0,
        pairwise: Annotated[bool, About("one target per peer, form okddip alone")] = False,
    ) -> None:
        super().__init__()
        self.students = students
        self.form: Form = form
        published = OFFICIAL_SMOOTHING if form == "official" else 0.0
        self.smoothing = published if isinstance(smoothing, str) else smoothing
        self.T = T
        self.pairwise = pairwise

    @classmethod
    def reads(cls, options: Mapping[str, OptionValue]) -> Reads:
        return Reads(peer_taps(int(options["students"]), "logits"), ())  # type: ignore[arg-type]

    @classmethod
    def task_weight(cls, options: Mapping[str, OptionValue]) -> float:
        return 0.0

    @classmethod
    def student_form(cls, options: Mapping[str, OptionValue]) -> StudentForm:
        return StudentForm("peers", count=int(options["students"]))  # type: ignore[arg-type]

    @classmethod
    def step_form(cls, options: Mapping[str, OptionValue]) -> StepForm:
        return "in_turn" if options["form"] == "official" else "joint"

    def forward(self, inputs: StepInputs) -> LossOutput:
        logits_MBK = stacked(inputs, self.students, "logits")
        if self.form == "okddip":
            ce = summed_ce(logits_MBK, inputs, smoothing=self.smoothing)
            return {"ce": Weighted(ce, 1.0), "kl": Weighted(self._together(logits_MBK), 1.0)}
        learners = range(self.students) if inputs.learner is None else (inputs.learner,)
        ce = summed_ce(logits_MBK[list(learners)], inputs, smoothing=self.smoothing)
        kl = torch.stack([self._from_peers(logits_MBK, i) for i in learners]).sum()
        return {"ce": Weighted(ce, 1.0), "kl": Weighted(kl, 1.0)}

    def _from_peers(self, logits_MBK: Tensor, learner: int) -> Tensor:
        """What network `learner` learns from its peers, who are constants to it."""
        constant_MBK = logits_MBK.detach()
        peers = [constant_MBK[j] for j in range(self.students) if j != learner]
        if self.form == "official":
            return torch.stack([official_kl(logits_MBK[learner], peer_BK) for peer_BK in peers]).sum()
        return torch.stack([mean_kl(logits_MBK[learner], p_BK, temperature=1.0) for p_BK in peers]).mean()

    def _together(self, logits_MBK: Tensor) -> Tensor:
        if self.pairwise:
            return pairwise_divergence(logits_MBK, temperature=self.T)
        return summed_divergence(logits_MBK, mean_of_others(logits_MBK), temperature=self.T)
