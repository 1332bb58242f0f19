"""timm networks with their classifiers: what their taps hold, and which weights they take."""

import copy
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from kdcache.cache.errors import BadOption, BadWeights
from kdcache.cache.networks.build import build_network
from kdcache.cache.networks.network import Network
from kdcache.cache.networks.resolve import resolve_teacher
from kdcache.cache.networks.sync_batchnorm import synchronise_batchnorm
from kdcache.cache.networks.weights import weights_digest
from kdcache.cache.spec import TensorSpec

REAL = Path(__file__).parents[4] / "shared/data/weights"
ALL = ("stage1", "stage2", "stage3", "stage4", "embedding", "logits")


def classifier(name: str, num_classes: int | None = 5, **options: Any) -> Network:
    return build_network(name, task="classification", num_classes=num_classes, **options)


def pixels(height: int, width: int, batch: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (batch, height, width, 3), dtype=torch.uint8, generator=generator)


@pytest.fixture(scope="module")
def r18() -> Network:
    torch.manual_seed(0)
    return classifier("r18").eval()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "channels", "size"),
    [
        ("timm:resnet18", (64, 128, 256, 512, 512), 64),
        ("timm:mobilenetv2_100", (24, 32, 96, 320, 1280), 64),
        ("timm:mobilenetv3_small_050", (8, 16, 24, 288, 1024), 64),
        ("timm:convnext_atto", (40, 80, 160, 320, 320), 64),
        ("timm:swin_tiny_patch4_window7_224", (96, 192, 384, 768, 768), 224),
    ],
)
def test_stages_embedding_and_logits_of_a_timm_network(
    name: str, channels: tuple[int, ...], size: int
) -> None:
    network = classifier(name).eval()
    images_BHWC = pixels(size, size)
    with torch.no_grad():
        values = network(images_BHWC, ALL)
        answer_BK = network.model.get_submodule("network")(network.normalise(images_BHWC))
    assert torch.equal(values["logits"], answer_BK)  # what timm itself computes
    specs = network.tap_specs(ALL, size, size)
    assert [specs[tap].channels for tap in ALL] == [*channels, 5]
    assert [specs[tap].stride for tap in ALL] == [4, 8, 16, 32, 0, 0]
    for tap in ALL:
        assert tuple(values[tap].movedim(1, -1).shape[1:]) == specs[tap].shape
    weight_KD = network.classifier_weight()
    assert weight_KD is not None and weight_KD.shape == (5, channels[-1])


def test_the_short_names_are_classifiers_here(r18: Network) -> None:
    assert r18.name == "timm:resnet18" and r18.task == "classification" and r18.num_classes == 5
    assert r18.output_stride == 32 and r18.pad_multiple == 1 and not r18.trained_head
    assert r18.normalise.mean.tolist() == pytest.approx([0.485, 0.456, 0.406])


def test_taps_read_with_hooks_are_the_returned_ones(r18: Network) -> None:
    images_BHWC = pixels(33, 45)
    network = copy.deepcopy(r18)
    returned = network(images_BHWC, ALL)
    network._returns.clear()
    hooked = network(images_BHWC, ALL)
    assert all(torch.equal(returned[tap], hooked[tap]) for tap in ALL)


@pytest.mark.parametrize("size", [(28, 28), (32, 32), (33, 45)])
def test_images_are_not_padded_and_maps_have_the_size_that_was_said(
    r18: Network, size: tuple[int, int]
) -> None:
    images_BHWC = pixels(*size)
    values, specs = r18(images_BHWC, ALL), r18.tap_specs(ALL, *size)
    for tap in ALL:
        assert tuple(values[tap].movedim(1, -1).shape[1:]) == specs[tap].shape
    plain_BK = r18.model.get_submodule("network")(r18.normalise(images_BHWC))
    assert torch.equal(values["logits"], plain_BK)


def test_a_size_whose_maps_come_out_smaller_is_refused() -> None:
    network = classifier("timm:convnext_atto").eval()
    what = "a map of 8x8 cells for 34x34 pixels, not the 9x9 of stride 4"
    with pytest.raises(BadOption, match=what):
        network(pixels(34, 34), ["stage1"])
    with pytest.raises(BadOption, match=what) as caught:  # before step 0 too
        network.tap_specs(["logits"], 34, 34)
    assert "tap 'stage1' of timm:convnext_atto" in caught.value.where
    assert "multiples of 4 (--crop)" in caught.value.fix
    with pytest.raises(BadOption, match="does not take images of 28x28 pixels: Calculated padded") as caught:
        network.tap_specs(["logits"], 28, 28)
    assert "made for small ones (resnet20" in caught.value.fix


def test_a_vision_transformer_gives_its_blocks_as_maps_and_takes_one_size() -> None:
    network = classifier("timm:vit_tiny_patch16_224", taps={"middle": "network.blocks.5"}).eval()
    assert [t for t in network.taps if t.startswith("block")] == [f"block{n}" for n in range(1, 13)]
    specs = network.tap_specs(["block12", "middle", "embedding", "logits"], 224, 224)
    assert specs["block12"] == TensorSpec((14, 14, 192), 16) == specs["middle"]
    assert specs["embedding"] == TensorSpec((192,), 0) and specs["logits"] == TensorSpec((5,), 0)
    with torch.no_grad():
        values = network(pixels(224, 224), ["block6", "middle", "logits"])
        answer_BK = network.model.get_submodule("network")(network.normalise(pixels(224, 224)))
    assert torch.equal(values["block6"], values["middle"]) and torch.equal(values["logits"], answer_BK)
    with pytest.raises(BadOption, match="takes images of 224x224 pixels only, not 32x32") as caught:
        network.tap_specs(["embedding"], 32, 32)
    assert "--crop 224x224" in caught.value.fix
    with pytest.raises(BadOption, match="takes images of 224x224 pixels only, not 32x32"):
        network(pixels(32, 32), ["logits"])


def test_a_normalised_input_gives_the_same_answer_and_a_gradient(r18: Network) -> None:
    images_BHWC = pixels(32, 32, batch=2)
    inputs_BCHW = r18.normalise(images_BHWC).requires_grad_()
    values = r18.read_normalised(inputs_BCHW, ["logits", "embedding"])
    assert torch.equal(values["logits"], r18(images_BHWC, ["logits"])["logits"])
    values["logits"].sum().backward()
    assert inputs_BCHW.grad is not None and float(inputs_BCHW.grad.abs().sum()) > 0
    r18.zero_grad()


def test_a_normalised_input_of_a_padded_network_must_fit(tiny_name: str) -> None:
    network = build_network(tiny_name, task="segmentation", num_classes=5)
    with pytest.raises(BadOption, match="sides of 9x14 pixels are no multiples of 4"):
        network.read_normalised(torch.zeros(1, 3, 9, 14), ["logits"])
    assert network.classifier_weight() is None  # a convolution


def test_the_classifier_weight_turns_embedding_into_logits(r18: Network) -> None:
    values = r18(pixels(32, 32), ["embedding", "logits"])
    weight_KD, last = r18.classifier_weight(), r18.model.get_submodule("network.fc")
    assert weight_KD is not None and isinstance(last, nn.Linear)
    torch.testing.assert_close(values["embedding"] @ weight_KD.T + last.bias, values["logits"])


def test_a_convolution_on_one_cell_is_a_classifier_too() -> None:
    network = classifier("timm:dla34").eval()
    weight_KD = network.classifier_weight()
    values = network(pixels(64, 64), ["embedding", "logits"])
    assert weight_KD is not None
    bias_K = network.state_dict()["model.network.fc.bias"]
    torch.testing.assert_close(values["embedding"] @ weight_KD.T + bias_K, values["logits"])


def test_a_whole_file_makes_a_teacher_head_and_all(tmp_path: Path) -> None:
    published = timm.create_model("resnet18", num_classes=5).state_dict()
    save_file(published, tmp_path / "whole.safetensors")
    options = {"num_classes": 5, "weights": str(tmp_path / "whole.safetensors")}
    network, card, choice = resolve_teacher("r18", tmp_path, task="classification", **options)
    assert network.trained_head and card is None and "with weights" in choice
    assert torch.equal(network.state_dict()["model.network.fc.weight"], published["fc.weight"])


def test_a_student_takes_all_but_the_classifier_of_weights_for_other_classes(tmp_path: Path) -> None:
    published = timm.create_model("resnet18", num_classes=7).state_dict()
    save_file(published, tmp_path / "seven.safetensors")
    torch.manual_seed(0)
    fresh = classifier("r18")
    torch.manual_seed(0)
    network = classifier("r18", role="student", weights=str(tmp_path / "seven.safetensors"))
    own = network.state_dict()
    assert torch.equal(own["model.network.layer4.1.conv2.weight"], published["layer4.1.conv2.weight"])
    assert own["model.network.fc.weight"].shape == (5, 512) and not network.trained_head
    assert torch.equal(own["model.network.fc.weight"], fresh.state_dict()["model.network.fc.weight"])


def test_a_teacher_with_weights_for_other_classes_is_refused(tmp_path: Path) -> None:
    save_file(timm.create_model("resnet18", num_classes=7).state_dict(), tmp_path / "seven.safetensors")
    with pytest.raises(BadWeights, match="weights tell 7 classes apart, the data have 5") as caught:
        classifier("r18", weights=str(tmp_path / "seven.safetensors"))
    assert caught.value.where.endswith("seven.safetensors")
    assert "kdtrain --loss none --student timm:resnet18" in caught.value.fix


def test_a_backbone_file_does_not_make_a_teacher(tmp_path: Path) -> None:
    state = timm.create_model("resnet18", num_classes=0).state_dict()
    save_file(state, tmp_path / "backbone.safetensors")
    with pytest.raises(BadWeights, match="2 missing: model.network.fc.bias"):
        classifier("r18", weights=str(tmp_path / "backbone.safetensors"))
    assert not classifier("r18", role="student", weights=str(tmp_path / "backbone.safetensors")).trained_head


def test_a_pretrained_tag_brings_its_head_and_its_number_of_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = timm.create_model, []
    published = real("resnet18")

    def hub(name: str, **options: Any) -> nn.Module:
        if not options.pop("pretrained", False):
            return real(name, **options)
        asked.append(name)
        return published

    monkeypatch.setattr("kdcache.cache.networks.files.downloads.timm.create_model", hub)
    network, _, _ = resolve_teacher(
        "timm:resnet18.a1_in1k", tmp_path, task="classification", num_classes=None
    )
    assert asked == ["resnet18.a1_in1k"]
    assert network.num_classes == 1000 and network.trained_head
    assert torch.equal(network.state_dict()["model.network.fc.weight"], published.state_dict()["fc.weight"])
    with pytest.raises(BadWeights, match="tell 1000 classes apart, the data have 10"):
        resolve_teacher("timm:resnet18.a1_in1k", tmp_path, task="classification", num_classes=10)


@pytest.mark.parametrize("weights", [None, "none"])
def test_a_teacher_with_random_weights_is_refused(tmp_path: Path, weights: str | None) -> None:
    with pytest.raises(BadOption, match="teacher 'r18' would have random weights") as caught:
        resolve_teacher("r18", tmp_path, task="classification", num_classes=5, weights=weights)
    assert "--weights FILE.safetensors" in caught.value.fix


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenet_v2"])
def test_the_files_of_the_shared_folder_make_teachers_of_imagenet(name: str) -> None:
    file = REAL / f"{name}.safetensors"
    if not file.is_file():
        pytest.skip(f"{file} is not there")
    full = {"mobilenet_v2": "timm:mobilenetv2_100.same"}.get(name, f"timm:{name}")
    network = classifier(full, None, weights=str(file))
    head = "classifier.weight" if name == "mobilenet_v2" else "fc.weight"
    assert network.trained_head and network.num_classes == 1000
    assert torch.equal(network.state_dict()[f"model.network.{head}"], load_file(file)[head].float())


def test_a_classifier_of_ones_own_may_say_its_only_input_size(tiny_classes: str) -> None:
    network = classifier(f"{tiny_classes}:fixed", 3)
    assert network.fixed_px == (8, 10) and network.output_stride == 1
    assert network.tap_specs(["logits"], 8, 10)["logits"] == TensorSpec((3,), 0)
    with pytest.raises(BadOption, match="takes images of 8x10 pixels only, not 9x9"):
        network(pixels(9, 9), ["logits"])
    with pytest.raises(BadOption, match="does not take images of any size") as caught:
        classifier(f"{tiny_classes}:silent", 3)
    assert "input_size = (height, width)" in caught.value.fix


def test_synchronised_batchnorm_changes_no_answer(r18: Network) -> None:
    converted = synchronise_batchnorm(copy.deepcopy(r18)).eval()
    assert any(isinstance(module, nn.SyncBatchNorm) for module in converted.modules())
    assert torch.equal(
        converted(pixels(32, 32), ["logits"])["logits"], r18(pixels(32, 32), ["logits"])["logits"]
    )


@pytest.mark.parametrize("name", ["r18", "resnet8", "wrn-10-1"])
def test_distributed_training_fills_every_gradient(name: str, tmp_path: Path) -> None:
    network = classifier(name).train()
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    try:
        wrapped = DistributedDataParallel(network)
        for _ in range(2):  # the second pass is where DDP complains about parameters the first left out
            wrapped(pixels(32, 32, batch=2), ["logits"])["logits"].sum().backward()
    finally:
        distributed.destroy_process_group()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["r18", "timm:mobilenetv2_100", "resnet8x4", "resnet8", "wrn-10-1"])
def test_a_student_compiles_into_one_graph(name: str) -> None:
    network = classifier(name).eval()
    taps = [tap for tap in network.taps]
    compiled: nn.Module = torch.compile(network, backend="eager", fullgraph=True)
    expected, answered = (run(pixels(32, 32), taps) for run in (network, compiled))
    assert all(torch.equal(expected[tap], answered[tap]) for tap in expected)


def test_a_copy_has_the_same_digest(r18: Network) -> None:
    assert weights_digest(copy.deepcopy(r18)) == weights_digest(r18)
