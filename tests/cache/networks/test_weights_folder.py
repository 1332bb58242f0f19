"""$KDCACHE_WEIGHTS: which file serves which name, and that nothing is asked of a network before it."""

import hashlib
import io
from pathlib import Path
from urllib.error import HTTPError

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor

from kdcache.cache.errors import BadOption, BadWeights
from kdcache.cache.networks.build import build_network
from kdcache.cache.networks.files import downloads
from kdcache.cache.networks.files.weights_folder import own_weights, timm_files
from kdcache.cache.networks.network import Network

FIRST = "model.encoder.model.conv1.weight"


def student(weights: str = "imagenet", name: str = "r18", num_classes: int = 3) -> Network:
    return build_network(
        name, task="segmentation", num_classes=num_classes, output_stride=8, weights=weights, role="student"
    )


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    torch.manual_seed(3)
    return dict(timm.create_model("resnet18").state_dict())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder, and no network: whoever connects ends the test."""

    def connect(*_: object, **__: object) -> None:
        raise AssertionError("something was to be downloaded")

    monkeypatch.setenv("KDCACHE_WEIGHTS", str(tmp_path))
    monkeypatch.setattr("socket.create_connection", connect)
    monkeypatch.setattr(downloads, "urlopen", connect)
    return tmp_path


@pytest.mark.parametrize(
    "name",
    [
        "resnet18.a1_in1k.safetensors",
        "resnet18.a1_in1k.pth",
        "resnet18.safetensors",
        "timm/resnet18.a1_in1k/model.safetensors",
        "resnet18.a1_in1k/model.safetensors",
        "models--timm--resnet18.a1_in1k/snapshots/0f/model.safetensors",
    ],
)
def test_a_file_of_a_name_of_timm_or_the_hub_is_taken(
    folder: Path, state: dict[str, Tensor], name: str
) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path) if name.endswith(".pth") else save_file(state, path)
    network = student()
    assert torch.equal(network.state_dict()[FIRST], state["conv1.weight"])
    assert f"from {path}" in network.weights_peeled


def test_the_name_of_its_address_needs_the_digest_that_stands_in_it(
    folder: Path, state: dict[str, Tensor]
) -> None:
    path = folder / "resnet18_a1_0-d63eafa0.pth"
    torch.save(state, path)
    begins = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    with pytest.raises(BadWeights) as caught:
        student()
    assert caught.value.what == f"not the file of that name: its SHA-256 begins with {begins}"
    assert caught.value.where == str(path) and "--weights FILE" in caught.value.fix
    right = path.rename(folder / f"any-{begins}.pth")
    assert own_weights([right.name]) is not None


def test_a_tag_is_not_served_by_the_bare_name(
    folder: Path, state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file(state, folder / "resnet18.safetensors")
    assert "resnet18.safetensors" not in timm_files("resnet18.a2_in1k", default=False)
    asked = OSError("asked")

    def answer(url: str) -> None:
        raise asked

    monkeypatch.setattr(downloads, "_require_answer", answer)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder / "none"))
    with pytest.raises(BadWeights, match="'a2_in1k' could not be downloaded: asked") as caught:
        student("a2_in1k")
    assert "put the file resnet18.a2_in1k.safetensors or resnet18_a2" in caught.value.fix
    assert f"into {folder}; or" in caught.value.fix
    save_file(state, folder / "resnet18.a2_in1k.safetensors")
    assert torch.equal(student("a2_in1k").state_dict()[FIRST], state["conv1.weight"])


def test_a_file_of_torchvision_is_taken_by_its_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(5)
    own = torchvision.models.get_model(
        "deeplabv3_resnet50", weights=None, weights_backbone=None, num_classes=21, aux_loss=True
    ).state_dict()
    path = folder / "deeplabv3_resnet50_coco-cd0a2569.pth"
    torch.save(own, path)
    monkeypatch.setattr("kdcache.cache.networks.files.weights_folder._check_digest", lambda path: None)
    network = student("COCO_WITH_VOC_LABELS_V1", "tv:deeplabv3_resnet50", 21)
    name = "backbone.conv1.weight"
    assert torch.equal(network.state_dict()[f"model.{name}"], own[name])


def test_a_file_that_is_of_another_network_says_what_does_not_fit(folder: Path) -> None:
    save_file({"conv1.weight": torch.zeros(2)}, folder / "resnet18.safetensors")
    with pytest.raises(BadWeights, match="weights do not fit deeplabv3:resnet18") as caught:
        student()
    assert caught.value.where == str(folder / "resnet18.safetensors")


def test_names_of_before_are_turned_into_those_of_now(folder: Path) -> None:
    """Files at their first address are often older than timm's own names for the layers."""
    torch.manual_seed(1)
    now = dict(timm.create_model("convnext_atto").state_dict())
    old = {}
    for name, tensor in now.items():
        before = name.replace("stem.", "downsample_layers.0.").replace("head.norm.", "norm.")
        before = before.replace("head.fc.", "head.").replace("conv_dw", "dwconv").replace("mlp.fc", "pwconv")
        parts = before.split(".")
        if parts[0] == "stages" and parts[2] == "blocks":
            before = ".".join([parts[0], parts[1], *parts[3:]])
        elif parts[0] == "stages" and parts[2] == "downsample":
            before = ".".join(["downsample_layers", parts[1], *parts[3:]])
        old[before] = tensor
    save_file(old, folder / "convnext_atto.safetensors")
    network = build_network(
        "timm:convnext_atto", task="classification", num_classes=1000, weights="imagenet", role="student"
    )
    assert torch.equal(network.state_dict()["model.network.stem.0.weight"], now["stem.0.weight"])
    assert torch.equal(network.state_dict()["model.network.head.fc.weight"], now["head.fc.weight"])


def test_a_folder_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDCACHE_WEIGHTS", "/not/there")
    with pytest.raises(BadOption, match=r"\$KDCACHE_WEIGHTS names no folder") as caught:
        student()
    assert caught.value.where == "/not/there" and caught.value.fix == "make it, or unset KDCACHE_WEIGHTS"


def test_a_gate_that_answers_for_the_server_ends_the_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's client would ask it six times; one refusal of the server itself is an answer."""
    for status, ends in ((503, True), (403, False)):

        def gate(request: object, timeout: float, status: int = status) -> None:
            raise HTTPError("http://hub", status, "no", {}, io.BytesIO())  # type: ignore[arg-type]

        monkeypatch.setattr(downloads, "urlopen", gate)
        if ends:
            with pytest.raises(OSError, match="hub cannot be reached: no"):
                downloads._require_answer("http://hub/x")
        else:
            downloads._require_answer("http://hub/x")


def test_without_a_folder_the_error_says_how_to_make_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KDCACHE_WEIGHTS", raising=False)

    def answer(url: str) -> None:
        raise OSError("no route")

    monkeypatch.setattr(downloads, "_require_answer", answer)
    with pytest.raises(BadWeights, match="could not be downloaded: no route") as caught:
        student("COCO_WITH_VOC_LABELS_V1", "tv:deeplabv3_resnet101", 21)
    assert caught.value.fix.startswith(
        "put the file deeplabv3_resnet101_coco-586e9e4e.pth into a folder, and export KDCACHE_WEIGHTS=FOLDER"
    )
