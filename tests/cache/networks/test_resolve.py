"""--teacher X: which network it becomes, and what is said."""

from pathlib import Path

import pytest
import torch
from plain_weights import save_file

from kdcache.cache.errors import BadOption, BadWeights, Missing
from kdcache.cache.networks.build import build_network
from kdcache.cache.networks.resolve import resolve_teacher
from kdcache.cache.networks.run_card import DataClasses, RunCard, save_run_network
from kdcache.cache.networks.weights import weights_digest


def make_run(folder: Path, tiny_name: str) -> str:
    network = build_network(tiny_name, task="segmentation", num_classes=5)
    card = RunCard(
        network=network.config.to_dict(),
        data="camvid:/data/camvid",
        class_names=("a", "b", "c", "d", "e"),
        crop=(32, 32),
        output_stride=network.output_stride,
    )
    save_run_network(folder, network, card)
    return weights_digest(network)


def test_a_run_is_taken_before_a_network_of_the_same_name(tiny_name: str, tmp_path: Path) -> None:
    digest = make_run(tmp_path / "runs/r101", tiny_name)
    network, card, choice = resolve_teacher("r101", tmp_path / "runs", num_classes=5)
    assert weights_digest(network) == digest
    assert card is not None and card.data == "camvid:/data/camvid"
    assert choice == (
        f"teacher 'r101' is the run {tmp_path / 'runs/r101'} "
        "(tiny_networks:build, trained on camvid:/data/camvid)"
    )


def test_the_path_of_a_run_folder_is_a_teacher_too(tiny_name: str, tmp_path: Path) -> None:
    digest = make_run(tmp_path / "elsewhere/r101", tiny_name)
    network, card, _ = resolve_teacher(str(tmp_path / "elsewhere/r101"), tmp_path, num_classes=None)
    assert weights_digest(network) == digest and card is not None


def test_without_a_run_the_network_is_taken_and_said(tiny_name: str, tmp_path: Path) -> None:
    network, card, choice = resolve_teacher(tiny_name, tmp_path, num_classes=5)
    assert card is None and network.name == tiny_name
    assert choice.endswith("is the network tiny_networks:build (no run has this name)")


@pytest.mark.parametrize("weights", [None, "none", "imagenet"])
def test_an_untrained_head_prints_the_line_that_trains_it(tmp_path: Path, weights: str | None) -> None:
    with pytest.raises(BadOption, match="nobody has trained its segmentation head") as caught:
        resolve_teacher("r101", tmp_path, num_classes=11, weights=weights)
    assert "kdtrain --loss none --student r101 --run r101 --data " in caught.value.fix
    assert "deeplabv3:resnet101" in caught.value.what


def test_the_line_names_a_run_that_can_be_a_folder(tmp_path: Path) -> None:
    with pytest.raises(BadOption) as caught:
        resolve_teacher("pspnet:r18", tmp_path, num_classes=11)
    assert "--student pspnet:r18 --run pspnet-r18" in caught.value.fix


def test_a_backbone_file_does_not_make_a_segmentation_teacher(tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = build_network("mbv2", task="segmentation", num_classes=3).model.get_submodule("encoder.model")
    save_file(encoder.state_dict(), tmp_path / "encoder.safetensors")
    with pytest.raises(BadOption, match="nobody has trained its segmentation head"):
        resolve_teacher("mbv2", tmp_path, num_classes=3, weights=str(tmp_path / "encoder.safetensors"))


def test_a_whole_file_makes_a_teacher(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build_network("mbv2", task="segmentation", num_classes=3)
    save_file(network.state_dict(), tmp_path / "whole.safetensors")
    teacher, _, choice = resolve_teacher(
        "mbv2", tmp_path, num_classes=3, weights=str(tmp_path / "whole.safetensors")
    )
    assert weights_digest(teacher) == weights_digest(network)
    assert "with weights" in choice


def test_a_network_alone_is_of_the_first_task_that_has_its_name(tmp_path: Path) -> None:
    network = build_network("resnet8", task="classification", num_classes=4)
    save_file(network.state_dict(), tmp_path / "whole.safetensors")
    teacher, _, _ = resolve_teacher(
        "resnet8", tmp_path, num_classes=4, weights=str(tmp_path / "whole.safetensors")
    )
    assert teacher.task == "classification" and weights_digest(teacher) == weights_digest(network)


def test_an_unknown_teacher_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(BadOption, match="unknown network 'r110'") as caught:
        resolve_teacher("r110", tmp_path, num_classes=5)
    assert "did you mean 'r10" in caught.value.fix
    assert "no run has this name" in caught.value.where


def test_an_unfinished_run_hides_no_network(tmp_path: Path) -> None:
    (tmp_path / "r18").mkdir()
    with pytest.raises(Missing, match="run 'r18' has no trained network yet"):
        resolve_teacher("r18", tmp_path, num_classes=5)


def test_a_run_and_other_weights_are_refused(tiny_name: str, tmp_path: Path) -> None:
    make_run(tmp_path / "r18", tiny_name)
    with pytest.raises(BadOption, match="run 'r18' has its own weights"):
        resolve_teacher("r18", tmp_path, num_classes=5, weights="imagenet")


def test_a_run_of_another_number_of_classes_is_refused(tiny_name: str, tmp_path: Path) -> None:
    make_run(tmp_path / "r18", tiny_name)
    with pytest.raises(BadOption, match="tells 5 classes apart, the data has 11") as caught:
        resolve_teacher("r18", tmp_path, num_classes=11)
    assert "--data camvid:/data/camvid" in caught.value.fix


@pytest.mark.parametrize(
    ("names", "differ"),
    [
        ("abcdef", "the data have also 'f'"),
        ("abcdx", "the data have also 'x' and lack 'e'"),
        ("abced", "class 3 is 'd' in the run and 'e' in the data"),
    ],
)
@pytest.mark.parametrize("member", ["r18", "r18,r19"])
def test_a_run_that_answers_for_other_classes_is_refused_and_they_are_named(
    tiny_name: str, tmp_path: Path, names: str, differ: str, member: str
) -> None:
    for run in ("r18", "r19"):
        make_run(tmp_path / run, tiny_name)
    data = DataClasses(tuple(names), "camvid:/data/other/../camvid")
    with pytest.raises(BadOption, match=differ) as caught:
        resolve_teacher(member, tmp_path, num_classes=len(names), classes=data)
    assert "use the data of the run" not in caught.value.fix, "these are the data of the run"
    assert "--run r18-2" in caught.value.fix
    with pytest.raises(BadOption, match=differ) as caught:
        resolve_teacher(member, tmp_path, num_classes=len(names), classes=data._replace(spec="camvid:/other"))
    assert caught.value.fix == "use the data of the run: --data camvid:/data/camvid"


def test_a_torchvision_teacher_takes_its_published_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no route")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(BadWeights, match="'COCO_WITH_VOC_LABELS_V1' could not be downloaded: ") as caught:
        resolve_teacher("tv:deeplabv3_resnet101", tmp_path, num_classes=21)
    assert "--weights FILE" in caught.value.fix


def test_a_backbone_teacher_with_random_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadOption, match="would have random weights"):
        resolve_teacher("timm:resnet18", tmp_path, num_classes=None)
