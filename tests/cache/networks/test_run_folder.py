"""A run's best student on disk: what is written comes back, and what was swapped is found out."""

import dataclasses
import json
import os
from pathlib import Path

import pytest
import torch
from plain_weights import save_file

from kdcache.cache.errors import BadWeights, Missing
from kdcache.cache.networks.build import build_network
from kdcache.cache.networks.network import Network
from kdcache.cache.networks.run import load_run_network
from kdcache.cache.networks.run_card import RunCard, read_run_card, save_run_network
from kdcache.cache.networks.weights import weights_digest


def card_of(network: Network) -> RunCard:
    return RunCard(
        network=network.config.to_dict(),
        data="camvid:/data/camvid",
        class_names=("sky", "road", "car", "tree", "sign"),
        crop=(360, 480),
        output_stride=8,
        metrics={"miou": 0.5},
    )


def trained(tiny_name: str, seed: int = 0) -> Network:
    torch.manual_seed(seed)
    network = build_network(tiny_name, task="segmentation", num_classes=5, taps={"early": "stem"})
    network.normalise.mean.fill_(0.25)
    return network


def test_a_network_comes_back_bit_for_bit_with_its_normalisation(tiny_name: str, tmp_path: Path) -> None:
    network = trained(tiny_name)
    saved = save_run_network(tmp_path / "r18", network, card_of(network))
    again = load_run_network(tmp_path / "r18")
    assert weights_digest(again) == weights_digest(network)
    assert again.normalise.mean.tolist() == [0.25] * 3
    assert again.config == network.config and again.taps == network.taps
    assert again.trained_head
    assert read_run_card(tmp_path / "r18") == saved


def test_saving_the_same_network_twice_writes_the_same_bytes(tiny_name: str, tmp_path: Path) -> None:
    network = trained(tiny_name)
    digests = {save_run_network(tmp_path / n, network, card_of(network)).weights_digest for n in ("a", "b")}
    assert len(digests) == 1
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["network.json", "student.safetensors"]


def test_other_weights_under_a_runs_name_are_refused(tiny_name: str, tmp_path: Path) -> None:
    network = trained(tiny_name)
    save_run_network(tmp_path / "r101", network, card_of(network))
    save_file(trained(tiny_name, seed=1).state_dict(), tmp_path / "r101/student.safetensors")
    with pytest.raises(BadWeights, match="other teacher weights under a run's name: run 'r101'") as caught:
        load_run_network(tmp_path / "r101")
    assert caught.value.where == str(tmp_path / "r101/student.safetensors")
    assert "under another name (--run NAME)" in caught.value.fix


@pytest.mark.parametrize("kept", [1, 2])
def test_a_kill_between_the_renames_leaves_one_whole_network(
    tiny_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    old, new = trained(tiny_name), trained(tiny_name, seed=1)
    save_run_network(tmp_path, old, card_of(old))
    renames = 0
    real = Path.replace

    def dying(self: Path, target: Path) -> Path:
        nonlocal renames
        renames += 1
        if renames == kept:
            raise KeyboardInterrupt
        return real(self, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", dying)
        save_run_network(tmp_path, new, card_of(new))
    expected = old if kept == 1 else new
    assert weights_digest(load_run_network(tmp_path)) == weights_digest(expected)


def test_a_run_without_a_network_says_how_to_finish_it(tmp_path: Path) -> None:
    (tmp_path / "r50").mkdir()
    with pytest.raises(Missing, match="run 'r50' has no trained network yet") as caught:
        read_run_card(tmp_path / "r50")
    assert "kdtrain --run r50" in caught.value.fix


@pytest.mark.parametrize(
    "change",
    [
        {"format": 3},
        {"crop": [1, 2]},
        {"task": "classification"},
        {"crop": "360"},
        {"extra": 1},
        {"network": {"name": 3}},
    ],
)
def test_a_card_that_cannot_be_read_is_named(
    tiny_name: str, tmp_path: Path, change: dict[str, object]
) -> None:
    network = trained(tiny_name)
    save_run_network(tmp_path, network, card_of(network))
    path = tmp_path / "network.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(BadWeights, match="the run's description cannot be read") as caught:
        read_run_card(tmp_path)
    assert caught.value.where == str(path)


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_the_weights_are_as_open_to_others_as_the_umask_says(
    tiny_name: str, tmp_path: Path, mask: int
) -> None:
    network = trained(tiny_name)
    before = os.umask(mask)
    try:
        save_run_network(tmp_path, network, card_of(network))
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir() if path.is_file()}
    assert modes == {"student.safetensors": 0o666 & ~mask, "network.json": 0o666 & ~mask}


def test_a_classifiers_run_says_its_task(tmp_path: Path) -> None:
    network = build_network("resnet8", task="classification", num_classes=5)
    saved = save_run_network(tmp_path, network, card_of(network))
    assert saved.task == read_run_card(tmp_path).task == "classification"
    again = load_run_network(tmp_path, output_stride=8)  # of a segmentation option: a classifier has its own
    assert again.task == "classification" and again.output_stride == 4
    assert weights_digest(again) == weights_digest(network)


def test_a_card_of_before_is_of_segmentation(tiny_name: str, tmp_path: Path) -> None:
    network = trained(tiny_name)
    save_run_network(tmp_path, network, card_of(network))
    path = tmp_path / "network.json"
    raw = json.loads(path.read_text())
    for later in ("task", "seal"):
        del raw[later]
    raw["format"] = 1
    assert "task" not in raw["network"]  # or the names of older caches would change
    path.write_text(json.dumps(raw))
    assert read_run_card(tmp_path).task == "segmentation" == load_run_network(tmp_path).task


def test_stride_and_taps_of_a_run_can_be_overridden(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build_network("r18", task="segmentation", num_classes=5, aux=True)
    save_run_network(tmp_path, network, dataclasses.replace(card_of(network), crop=(8, 8)))
    again = load_run_network(tmp_path, output_stride=16, taps={"stem": "encoder.model.act1"})
    assert again.tap_specs(["stage4", "stem"], 32, 32)["stage4"].stride == 16
    assert weights_digest(again) == weights_digest(network)
