"""What goes into a network and what comes out of its taps."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel

from kdcache.cache.errors import BadOption
from kdcache.cache.networks.build import build_network
from kdcache.cache.networks.network import Network
from kdcache.cache.networks.network_config import NetworkConfig
from kdcache.cache.spec import FILL_RGB, TensorSpec

TAPS = ("stage1", "stage2", "logits")


@pytest.fixture
def network(tiny_name: str) -> Network:
    return build_network(tiny_name, task="segmentation", num_classes=5).eval()


def hooks_of(network: Network) -> int:
    return sum(len(module._forward_hooks) for module in network.modules())


def test_pixels_are_normalised_by_the_networks_own_mean_and_std(
    network: Network, images_BHWC: Tensor
) -> None:
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected_BCHW = ((images_BHWC.double() / 255 - mean) / std).permute(0, 3, 1, 2)
    torch.testing.assert_close(network.normalise(images_BHWC).double(), expected_BCHW, atol=1e-6, rtol=0)


def test_padding_is_right_and_bottom_with_the_fill_colour(network: Network, images_BHWC: Tensor) -> None:
    padded_BHWC = torch.tensor(FILL_RGB, dtype=torch.uint8).repeat(2, 12, 16, 1)
    padded_BHWC[:, :9, :14] = images_BHWC
    cut, whole = network(images_BHWC, TAPS), network(padded_BHWC, TAPS)
    for tap in TAPS:
        height, width = cut[tap].shape[2:]
        assert torch.equal(cut[tap], whole[tap][:, :, :height, :width])
    assert cut["stage1"].shape == (2, 4, 5, 7) and whole["stage1"].shape == (2, 4, 6, 8)


def test_a_size_that_is_a_multiple_is_not_padded(network: Network, images_BHWC: Tensor) -> None:
    exact_BHWC = images_BHWC[:, :8, :12]
    plain = network.model(network.normalise(exact_BHWC))["out"]
    assert torch.equal(network(exact_BHWC, ["logits"])["logits"], plain)


def test_float_pixels_give_what_bytes_give(network: Network, images_BHWC: Tensor) -> None:
    as_bytes, as_floats = network(images_BHWC, TAPS), network(images_BHWC.float(), TAPS)
    assert all(torch.equal(as_bytes[tap], as_floats[tap]) for tap in TAPS)


@pytest.mark.parametrize("size", [(333, 500), (360, 480), (361, 97), (1, 1)])
def test_tap_specs_are_the_shapes_of_the_full_pass(network: Network, size: tuple[int, int]) -> None:
    specs = network.tap_specs(TAPS, *size)
    values = network(torch.zeros((1, *size, 3), dtype=torch.uint8), TAPS)
    for tap in TAPS:
        assert (1, *specs[tap].shape) == tuple(values[tap].permute(0, 2, 3, 1).shape)
    assert [specs[tap].stride for tap in TAPS] == [2, 4, 4]


def test_tap_specs_leave_every_training_mode_and_statistic_alone(tiny_name: str) -> None:
    network = build_network(tiny_name, task="segmentation", num_classes=5).train()
    network.model.get_submodule("body").eval()  # frozen by its owner
    before = copy.deepcopy(network.state_dict())
    modes = [module.training for module in network.modules()]
    network._known_tap.clear()
    network.tap_specs(TAPS, 20, 20)
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_no_hook_stays_behind_when_the_pass_fails(network: Network, images_BHWC: Tensor) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    handle = network.model.get_submodule("body").register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        network(images_BHWC, TAPS)
    handle.remove()
    assert hooks_of(network) == 0
    assert set(network(images_BHWC, TAPS)) == set(TAPS)


def test_a_copy_reads_its_own_activations(network: Network, images_BHWC: Tensor) -> None:
    clone = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in clone.parameters():
            parameter.mul_(2)
    assert not torch.equal(network(images_BHWC, TAPS)["stage1"], clone(images_BHWC, TAPS)["stage1"])


def test_gradients_reach_the_weights_through_a_tap(network: Network, images_BHWC: Tensor) -> None:
    network(images_BHWC, ["stage2"])["stage2"].sum().backward()
    first = network.model.get_submodule("stem.0").weight.grad
    assert first is not None and first.abs().sum() > 0


def test_half_precision_weights_give_half_precision_maps(network: Network, images_BHWC: Tensor) -> None:
    values = copy.deepcopy(network).bfloat16()(images_BHWC, TAPS)
    assert values["logits"].dtype == torch.bfloat16


def test_an_unknown_tap_names_the_nearest(network: Network, images_BHWC: Tensor) -> None:
    with pytest.raises(BadOption, match="unknown tap 'stage'") as caught:
        network(images_BHWC, ["stage"])
    assert "did you mean 'stage" in caught.value.fix
    assert "taps of tiny_networks:build" in caught.value.where


def test_a_tap_can_be_placed_by_hand(tiny_name: str, images_BHWC: Tensor) -> None:
    network = build_network(
        tiny_name, task="segmentation", num_classes=5, taps={"middle": "stem.2", "late": "pair#1"}
    ).eval()
    values = network(images_BHWC, ["middle", "stage1", "late", "stage2"])
    assert torch.equal(values["middle"], values["stage1"])
    assert torch.equal(values["late"], values["stage2"])


def test_a_vector_tap_has_no_size(tiny_name: str, images_BHWC: Tensor) -> None:
    network = build_network(tiny_name, task="segmentation", num_classes=5, taps={"pooled": "pool"}).eval()
    assert network.tap_specs(["pooled"], 9, 14)["pooled"] == TensorSpec((6,), 0)
    assert network(images_BHWC, ["pooled"])["pooled"].shape == (2, 6)


@pytest.mark.parametrize(
    ("path", "what", "fix"),
    [
        ("stem.9", "no module 'stem.9' in the network", "did you mean 'stem."),
        ("stem.1", "is overwritten in place", "name the activation behind it"),
        ("idle", "took no part in the forward pass", "name another module"),
        ("square", "is no map of one whole stride", "at a stride that divides"),
        ("pair#7", "returns a list of 2, not a tensor", "add '#item'"),
    ],
)
def test_a_place_that_gives_no_map_is_refused(tiny_name: str, path: str, what: str, fix: str) -> None:
    with pytest.raises(BadOption) as caught:
        build_network(tiny_name, task="segmentation", num_classes=5, taps={"mine": path})
    assert what in caught.value.what
    assert "tap 'mine'" in caught.value.where
    assert fix in caught.value.fix


def test_images_of_a_wrong_layout_are_refused(network: Network) -> None:
    with pytest.raises(BadOption, match=r"not \(2, 3, 8, 8\)"):
        network(torch.zeros(2, 3, 8, 8), ["logits"])


def test_a_configuration_survives_its_dictionary() -> None:
    config = NetworkConfig(
        name="r18", task="segmentation", num_classes=3, output_stride=16, aux=True, taps={"a": "b"}
    )
    assert NetworkConfig.from_dict(config.to_dict()) == config


def test_a_configuration_names_every_task_but_the_one_of_before() -> None:
    config = NetworkConfig(name="r18", task="classification", num_classes=3, output_stride=16)
    assert config.to_dict()["task"] == "classification"
    assert NetworkConfig.from_dict(config.to_dict()) == config
    segments = {"name": "r18", "num_classes": 3, "output_stride": 8}
    assert NetworkConfig.from_dict(segments).task == "segmentation"
    assert "task" not in NetworkConfig.from_dict(segments).to_dict()
    with pytest.raises(BadOption, match="unknown task 'panoptic'") as caught:
        NetworkConfig.from_dict({**segments, "task": "panoptic"}, where="network.json")
    assert caught.value.where == "network.json"


def test_a_configuration_with_a_foreign_field_is_refused() -> None:
    with pytest.raises(BadOption, match="unknown field of a network 'num_clases'") as caught:
        NetworkConfig.from_dict({"name": "r18", "num_clases": 3, "output_stride": 8}, where="network.json")
    assert "did you mean 'num_classes'" in caught.value.fix


def test_distributed_training_reads_taps_and_fills_every_gradient(
    tiny_name: str, images_BHWC: Tensor, tmp_path: Path
) -> None:
    network = build_network(tiny_name, task="segmentation", num_classes=5).train()
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    try:
        wrapped = DistributedDataParallel(network)
        for _ in range(2):  # the second pass is where DDP complains about parameters the first left out
            values = wrapped(images_BHWC, TAPS)
            torch.stack([value.sum() for value in values.values()]).sum().backward()
    finally:
        distributed.destroy_process_group()
    assert set(values) == set(TAPS)
    assert all(parameter.grad is not None for parameter in network.parameters())
