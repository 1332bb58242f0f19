"""The CIFAR papers' networks: sizes as published, taps where the papers read, published weights load."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kdcache.cache.errors import BadOption, BadWeights
from kdcache.cache.networks.build import build_network
from kdcache.cache.networks.network import Network
from kdcache.cache.networks.resolve import resolve_teacher
from kdcache.cache.spec import TensorSpec

SHARED = Path(__file__).parents[4] / "shared/data"
MAPS = ("stem", "stage1", "stage2", "stage3", "pre1", "pre2", "pre3")


def cifar(name: str, num_classes: int = 100, weights: str | None = None) -> Network:
    torch.manual_seed(0)
    return build_network(name, task="classification", num_classes=num_classes, weights=weights)


def pixels(size: int) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randint(0, 256, (2, size, size, 3), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("resnet20", 0.28),
        ("resnet56", 0.86),
        ("resnet110", 1.74),
        ("resnet8x4", 1.23),
        ("resnet32x4", 7.43),
        ("wrn-16-2", 0.70),
        ("wrn-40-2", 2.26),
    ],
)
def test_networks_have_the_published_number_of_weights(name: str, millions: float) -> None:
    with torch.device("meta"):
        network = build_parts(name)
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 2) == millions


def build_parts(name: str) -> torch.nn.Module:
    from kdcache.cache.networks.families.cifar import assemble_cifar
    from kdcache.cache.networks.names import parse_name

    parsed = parse_name(name, task="classification")
    options = {"output_stride": 0, "aux": False, "task": "classification"}
    return assemble_cifar(parsed, num_classes=100, **options).model


def test_the_parameter_free_form_of_resnet20_is_the_papers_own() -> None:
    network = cifar("resnet20a", 10)
    assert sum(p.numel() for p in network.model.parameters()) == 269_722  # 'resnet20', 0.27M, for 10 classes


@pytest.mark.parametrize("size", [28, 32])
@pytest.mark.parametrize(
    ("name", "stem", "channels"),
    [
        ("resnet8", 16, (16, 32, 64)),
        ("resnet8x4", 32, (64, 128, 256)),
        ("resnet20a", 16, (16, 32, 64)),
        ("wrn-10-2", 16, (32, 64, 128)),
    ],
)
def test_taps_have_the_papers_sizes(name: str, stem: int, channels: tuple[int, ...], size: int) -> None:
    network = cifar(name, 10).eval()
    taps = [*MAPS, "embedding", "logits"]
    sums = {f"sum{n}" for n in (1, 2, 3)} if name.startswith("wrn") else set()
    assert set(network.taps) == {*taps, *sums}
    values, specs = network(pixels(size), taps), network.tap_specs(taps, size, size)
    for number, width in enumerate(channels):
        cells = size // 2**number
        expected = TensorSpec((cells, cells, width), 2**number)
        assert specs[f"stage{number + 1}"] == specs[f"pre{number + 1}"] == expected
    assert specs["stem"] == TensorSpec((size, size, stem), 1)
    assert specs["embedding"] == TensorSpec((channels[-1],), 0) and specs["logits"] == TensorSpec((10,), 0)
    for tap in taps:
        assert tuple(values[tap].movedim(1, -1).shape[1:]) == specs[tap].shape
    assert network.output_stride == 4 and network.pad_multiple == 1


@pytest.mark.parametrize("name", ["resnet8", "resnet8x4", "resnet20a", "wrn-10-1"])
def test_taps_read_with_hooks_are_the_returned_ones(name: str) -> None:
    network = cifar(name, 10).eval()
    returned = network(pixels(32), list(network.taps))
    network._returns.clear()
    hooked = network(pixels(32), list(network.taps))
    assert all(torch.equal(returned[tap], hooked[tap]) for tap in network.taps)


@pytest.mark.parametrize("name", ["resnet8", "resnet20a"])
def test_a_stage_is_the_relu_of_its_preactivation(name: str) -> None:
    values = (network := cifar(name, 10).eval())(pixels(32), list(network.taps))
    for number in (1, 2, 3):
        assert torch.equal(F.relu(values[f"pre{number}"]), values[f"stage{number}"])
        assert float(values[f"pre{number}"].detach().min()) < 0
    torch.testing.assert_close(values["stage3"].mean((2, 3)), values["embedding"])


def test_a_wide_stage_is_the_relu_of_its_normalised_sum() -> None:
    network = cifar("wrn-16-1", 10).eval()
    values = network(pixels(32), list(network.taps))
    norms = {"1": "block2.layer.0.bn1", "2": "block3.layer.0.bn1", "3": "bn1"}
    for number, path in norms.items():
        normalised = network.model.get_submodule(path)(values[f"sum{number}"])
        assert torch.equal(normalised, values[f"pre{number}"])
        assert torch.equal(F.relu(normalised), values[f"stage{number}"])
    torch.testing.assert_close(values["stage3"].mean((2, 3)), values["embedding"])


@pytest.mark.parametrize("name", ["resnet8", "wrn-10-1"])
def test_the_classifier_weight_turns_embedding_into_logits(name: str) -> None:
    network = cifar(name, 10).eval()
    values, weight_KD = network(pixels(32), ["embedding", "logits"]), network.classifier_weight()
    assert weight_KD is not None
    bias_K = network.state_dict()["model.fc.bias"]
    torch.testing.assert_close(values["embedding"] @ weight_KD.T + bias_K, values["logits"])


def test_convolutions_start_with_the_spread_of_their_outputs() -> None:
    weight = cifar("resnet32x4").state_dict()["model.layer3.0.conv1.weight"]  # 128 channels to 256
    assert float(weight.std()) == pytest.approx(math.sqrt(2 / (256 * 9)), rel=0.02)


def test_pixels_are_normalised_as_the_papers_do() -> None:
    assert cifar("resnet8").normalise.mean.tolist() == pytest.approx([0.4914, 0.4822, 0.4465])
    assert cifar("resnet8").normalise.std.tolist() == pytest.approx([0.2470, 0.2435, 0.2616])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet20a", "resnet56a"])
def test_published_weights_classify_cifar(name: str) -> None:
    file, images = SHARED / f"weights/cifar_{name[:-1]}.safetensors", SHARED / "cifar10-mini/cifar10_mini.npz"
    for needed in (file, images):
        if not needed.is_file():
            pytest.skip(f"{needed} is not there")
    network, _, _ = resolve_teacher(
        name, Path("runs"), task="classification", num_classes=10, weights=str(file)
    )
    with np.load(images) as arrays:
        images_BHWC, labels_B = (torch.from_numpy(arrays[key][:300]) for key in ("x_test", "y_test"))
    with torch.inference_mode():
        answer_B = network.eval()(images_BHWC, ["logits"])["logits"].argmax(1)
    assert float((answer_B == labels_B).float().mean()) > 0.7
    assert network.trained_head


def test_a_teacher_nobody_trained_prints_the_line_that_trains_it(tmp_path: Path) -> None:
    with pytest.raises(BadOption, match="nobody has trained its classifier") as caught:
        resolve_teacher("resnet56", tmp_path, task="classification", num_classes=10)
    assert "kdtrain --loss none --student resnet56 --run resnet56 --data" in caught.value.fix


def test_there_are_no_tags_to_download() -> None:
    with pytest.raises(BadOption, match="'imagenet' is no file, and a CIFAR network has no pretrained tags"):
        cifar("resnet20", weights="imagenet")


def test_weights_of_the_other_shortcut_do_not_fit(tmp_path: Path) -> None:
    torch.save(cifar("resnet20", 10).model.state_dict(), tmp_path / "b.pt")
    with pytest.raises(BadWeights, match="do not fit resnet20a"):
        cifar("resnet20a", 10, str(tmp_path / "b.pt"))


def test_a_checkpoint_of_the_benchmark_loads_as_it_is(tmp_path: Path) -> None:
    state = {"model": cifar("resnet8x4").model.state_dict(), "epoch": 240}
    torch.save(state, tmp_path / "ckpt.pth")
    assert build_network(
        "resnet8x4", task="classification", num_classes=100, weights=str(tmp_path / "ckpt.pth")
    ).trained_head
    assert {"layer1.0.downsample.0.weight", "fc.bias"} <= set(state["model"])
