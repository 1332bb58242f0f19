"""Several whole networks of one kind with first weights of their own: `peer0.logits`, `peer1.logits` ..."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from kdcache.cache.networks.network import Network
from kdcache.cache.spec import TensorSpec
from kdcache.trainer.students.contract import SeveralStudents


class Peers(SeveralStudents):
    """`count` networks from `make`, which draws each one's weights. Taps: `peer<i>.<tap>`, and the deployed
    network's own under their plain names.
    """

    def __init__(self, make: Callable[[], Network], *, count: int, deployed: int) -> None:
        super().__init__()
        self.networks = nn.ModuleList([make() for _ in range(count)])
        self.index = deployed
        self.learner: int | None = None  # the one network that learns; the others answer without a gradient

    @property
    def deployed(self) -> Network:
        return self._network(self.index)

    @property
    def taps(self) -> tuple[str, ...]:
        own = tuple(self.deployed.taps)
        return (*own, *(f"peer{i}.{tap}" for i in range(len(self.networks)) for tap in own))

    def forward(self, images_BHWC: Tensor, taps: Sequence[str]) -> dict[str, Tensor]:
        self.check_names(taps)
        answers: dict[str, Tensor] = {}
        for index in range(len(self.networks)):
            wanted = {tap: inner for tap in taps for owner, inner in [self._place(tap)] if owner == index}
            if wanted:
                constant = self.learner not in (None, index)
                with torch.no_grad() if constant else nullcontext():
                    values = self._network(index)(images_BHWC, tuple(dict.fromkeys(wanted.values())))
                answers |= {tap: values[inner] for tap, inner in wanted.items()}
        return {tap: answers[tap] for tap in taps}

    def tap_specs(self, taps: Sequence[str], height: int, width: int) -> dict[str, TensorSpec]:
        self.check_names(taps)
        inner = {tap: self._place(tap)[1] for tap in taps}
        specs = self.deployed.tap_specs(tuple(dict.fromkeys(inner.values())), height, width)
        return {tap: specs[name] for tap, name in inner.items()}

    def _network(self, index: int) -> Network:
        network = self.networks[index]
        assert isinstance(network, Network)
        return network

    def _place(self, tap: str) -> tuple[int, str]:
        """'peer2.logits' -> (2, 'logits'); 'logits' -> (the deployed one, 'logits')."""
        owner, dot, inner = tap.partition(".")
        if dot and owner.removeprefix("peer").isdigit():
            return int(owner.removeprefix("peer")), inner
        return self.index, tap
