"""The papers' networks against section 0.1 of the segmentation specification: strides and channels."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from kdcache.cache.errors import BadOption
from kdcache.cache.networks.build import build_network
from kdcache.cache.networks.families.timm import check_dilation
from kdcache.cache.networks.sync_batchnorm import synchronise_batchnorm

PAIRS = [
    # name, stage 4, neck, auxiliary head
    ("deeplabv3:resnet101", 2048, 256, True),
    ("deeplabv3:r18", 512, 128, True),
    ("mbv2", 320, 128, False),
    ("pspnet:resnet18", 512, 128, True),
    ("pspnet:r101", 2048, 512, True),
    ("pspnet:mbv2", 320, 128, False),
]


@pytest.mark.parametrize(("name", "stage4", "neck", "aux"), PAIRS)
def test_stride_and_channels_are_the_papers(name: str, stage4: int, neck: int, aux: bool) -> None:
    network = build_network(name, task="segmentation", num_classes=11, aux=True).eval()
    images_BHWC = torch.zeros((1, 33, 45, 3), dtype=torch.uint8)
    taps = list(network.taps)
    with torch.no_grad():
        values = network(images_BHWC, taps)
    specs = network.tap_specs(taps, 33, 45)
    assert tuple(values["stage4"].shape) == (1, stage4, 5, 6)
    assert tuple(values["neck"].shape) == (1, neck, 5, 6)
    assert tuple(values["logits"].shape) == (1, 11, 5, 6)
    assert tuple(values["stage1"].shape[2:]) == (9, 12)
    assert ("aux" in values) == aux
    for tap in taps:
        assert (1, *specs[tap].shape) == tuple(values[tap].permute(0, 2, 3, 1).shape)
    if "resnet" in network.name:
        assert float(values["stage4"].min()) == 0.0  # after ReLU
    assert not network.trained_head


def test_the_neck_is_what_the_classifier_reads_and_logits_are_what_it_returns() -> None:
    network = build_network("r18", task="segmentation", num_classes=3).eval()
    values = network(torch.randint(0, 256, (1, 16, 24, 3), dtype=torch.uint8), ["neck", "logits"])
    assert torch.equal(network.model.get_submodule("segmentation_head")(values["neck"]), values["logits"])


def test_the_auxiliary_head_runs_only_when_asked_for() -> None:
    network = build_network("r18", task="segmentation", num_classes=3, aux=True).train()
    images_BHWC = torch.randint(0, 256, (2, 16, 24, 3), dtype=torch.uint8)
    network(images_BHWC, ["logits"])["logits"].sum().backward()
    head = network.model.get_submodule("aux_head")
    assert all(parameter.grad is None for parameter in head.parameters())
    values = network(images_BHWC, ["aux", "stage3"])
    values["aux"].sum().backward()
    assert all(parameter.grad is not None for parameter in head.parameters())
    assert values["aux"].shape == (2, 3, 2, 3)


def test_taps_read_with_hooks_are_the_returned_ones() -> None:
    network = build_network("r18", task="segmentation", num_classes=3, aux=True).eval()
    images_BHWC = torch.randint(0, 256, (1, 17, 25, 3), dtype=torch.uint8)
    returned = network(images_BHWC, list(network.taps))
    network._returns.clear()
    hooked = network(images_BHWC, list(network.taps))
    assert all(torch.equal(returned[tap], hooked[tap]) for tap in network.taps)


@pytest.mark.slow
def test_a_student_compiles_into_one_graph() -> None:
    network = build_network("mbv2", task="segmentation", num_classes=3).eval()
    images_BHWC = torch.randint(0, 256, (1, 17, 25, 3), dtype=torch.uint8)
    compiled: nn.Module = torch.compile(network, backend="eager", fullgraph=True)
    expected, answered = (run(images_BHWC, ["stage4", "logits"]) for run in (network, compiled))
    assert all(torch.equal(expected[tap], answered[tap]) for tap in expected)


@pytest.mark.parametrize("name", ["deeplabv3:r18", "pspnet:r18"])
def test_output_stride_16_reaches_the_encoder(name: str) -> None:
    network = build_network(name, task="segmentation", num_classes=3, output_stride=16)
    specs = network.tap_specs(["stage3", "stage4", "logits"], 361, 97)
    assert {tap: spec.shape[:2] for tap, spec in specs.items()} == {
        "stage3": (23, 7),
        "stage4": (23, 7),
        "logits": (23, 7),
    }


@pytest.mark.parametrize(
    ("size", "cells"), [((333, 500), (42, 63)), ((360, 480), (45, 60)), ((361, 97), (46, 13))]
)
def test_sizes_are_known_without_a_full_pass(size: tuple[int, int], cells: tuple[int, int]) -> None:
    network = build_network("r18", task="segmentation", num_classes=3)
    assert network.tap_specs(["logits"], *size)["logits"].shape == (*cells, 3)


def test_the_tensorflow_form_of_mobilenet_pads_on_one_side_and_scales_to_plus_minus_one() -> None:
    network = build_network("deeplabv3:mobilenetv2_100.same", task="segmentation", num_classes=3).eval()
    assert network.normalise.mean.tolist() == [0.5] * 3 == network.normalise.std.tolist()
    assert type(network.model.get_submodule("encoder.model.conv_stem")).__name__ == "Conv2dSame"
    values = network(torch.zeros((1, 33, 45, 3), dtype=torch.uint8), ["stage4"])
    assert tuple(values["stage4"].shape) == (1, 320, 5, 6)


def test_synchronised_batchnorm_keeps_the_activations_of_a_mobilenet() -> None:
    network = build_network("mbv2", task="segmentation", num_classes=3).eval()
    images_BHWC = torch.randint(0, 256, (1, 16, 24, 3), dtype=torch.uint8)
    expected = network(images_BHWC, ["stage4"])["stage4"]
    converted = synchronise_batchnorm(copy.deepcopy(network)).eval()
    kinds = {type(module) for module in converted.modules()}
    assert nn.SyncBatchNorm in {base for kind in kinds for base in kind.__mro__}
    assert torch.equal(converted(images_BHWC, ["stage4"])["stage4"], expected)


def test_a_backbone_alone_has_four_stages_and_no_logits() -> None:
    network = build_network("timm:resnet18", task="segmentation", num_classes=7)
    specs = network.tap_specs(list(network.taps), 333, 500)
    assert {tap: spec.stride for tap, spec in specs.items()} == {
        "stage1": 4,
        "stage2": 8,
        "stage3": 16,
        "stage4": 32,
    }
    assert specs["stage4"].shape == (11, 16, 512)
    assert network.num_classes == 0 and "logits" not in network.taps


def test_torchvisions_networks_have_the_same_taps() -> None:
    network = build_network("tv:fcn_resnet50", task="segmentation", num_classes=None).eval()
    specs = network.tap_specs(["stage4", "neck", "logits"], 33, 45)
    assert [spec.shape for spec in specs.values()] == [(5, 6, 2048), (5, 6, 512), (5, 6, 21)]


@pytest.mark.parametrize(
    ("name", "stride", "what", "fix"),
    [
        ("deeplabv3:resnet19", 8, "unknown network 'deeplabv3:resnet19'", "did you mean 'deeplabv3:resnet1"),
        ("deeplabv3:resnet18.a9_in1k", 8, "unknown weights tag 'a9_in1k'", "did you mean 'a"),
        ("deeplabv3:resnet18", 32, "cannot have output stride 32", "legal: 8, 16"),
        ("deeplabv3:vgg11", 8, "vgg11 cannot be an encoder of stride 8", "take a ResNet or MobileNet"),
        ("tv:deeplabv3_resnet50", 16, "exists at output stride 8 only", "deeplabv3:resnet50"),
        ("timm:vit_tiny_patch16_224", 32, "gives no maps at output stride 32", "four stages"),
    ],
)
def test_a_network_that_cannot_be_built_says_why(name: str, stride: int, what: str, fix: str) -> None:
    with pytest.raises(BadOption) as caught:
        build_network(name, task="segmentation", num_classes=3, output_stride=stride)
    assert what in caught.value.what
    assert fix in caught.value.fix


def test_a_network_of_one_fixed_input_size_is_refused() -> None:
    with pytest.raises(BadOption, match="does not take images of any size") as caught:
        build_network("timm:swin_tiny_patch4_window7_224", task="segmentation", num_classes=3)
    assert "multiples of 32" in caught.value.fix


def test_a_head_without_a_number_of_classes_asks_for_data() -> None:
    with pytest.raises(BadOption, match="deeplabv3:resnet18 needs the number of classes") as caught:
        build_network("r18", task="segmentation", num_classes=None)
    assert "--data" in caught.value.fix


def test_an_encoder_that_swallows_its_stride_is_refused() -> None:
    reached = SimpleNamespace(reduction=lambda: [2, 4, 8, 16, 32])
    encoder = SimpleNamespace(model=SimpleNamespace(feature_info=reached))
    check_dilation(encoder, 32, where="encoder of some")
    with pytest.raises(BadOption, match="has stride 32 and cannot be dilated to 8") as caught:
        check_dilation(encoder, 8, where="encoder of some")
    assert caught.value.where == "encoder of some" and "--output-stride 32" in caught.value.fix
