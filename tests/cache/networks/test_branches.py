"""Cutting a network before its last stage."""

import pytest
import torch

from kdcache.cache.errors import BadOption
from kdcache.cache.networks.branches import split_last_stage
from kdcache.cache.networks.build import build_network


@pytest.mark.parametrize(
    ("name", "channels", "before", "width"),
    [
        ("resnet8", 32, "stage2", 64),
        ("resnet20a", 32, "stage2", 64),
        ("wrn-10-2", 64, "sum2", 128),
        ("r18", 256, "stage3", 512),
    ],
)
def test_trunk_and_branch_are_the_network(name: str, channels: int, before: str, width: int) -> None:
    torch.manual_seed(0)
    network = build_network(name, task="classification", num_classes=7).eval()
    split = split_last_stage(network)
    inputs_BCHW = torch.randn(2, 3, 32, 32)
    values = network.read_normalised(inputs_BCHW, [before, "logits", "embedding"])
    trunk_BCHW = split.trunk.eval()(inputs_BCHW)
    assert torch.equal(trunk_BCHW, values[before]) and trunk_BCHW.shape[1] == split.trunk_channels == channels
    branch = split.make_branch().eval()
    out = branch(trunk_BCHW)
    assert out["embedding"].shape == (2, width) and out["logits"].shape == (2, 7)
    # With the network's own last stage the answer is the network's own.
    state = network.model.state_dict()
    names = list(state)
    own = [n for n in branch.state_dict() if "num_batches" not in n]
    tail = [state[n] for n in names if "num_batches" not in n][-len(own) :]
    with torch.no_grad():
        for entry, value in zip(own, tail, strict=True):
            branch.state_dict()[entry].copy_(value)
    assert torch.equal(branch(trunk_BCHW)["logits"], values["logits"])


@pytest.mark.parametrize("name", ["resnet8", "wrn-10-1", "r18"])
def test_every_branch_starts_anew_and_shares_nothing(name: str) -> None:
    network = build_network(name, task="classification", num_classes=3)
    split = split_last_stage(network.model)
    first, second = (list(split.make_branch().parameters()) for _ in range(2))
    assert any(not torch.equal(a, b) for a, b in zip(first, second, strict=True))
    known = {id(p) for p in network.parameters()}
    assert not known & {id(p) for p in (*first, *second)}
    assert {id(p) for p in split.trunk.parameters()} < known  # loaded weights go along


@pytest.mark.parametrize("name", ["resnet8", "wrn-10-1", "r18"])
def test_every_weight_of_trunk_and_branches_gets_a_gradient(name: str) -> None:
    split = split_last_stage(build_network(name, task="classification", num_classes=3).train())
    branches = torch.nn.ModuleList(split.make_branch() for _ in range(2))
    trunk_BCHW = split.trunk(torch.randn(2, 3, 64, 64))
    torch.stack([branch(trunk_BCHW)["logits"].sum() for branch in branches]).sum().backward()
    parts = torch.nn.ModuleList([split.trunk, branches])
    assert all(parameter.grad is not None for parameter in parts.parameters())


def test_a_network_without_a_known_last_stage_is_refused() -> None:
    network = build_network("timm:convnext_atto", task="classification", num_classes=3)
    with pytest.raises(BadOption, match="timm:convnext_atto cannot be cut before its last stage") as caught:
        split_last_stage(network)
    assert "several branches" in caught.value.where and "resnet32" in caught.value.fix
