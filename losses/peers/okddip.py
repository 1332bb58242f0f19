"""OKDDip: peers learn from their own attention-weighted mixes, the group leader from the mean of the peers.

m networks: m - 1 peers with features f_i and logits z_i, and the leader, which is deployed.
    a_ij = softmax over peers j, i included, of (Wq f_i) . (Wk f_j), no 1 / sqrt(d), per image
    x_i  = sum over j of a_ij z_j        target of peer i
    zbar = mean over peers of z_j        target of the leader
    D    = T^2 * mean over images of KL(softmax(x / T) + 1e-7 || softmax(z / T))
    L    = sum of all CE + alpha * w(e) * (sum over peers of D(z_i, x_i) + D(z_leader, zbar))
    w(e) = exp(-5 (1 - e / length)^2) until epoch `length`
As published the targets are not detached: gradients reach the other peers, Wq and Wk through them, and Wq and
Wk learn by nothing else. `detach=true` cuts them and leaves the attention as it was drawn.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from kdcache.cache.spec import BadOption
from kdcache.cache.tasks.table import CLASSIFICATION
from kdcache.losses.contract import LossOutput, LossTerm, Maps, Method, Reads, StudentForm, Weighted
from kdcache.losses.formulas.precision import in_float32
from kdcache.losses.options import About, Count, NotNegative, OptionValue, Positive, Range
from kdcache.losses.peers.online import (
    Divergence,
    consistency,
    online_divergence,
    peer_taps,
    stacked,
    summed_ce,
    summed_divergence,
)
from kdcache.losses.step_inputs import StepInputs


@in_float32
def peer_attention(query_PBd: Tensor, key_PBd: Tensor) -> Tensor:
    """(B, P, P): row i is peer i's weights over the peers."""
    return torch.einsum("ibd,jbd->bij", query_PBd, key_PBd).softmax(2)


@in_float32
def mixed_logits(attention_BPP: Tensor, logits_PBK: Tensor) -> Tensor:
    """(P, B, K): each peer's mix of the peers' logits."""
    return torch.einsum("bij,jbk->ibk", attention_BPP, logits_PBK)


class DiversePeers(LossTerm):
    """Takes the place of the task loss."""

    method = Method(
        title="Online distillation with diverse peers",
        source="Chen et al. 2020, https://arxiv.org/abs/1912.00350",
        code="DefangChen/OKDDip-AAAI2020 c6a05de",
        cacheable="no: the peers are each other's teachers",
        modules="the peers; Wq and Wk, bias-free linear D -> D / factor (published for VGG with N(0, 0.01), "
        "here as torch draws)",
        defaults="CIFAR: 4 networks, T 3, alpha 1, length 80, 300 epochs, SGD Nesterov 0.1, wd 5e-4",
        published="none in the repository",
    )
    tasks = (CLASSIFICATION,)

    def __init__(
        self,
        maps: Maps,
        *,
        peers: Annotated[int, Range(3), About("networks, the leader included")] = 4,
        form: Annotated[
            Literal["branches", "students"], About("branches of one trunk, or whole networks")
        ] = "branches",
        T: Annotated[Positive, About("temperature, divides the logits")] = 3.0,
        alpha: Annotated[NotNegative, About("weight of the divergences, after their ramp-up")] = 1.0,
        length: Annotated[NotNegative, About("epochs of ramp-up of the divergences, 0 = none")] = 80.0,
        loss: Annotated[Divergence, About("divergence or cross-entropy with the targets")] = "KL",
        factor: Annotated[Count, About("the attention is this many times narrower than a feature")] = 8,
        detach: Annotated[
            bool, About("true: targets are constants and the attention stays as drawn")
        ] = False,
    ) -> None:
        super().__init__()
        width = maps.student["peer0.embedding"].channels
        if width < factor:
            raise BadOption(
                f"features of width {width} leave no attention of width {width} / {factor}",
                where="loss term 'okddip'",
                fix=f"okddip(factor={max(1, width // 2)}), or a wider student",
            )
        self.peers = peers
        self.T = T
        self.alpha = alpha
        self.length = length
        self.loss: Divergence = loss
        self.detach = detach
        self.query = nn.Linear(width, width // factor, bias=False)
        self.key = nn.Linear(width, width // factor, bias=False)
        if detach:  # nothing else teaches them, and DDP would wait for their gradients
            self.requires_grad_(False)

    @classmethod
    def reads(cls, options: Mapping[str, OptionValue]) -> Reads:
        peers = int(options["peers"])  # type: ignore[arg-type]
        return Reads((*peer_taps(peers, "logits"), *peer_taps(peers - 1, "embedding")), ())

    @classmethod
    def task_weight(cls, options: Mapping[str, OptionValue]) -> float:
        return 0.0

    @classmethod
    def student_form(cls, options: Mapping[str, OptionValue]) -> StudentForm:
        count = int(options["peers"])  # type: ignore[arg-type]
        kind: Literal["branches", "peers"] = "branches" if options["form"] == "branches" else "peers"
        return StudentForm(kind, count=count, deployed=count - 1)

    def attention(self, features_PBD: Tensor) -> Tensor:
        """(B, P, P) from the features of the peers, the leader's left out."""
        return peer_attention(self.query(features_PBD), self.key(features_PBD))

    def forward(self, inputs: StepInputs) -> LossOutput:
        logits_MBK = stacked(inputs, self.peers, "logits")
        peers_PBK, leader_BK = logits_MBK[:-1], logits_MBK[-1]
        attention_BPP = self.attention(stacked(inputs, self.peers - 1, "embedding"))
        targets_PBK, mean_BK = mixed_logits(attention_BPP, peers_PBK), peers_PBK.mean(0)
        if self.detach:
            targets_PBK, mean_BK = targets_PBK.detach(), mean_BK.detach()
        share = consistency(self.alpha, self.length, inputs.epoch)
        peers = summed_divergence(peers_PBK, targets_PBK, temperature=self.T, kind=self.loss)
        leader = online_divergence(leader_BK, mean_BK, temperature=self.T, kind=self.loss)
        return {
            "ce_peers": Weighted(summed_ce(peers_PBK, inputs), 1.0),
            "ce_leader": Weighted(summed_ce(leader_BK[None], inputs), 1.0),
            "peers": Weighted(peers, share),
            "leader": Weighted(leader, share),
        }
