"""One trunk and several last stages: `trunk`, `peer0.logits`, `peer0.embedding`, `peer1.logits` ...

One branch is deployed: trunk and branch together are a whole network of the student's name, into which their
state is copied when it is judged or exported. Axes: B rows, C channels, H W pixels or cells.
"""

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from kdcache.cache.networks.branches import split_last_stage
from kdcache.cache.networks.network import Network
from kdcache.cache.spec import TensorSpec
from kdcache.trainer.students.contract import SeveralStudents

TRUNK = "trunk"
KINDS = ("embedding", "logits")


class Branches(SeveralStudents):
    """`count` branches, freshly drawn, behind the trunk of `network`.

    `scaled` divides the gradient that the branches send into the trunk by their number.
    """

    def __init__(self, network: Network, *, count: int, deployed: int, scaled: bool = False) -> None:
        super().__init__()
        whole = copy.deepcopy(network)
        self.normalise = network.normalise
        self.trunk, make_branch, self._trunk_channels = split_last_stage(network)
        self.branches = nn.ModuleList([make_branch() for _ in range(count)])
        self.index = deployed
        self.scaled = scaled
        self._whole = [whole]  # a list hides it from torch: it learns nothing, and is in no checkpoint
        self._places = _places(network.model, self.trunk, self.branches[0])

    @property
    def deployed(self) -> Network:
        """A network with the present state of trunk and deployed branch; the same object every time."""
        whole = self._whole[0].to(self.normalise.mean.device)
        own = whole.model.state_dict()
        parts = {TRUNK: self.trunk.state_dict(), "branch": self.branches[self.index].state_dict()}
        with torch.no_grad():
            for name, (part, inner) in self._places.items():
                own[name].copy_(parts[part][inner])
        return whole

    @property
    def taps(self) -> tuple[str, ...]:
        peers = (f"peer{i}.{kind}" for i in range(len(self.branches)) for kind in KINDS)
        return (*KINDS, TRUNK, *peers)

    def forward(self, images_BHWC: Tensor, taps: Sequence[str]) -> dict[str, Tensor]:
        self.check_names(taps)
        trunk_BCHW: Tensor = self.trunk(self.normalise(images_BHWC))
        answers = {TRUNK: trunk_BCHW}
        shared_BCHW = trunk_BCHW
        if self.scaled and trunk_BCHW.requires_grad:
            shared_BCHW = trunk_BCHW.view_as(trunk_BCHW)
            shared_BCHW.register_hook(self._shared_out)  # type: ignore[no-untyped-call]
        for index in sorted({self._owner(tap) for tap in taps if tap != TRUNK}):
            said = self.branches[index](shared_BCHW)
            answers |= {f"peer{index}.{kind}": said[kind] for kind in KINDS}
        plain = {kind: answers[f"peer{self.index}.{kind}"] for kind in KINDS if kind in taps}
        return {tap: (answers | plain)[tap] for tap in taps}

    def tap_specs(self, taps: Sequence[str], height: int, width: int) -> dict[str, TensorSpec]:
        self.check_names(taps)
        own = self._whole[0].tap_specs(KINDS, height, width)
        specs = {tap: own[tap.rpartition(".")[2]] for tap in taps if tap != TRUNK}
        return specs | ({TRUNK: self._trunk_spec(height, width)} if TRUNK in taps else {})

    def _shared_out(self, gradient: Tensor) -> Tensor:
        return gradient / len(self.branches)

    def _trunk_spec(self, height: int, width: int) -> TensorSpec:
        trunk = copy.deepcopy(self.trunk).eval()
        with torch.no_grad():
            cells = trunk(torch.zeros((1, 3, height, width), device=self.normalise.mean.device)).shape[2:]
        return TensorSpec((*cells, self._trunk_channels), -(-height // int(cells[0])))

    def _owner(self, tap: str) -> int:
        """'peer2.logits' -> 2; 'logits' -> the deployed branch."""
        owner, dot, _ = tap.partition(".")
        return int(owner.removeprefix("peer")) if dot else self.index


def _places(model: nn.Module, trunk: nn.Module, branch: nn.Module) -> dict[str, tuple[str, str]]:
    """Name in the whole model -> ('trunk' or 'branch', name there). The trunk holds the model's own tensors;
    the rest of the model is the branch, under the same names or in the same order.
    """
    ours = {tensor.data_ptr(): name for name, tensor in _tensors(trunk).items()}
    whole = _tensors(model)
    places = {name: (TRUNK, ours[t.data_ptr()]) for name, t in whole.items() if t.data_ptr() in ours}
    rest, state = [name for name in whole if name not in places], _tensors(branch)
    names = rest if set(rest) == set(state) else list(state)
    assert [whole[n].shape for n in rest] == [state[n].shape for n in names], "trunk and branch make no model"
    return places | {name: ("branch", inner) for name, inner in zip(rest, names, strict=True)}


def _tensors(module: nn.Module) -> Mapping[str, Tensor]:
    tensors: Mapping[str, Tensor] = module.state_dict(keep_vars=True)
    return tensors
