"""retinanet, fcos, atss, gfl on timm's encoders: their levels, names, weights, and what is kept of them."""

from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from plain_weights import save_file
from safetensors.torch import load_file
from torch.nn.modules.batchnorm import _BatchNorm

from kdcache.cache.errors import BadOption, BadWeights
from kdcache.cache.grid import DenseGrid
from kdcache.cache.networks import resolve
from kdcache.cache.networks.build import build_network, rebuild
from kdcache.cache.networks.network import Network
from kdcache.cache.networks.network_config import NetworkConfig, foreign_names
from kdcache.cache.networks.resolve import resolve_teacher
from kdcache.cache.networks.run import load_run_network
from kdcache.cache.networks.run_card import RunCard, save_run_network

SMALL = "gfl(width=32,convs=1):mbv2"
REAL = Path(__file__).parents[4].parent / "shared" / "data" / "weights"


def detector(name: str = SMALL, num_classes: int = 3, weights: Path | None = None, **more: object) -> Network:
    torch.manual_seed(0)
    path = str(weights) if weights else None
    return build_network(name, task="detection", num_classes=num_classes, weights=path, **more)  # type: ignore[arg-type]


CHANNELS = {
    "retinanet:mbv2": {"fpn": 256, "cls": 27, "box": 36},
    "fcos:mbv2": {"fpn": 256, "cls": 3, "box": 4, "ctr": 1},
    "atss(width=32,convs=1):mbv2": {"fpn": 32, "cls": 3, "box": 4, "ctr": 1},
    SMALL: {"fpn": 32, "cls": 3, "box": 4, "bins": 68},
}


@pytest.mark.parametrize("name", CHANNELS)
def test_every_level_is_a_map_of_the_declared_size(name: str) -> None:
    network = detector(name).eval()
    assert network.pad_multiple == 32 and network.grid is not None
    assert set(network.groups) == set(CHANNELS[name])
    images_BHWC = torch.randint(0, 256, (2, 100, 161, 3), dtype=torch.uint8)
    taps = list(network.taps)
    with torch.no_grad():
        maps = network(images_BHWC, taps)
    specs = network.tap_specs(taps, 100, 161)
    cells = {8: (13, 21), 16: (7, 11), 32: (4, 6), 64: (2, 3), 128: (1, 2)}
    for kind, levels in network.groups.items():
        assert len(levels) == 5
        for tap, stride in zip(levels, (8, 16, 32, 64, 128), strict=True):
            assert maps[tap].shape == (2, CHANNELS[name][kind], *cells[stride])
            assert (specs[tap].stride, specs[tap].shape) == (stride, (*cells[stride], CHANNELS[name][kind]))
    assert [specs[f"stage{n}"].stride for n in (1, 2, 3, 4)] == [4, 8, 16, 32]


def test_taps_read_with_hooks_are_the_returned_ones() -> None:
    network = detector().eval()
    images_BHWC = torch.randint(0, 256, (1, 64, 96, 3), dtype=torch.uint8)
    returned = network(images_BHWC, list(network.taps))
    network._returns.clear()
    hooked = network(images_BHWC, list(network.taps))
    assert all(torch.equal(returned[tap], hooked[tap]) for tap in network.taps)


def test_the_published_head_is_the_default_and_options_change_it() -> None:
    published, narrow = detector("gfl:mbv2"), detector("gfl(width=128,convs=2):mbv2")
    assert published.name == "gfl:mobilenetv2_100" and narrow.name == "gfl(width=128,convs=2):mobilenetv2_100"
    weights = {n: tuple(p.shape) for n, p in published.model.named_parameters()}
    assert weights["head.cls_tower.9.weight"] == (256, 256, 3, 3)
    weights = {n: tuple(p.shape) for n, p in narrow.model.named_parameters()}
    assert weights["head.cls_tower.3.weight"] == (128, 128, 3, 3) and "head.cls_tower.6.weight" not in weights
    assert weights["neck.levels.layer_blocks.0.0.weight"] == (128, 128, 3, 3)


def test_a_run_with_options_in_its_name_teaches_and_is_read_back(tmp_path: Path) -> None:
    network = detector()
    card = RunCard(network={}, data="coco:/d", class_names=("a", "b", "c"), crop=(64, 96), output_stride=32)
    save_run_network(tmp_path / "t", network, card)
    again = load_run_network(tmp_path / "t")
    assert again.name == "gfl(width=32,convs=1):mobilenetv2_100" and again.grid == network.grid
    images_BHWC = torch.randint(0, 256, (1, 64, 96, 3), dtype=torch.uint8)
    taps = [*network.groups["box"], *network.groups["cls"]]
    expected, answered = (one.eval()(images_BHWC, taps) for one in (network, again))
    assert all(torch.equal(expected[tap], answered[tap]) for tap in taps)
    teacher, _, _ = resolve_teacher("t", tmp_path, num_classes=3)
    assert teacher.trained_head and teacher.config == network.config


def test_a_configuration_says_its_grid_and_others_do_not() -> None:
    config = detector().config
    raw = config.to_dict()
    assert NetworkConfig.from_dict(raw) == config
    assert config.grid is not None and raw["grid"] == config.grid.to_dict()
    plain = NetworkConfig(name="deeplabv3:resnet18", num_classes=3, output_stride=8, task="segmentation")
    assert "grid" not in plain.to_dict()


DAMAGED = {
    "no mapping": ["p3"],
    "a field too few": {"levels": [3]},
    "no numbers": {"levels": 3},
    "uneven": {"strides": [8]},
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_grid_of_a_file_is_refused(damage: str) -> None:
    raw = detector().config.to_dict()
    grid = raw["grid"]
    assert isinstance(grid, dict)
    broken = DAMAGED[damage]
    raw["grid"] = {**grid, **broken} if isinstance(broken, dict) and damage != "a field too few" else broken
    with pytest.raises(BadOption, match="not the grid of a detector") as caught:
        NetworkConfig.from_dict(raw, where="network.json")
    assert caught.value.where == "network.json" and "train the run again" in caught.value.fix


def test_a_network_whose_grid_changed_is_not_rebuilt_under_its_old_record() -> None:
    config = detector().config
    assert config.grid is not None
    other = replace(config, grid=replace(config.grid, num_bins=9))
    with pytest.raises(BadOption, match="has another grid than its record says"):
        rebuild(other)


def test_an_encoders_file_goes_into_the_encoder(tmp_path: Path) -> None:
    torch.manual_seed(3)
    whole = timm.create_model("mobilenetv2_100")
    save_file(whole.state_dict(), tmp_path / "backbone.safetensors")
    network = detector(weights=tmp_path / "backbone.safetensors", role="student")
    for key in ("conv_stem.weight", "blocks.6.0.bn3.running_var"):
        assert torch.equal(network.state_dict()[f"model.encoder.model.{key}"], whole.state_dict()[key])
    assert not network.trained_head


def test_a_shared_file_of_an_encoder_loads() -> None:
    if not (REAL / "resnet18.safetensors").is_file():
        pytest.skip(f"{REAL / 'resnet18.safetensors'} is not there")
    network = detector("gfl(width=32,convs=1):r18", weights=REAL / "resnet18.safetensors")
    expected = load_file(REAL / "resnet18.safetensors")["layer4.1.conv2.weight"].float()
    assert torch.equal(network.state_dict()["model.encoder.model.layer4.1.conv2.weight"], expected)


@pytest.mark.parametrize("name", [SMALL, "retinanet:mbv2"])
def test_a_whole_file_of_other_classes_teaches_nobody_and_begins_a_student(name: str, tmp_path: Path) -> None:
    network = detector(name, num_classes=5)
    save_file(network.state_dict(), tmp_path / "five.safetensors")
    with pytest.raises(BadWeights, match="the weights tell 5 classes apart, the data have 3"):
        detector(name, weights=tmp_path / "five.safetensors")
    student = detector(name, weights=tmp_path / "five.safetensors", role="student")
    assert not student.trained_head
    own, five = student.state_dict(), network.state_dict()
    differ = [key for key in own if own[key].shape != five[key].shape or not torch.equal(own[key], five[key])]
    assert {key.rpartition(".")[0] for key in differ} == {f"model.{student.heads[0]}"}


def test_an_encoders_file_makes_no_teacher(tmp_path: Path) -> None:
    save_file(timm.create_model("mobilenetv2_100").state_dict(), tmp_path / "backbone.safetensors")
    with pytest.raises(BadOption, match="nobody has trained its detection head"):
        path = str(tmp_path / "backbone.safetensors")
        resolve_teacher(SMALL, tmp_path, num_classes=3, task="detection", weights=path)


def test_a_detector_that_nobody_trained_does_not_teach_and_is_not_even_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolve, "build_network", lambda *args, **options: pytest.fail("it was built"))
    with pytest.raises(BadOption, match="nobody has trained its detection head") as caught:
        resolve_teacher(SMALL, tmp_path, num_classes=3, task="detection")
    fix = "kdtrain --loss none --student 'gfl(width=32,convs=1):mbv2' --run gfl-width-32-convs-1-mbv2 "
    assert fix in caught.value.fix


def test_an_encoder_without_a_pyramid_is_refused() -> None:
    with pytest.raises(BadOption, match="gives no maps of strides 8, 16 and 32 for a pyramid") as caught:
        detector("gfl:vit_tiny_patch16_224")
    assert "gfl:r18" in caught.value.fix
    with pytest.raises(BadOption, match="unknown network 'gfl:resnet51'"):
        detector("gfl:resnet51")


def test_a_library_name_with_options_is_nobodys_own_code() -> None:
    assert foreign_names(detector().config) == []
    own = NetworkConfig(name="my.nets:gfl", num_classes=3, output_stride=32, task="detection")
    assert foreign_names(own) == ["my.nets:gfl"]


def test_batch_norms_of_the_encoder_rest_where_they_are_told_to() -> None:
    network = detector()
    norms = [path for path, module in network.model.named_modules() if isinstance(module, _BatchNorm)]
    network.resting = frozenset(norms)
    before = {n: b.clone() for n, b in network.named_buffers()}
    network.train()
    network(torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8), ["cls3"])
    assert all(torch.equal(b, before[n]) for n, b in network.named_buffers())
    assert network.training and network.model.get_submodule("head").training
    network.tap_specs(["p3"], 64, 64)  # a dry run puts every module back
    assert not network.model.get_submodule("encoder.model.bn1").training


OWN = """
from torch import nn
from kdcache.cache.grid import DenseGrid


class Own(nn.Module):
    grid = DenseGrid(levels=(3, 4), strides=(8, 16))
    pad_multiple = 16

    def __init__(self, num_classes):
        super().__init__()
        self.body = nn.Conv2d(3, 4, 8, 8)
        self.head = Head(num_classes)

    def forward(self, x):
        return self.head(self.body(x))


class Head(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.cls, self.box = nn.Conv2d(4, num_classes, 1), nn.Conv2d(4, 4, 1)
        self.down = nn.Conv2d(4, 4, 2, 2)

    def forward(self, p3):
        maps = {3: p3, 4: self.down(p3)}
        return {f"{kind}{n}": getattr(self, kind)(p) if kind != "p" else p
                for n, p in maps.items() for kind in ("p", "cls", "box")}


def build(num_classes):
    return Own(num_classes), {f"{kind}{n}": f"head#{kind}{n}" for n in (3, 4) for kind in ("p", "cls", "box")}


def gap(num_classes):
    return Own(num_classes), {"p3": "head#p3"}


def wrong(num_classes):
    module, taps = build(num_classes)
    module.grid = [8, 16]
    return module, taps


def other_strides(num_classes):
    module, taps = build(num_classes)
    module.grid = DenseGrid(levels=(3, 4), strides=(8, 32))
    return module, taps
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_detectors.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    return "own_detectors"


def test_a_factory_says_its_grid(own: str) -> None:
    network = detector(f"{own}:build")
    assert network.grid == DenseGrid(levels=(3, 4), strides=(8, 16))
    assert network.groups["fpn"] == ("p3", "p4") and network.config.grid == network.grid
    assert network.tap_specs(["cls4"], 33, 40)["cls4"].shape == (3, 3, 3)


@pytest.mark.parametrize(
    ("factory", "error", "fix"),
    [
        (
            "gap",
            "the grid has taps that the factory does not name: p4, cls3, cls4, box3, box4",
            "'head#cls3'",
        ),
        ("wrong", "attribute 'grid' is a list, not a DenseGrid", "DenseGrid"),
        ("other_strides", "cells of the declared stride 32", "declare the grid that the maps have"),
    ],
)
def test_a_factory_that_says_a_wrong_grid_is_refused(own: str, factory: str, error: str, fix: str) -> None:
    with pytest.raises(BadOption, match=error) as caught:
        detector(f"{own}:{factory}")
    assert fix in caught.value.fix
