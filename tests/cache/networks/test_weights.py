"""Weights files: what fits where, and what is refused."""

import os
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import timm
import torch
from huggingface_hub import constants
from plain_weights import save_file
from safetensors.torch import load_file

from kdcache.cache.errors import BadOption, BadWeights, Missing
from kdcache.cache.networks.build import build_network
from kdcache.cache.networks.files.weights_file import read_weights
from kdcache.cache.networks.network import Network
from kdcache.cache.networks.weights import weights_digest

REAL = Path(__file__).parents[4] / "shared/data/weights"


class Bomb:
    """Unpickling it would make a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


def student(name: str, weights: Path | str | None = None, num_classes: int = 5) -> Network:
    return build_network(
        name, task="segmentation", num_classes=num_classes, weights=None if weights is None else str(weights)
    )


def test_a_whole_network_comes_back_bit_for_bit(tiny_name: str, tmp_path: Path) -> None:
    first = student(tiny_name)
    save_file(first.state_dict(), tmp_path / "whole.safetensors")
    again = student(tiny_name, tmp_path / "whole.safetensors")
    assert again.trained_head
    assert weights_digest(again) == weights_digest(first)
    assert weights_digest(student(tiny_name)) != weights_digest(first)


@pytest.mark.parametrize("wrapper", ["state_dict", "model"])
def test_wrappers_and_prefixes_are_peeled(tiny_name: str, tmp_path: Path, wrapper: str) -> None:
    first = student(tiny_name)
    wrapped = {f"module._orig_mod.{name}": value for name, value in first.model.state_dict().items()}
    torch.save({"epoch": 3, wrapper: wrapped}, tmp_path / "checkpoint.pt")
    again = student(tiny_name, tmp_path / "checkpoint.pt")
    assert weights_digest(again) == weights_digest(first)


def test_half_precision_tensors_are_cast(tiny_name: str, tmp_path: Path) -> None:
    first = student(tiny_name)
    half = {n: v.half() if v.is_floating_point() else v for n, v in first.state_dict().items()}
    save_file(half, tmp_path / "half.safetensors")
    again = student(tiny_name, tmp_path / "half.safetensors")
    weight = again.state_dict()["model.stem.0.weight"]
    assert weight.dtype == torch.float32
    assert torch.equal(weight, half["model.stem.0.weight"].float())


def test_a_backbone_file_goes_into_the_encoder_and_leaves_the_head_untrained(tmp_path: Path) -> None:
    backbone = timm.create_model("mobilenetv2_100").state_dict()  # with its classifier
    save_file(backbone, tmp_path / "backbone.safetensors")
    network = student("mbv2", tmp_path / "backbone.safetensors")
    own = network.state_dict()
    assert torch.equal(own["model.encoder.model.conv_stem.weight"], backbone["conv_stem.weight"])
    assert torch.equal(
        own["model.encoder.model.blocks.6.0.conv_pw.weight"], backbone["blocks.6.0.conv_pw.weight"]
    )
    assert not network.trained_head


def test_flattened_stages_of_timm_are_followed(tmp_path: Path) -> None:
    backbone = timm.create_model("convnext_atto").state_dict()
    save_file(backbone, tmp_path / "backbone.safetensors")
    network = student("timm:convnext_atto", tmp_path / "backbone.safetensors")
    filled = network.state_dict()["model.encoder.model.stages_3.blocks.0.conv_dw.weight"]
    assert torch.equal(filled, backbone["stages.3.blocks.0.conv_dw.weight"])


@pytest.mark.parametrize(
    ("name", "file", "key"),
    [
        ("r18", "resnet18.safetensors", "layer4.1.conv2.weight"),
        ("deeplabv3:mobilenetv2_100.same", "mobilenet_v2.safetensors", "blocks.6.0.conv_pwl.weight"),
    ],
)
def test_the_files_of_the_shared_folder_load(name: str, file: str, key: str) -> None:
    if not (REAL / file).is_file():
        pytest.skip(f"{REAL / file} is not there")
    network = student(name, REAL / file)
    expected = load_file(REAL / file)[key].float()
    assert torch.equal(network.state_dict()[f"model.encoder.model.{key}"], expected)


def test_statistics_in_the_header_replace_the_networks_own(tiny_name: str, tmp_path: Path) -> None:
    state = student(tiny_name).model.state_dict()
    header = {"kdcache.mean": "[0.5, 0.5, 0.5]", "kdcache.std": "[0.25, 0.25, 0.25]"}
    save_file(state, tmp_path / "own.safetensors", metadata=header)
    network = student(tiny_name, tmp_path / "own.safetensors")
    assert network.normalise.mean.tolist() == [0.5, 0.5, 0.5]
    assert network.normalise.std.tolist() == [0.25, 0.25, 0.25]


def test_a_run_without_an_auxiliary_head_takes_weights_that_have_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    with_aux = build_network("r18", task="segmentation", num_classes=5, aux=True)
    save_file(with_aux.state_dict(), tmp_path / "aux.safetensors")
    assert student("r18", tmp_path / "aux.safetensors").trained_head


def test_a_pickle_with_code_is_refused_and_not_run(tiny_name: str, tmp_path: Path) -> None:
    torch.save({"state_dict": Bomb(tmp_path / "exploded")}, tmp_path / "bomb.pt")
    with pytest.raises(BadWeights, match="pickle that holds more than tensors and could run code") as caught:
        student(tiny_name, tmp_path / "bomb.pt")
    assert caught.value.where == str(tmp_path / "bomb.pt")
    assert "if you trust whoever made it, for this runs it" in caught.value.fix
    assert not (tmp_path / "exploded").exists()


def test_a_mismatch_lists_missing_unexpected_and_nearest(tiny_name: str, tmp_path: Path) -> None:
    state = student(tiny_name).state_dict()
    state["model.heads.weight"] = state.pop("model.head.weight")
    state["model.stem.0.weight"] = torch.zeros(4, 1, 3, 3)
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(BadWeights) as caught:
        student(tiny_name, tmp_path / "other.safetensors")
    what = caught.value.what
    assert "weights do not fit tiny_networks:build" in what
    assert "1 missing: model.head.weight" in what
    assert "1 unexpected: model.heads.weight (nearest: model.head.weight)" in what
    assert "1 of another shape: model.stem.0.weight (4, 1, 3, 3) in the file, (4, 3, 3, 3) here" in what
    assert caught.value.where.endswith("other.safetensors")


def test_a_file_of_another_number_of_classes_is_refused(tiny_name: str, tmp_path: Path) -> None:
    save_file(student(tiny_name, num_classes=7).state_dict(), tmp_path / "seven.safetensors")
    with pytest.raises(BadWeights, match="weights tell 7 classes apart, the data have 5"):
        student(tiny_name, tmp_path / "seven.safetensors")


@pytest.mark.parametrize("name", ["torn.safetensors", "torn.pt"])
def test_a_truncated_file_is_named(tiny_name: str, tmp_path: Path, name: str) -> None:
    state = student(tiny_name).state_dict()
    torch.save(state, tmp_path / name) if name.endswith(".pt") else save_file(state, tmp_path / name)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:200])
    with pytest.raises(BadWeights, match="not a") as caught:
        student(tiny_name, tmp_path / name)
    assert "copy or download it again" in caught.value.fix
    assert caught.value.where == str(tmp_path / name)


def test_a_file_without_named_tensors_is_refused(tiny_name: str, tmp_path: Path) -> None:
    torch.save([torch.zeros(2)], tmp_path / "list.pt")
    with pytest.raises(BadWeights, match="no named tensors inside"):
        student(tiny_name, tmp_path / "list.pt")


def test_a_missing_file_is_said_before_anything_is_built() -> None:
    with pytest.raises(Missing, match="no weights file 'gone.safetensors'"):
        student("r101", "gone.safetensors")


def test_a_failed_download_says_to_pass_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no route to the hub\nlong story")

    monkeypatch.setattr("kdcache.cache.networks.files.downloads._require_answer", lambda url: None)
    monkeypatch.setattr("kdcache.cache.networks.files.downloads.timm.create_model", offline)
    with pytest.raises(BadWeights, match="'imagenet' could not be downloaded: no route to the hub") as caught:
        student("r50", "imagenet")
    assert caught.value.where == "weights of deeplabv3:resnet50"
    assert "--weights FILE.safetensors" in caught.value.fix


def test_a_hub_that_does_not_answer_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was fetched before still serves; what was not is refused, and nothing waits for retries."""
    real, offline = timm.create_model, []

    def create(name: str, **options: object) -> object:
        if options.pop("pretrained", False):
            offline.append(constants.HF_HUB_OFFLINE)
            if len(offline) > 1:
                raise ValueError("the client's own words")
        return real(name, **options)

    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # nobody listens there
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr("kdcache.cache.networks.files.downloads.timm.create_model", create)
        assert student("mbv2", "imagenet").name == "deeplabv3:mobilenetv2_100"
        with pytest.raises(BadWeights) as caught:
            student("mbv2", "imagenet")
    assert offline == [True, True] and not constants.HF_HUB_OFFLINE
    assert str(caught.value) == (
        "pretrained weights 'imagenet' could not be downloaded: 127.0.0.1 cannot be reached: "
        "[Errno 111] Connection refused\n"
        "  where: weights of deeplabv3:mobilenetv2_100\n"
        "  fix:   put the file mobilenetv2_100.ra_in1k.safetensors or mobilenetv2_100_ra-b33bc2c4.pth into a "
        "folder, and export KDCACHE_WEIGHTS=FOLDER; or pass a file: --weights FILE.safetensors (or .pt), or "
        "--weights none for random ones"
    )


def test_a_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdcache.cache.networks.files.downloads.ANSWER_S", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(BadWeights, match=r"'imagenet' could not be downloaded: 127\.0\.0\.1 "):
            student("mbv2", "imagenet")


def test_pretrained_weights_are_fitted_like_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    real = timm.create_model
    published = real("mobilenetv2_100")
    monkeypatch.setattr("kdcache.cache.networks.files.downloads._fetch", lambda *_: published.state_dict())
    network = student("mbv2", "imagenet")
    own = network.state_dict()["model.encoder.model.conv_stem.weight"]
    assert torch.equal(own, published.state_dict()["conv_stem.weight"])


def test_an_unknown_tag_names_the_nearest() -> None:
    with pytest.raises(BadOption, match="unknown weights tag 'a1_in2k'") as caught:
        student("r50", "a1_in2k")
    assert "did you mean 'a1_in1k'" in caught.value.fix


def test_torchvisions_weights_serve_voc_only() -> None:
    with pytest.raises(BadOption, match="trained for the 21 classes of VOC, not for 11") as caught:
        student("tv:deeplabv3_resnet50", "COCO_WITH_VOC_LABELS_V1", num_classes=11)
    assert "--data voc:DIR" in caught.value.fix


def test_a_digest_tells_values_and_names_of_weights_apart(tiny_name: str) -> None:
    network = student(tiny_name)
    whole = weights_digest(network)
    first = next(network.model.parameters())
    with torch.no_grad():
        first.view(-1)[-1] *= 2
    assert weights_digest(network) != whole
    with torch.no_grad():
        first.view(-1)[-1] /= 2
    assert weights_digest(network) == whole
    renamed = {f"z.{name}": value for name, value in network.state_dict().items()}
    assert weights_digest(cast(Network, SimpleNamespace(state_dict=lambda: renamed))) != whole


def test_a_file_that_lacks_one_weight_is_refused(tiny_name: str, tmp_path: Path) -> None:
    state = student(tiny_name).state_dict()
    del state["model.stem.0.weight"]
    save_file(state, tmp_path / "lacking.safetensors")
    with pytest.raises(BadWeights, match=r"1 missing: model\.stem\.0\.weight"):
        student(tiny_name, tmp_path / "lacking.safetensors")


@pytest.mark.parametrize(
    "content", [b"", b".", b"}.", b"(lp0\n", b"no weights\n", b"\x89PNG\r\n", bytes(1000), b"u."]
)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_bytes_that_are_no_weights_are_refused_whatever_they_look_like(
    content: bytes, suffix: str, tmp_path: Path
) -> None:
    file = tmp_path / f"none{suffix}"
    file.write_bytes(content)
    with pytest.raises(BadWeights) as error:
        read_weights(file)
    assert error.value.where == str(file) and error.value.fix
