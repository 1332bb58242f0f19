"""Several teachers as one."""

import copy
from pathlib import Path

import pytest
import torch
from plain_weights import save_file
from torch import Tensor

from kdcache.cache.errors import BadOption
from kdcache.cache.look.teacher import network_for_listing
from kdcache.cache.networks.build import build_network, rebuild
from kdcache.cache.networks.ensemble import Ensemble
from kdcache.cache.networks.files.weights_file import WeightsFile
from kdcache.cache.networks.network import Network
from kdcache.cache.networks.network_config import NetworkConfig
from kdcache.cache.networks.resolve import resolve_teacher
from kdcache.cache.networks.run_card import RunCard, save_run_network
from kdcache.cache.networks.weights import fit_weights, weights_digest

TAPS = ["a.stage3", "b_1.embedding", "a.logits", "b_1.logits"]


def make_run(folder: Path, name: str, num_classes: int = 4, task: str = "classification") -> Network:
    torch.manual_seed(len(str(folder)))
    network = build_network(
        name, task="classification" if task == "classification" else "segmentation", num_classes=num_classes
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    card = RunCard(
        network=network.config.to_dict(),
        data="cifar10:/data",
        class_names=tuple("abcdefgh"[:num_classes]),
        crop=(32, 32),
        output_stride=network.output_stride,
    )
    save_run_network(folder, network, card)
    return network.eval()


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    make_run(tmp_path / "a", "resnet8")
    make_run(tmp_path / "b.1", "wrn-10-1")
    return tmp_path


def ensemble(runs: Path, name: str = "a,b.1", mean: bool = False, **taps: str) -> Network:
    network, _, _ = resolve_teacher(
        name, runs, task="classification", num_classes=4, mean=mean, taps=taps or None
    )
    return network.eval()


def pixels() -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8, generator=generator)


def test_every_members_taps_are_there_and_are_the_members_own(runs: Path) -> None:
    network = ensemble(runs)
    values = network(pixels(), TAPS)
    assert list(values) == TAPS
    for folder, label in (("a", "a"), ("b.1", "b_1")):
        member, card, _ = resolve_teacher(folder, runs, num_classes=4)
        assert card is not None and card.task == "classification"
        expected = member.eval()(pixels(), ["logits"])["logits"]
        assert torch.equal(values[f"{label}.logits"], expected)
    specs = network.tap_specs(TAPS, 32, 32)
    assert [specs[tap].shape for tap in TAPS] == [(8, 8, 64), (64,), (4,), (4,)]
    assert "logits" not in network.taps and network.num_classes == 4 and network.task == "classification"


def test_the_choice_names_every_member(runs: Path) -> None:
    _, card, choice = resolve_teacher("a,b.1", runs, task="classification", num_classes=4, mean=True)
    assert card is not None and card.crop == (32, 32)
    assert "is an ensemble of 2 with their mean logits: teacher 'a' is the run" in choice
    assert "teacher 'b.1' is the run" in choice


def test_the_mean_is_taken_before_softmax(runs: Path) -> None:
    network = ensemble(runs, mean=True)
    values = network(pixels(), ["a.logits", "logits", "b_1.logits"])
    torch.testing.assert_close(values["logits"], (values["a.logits"] + values["b_1.logits"]) / 2)
    assert torch.equal(network(pixels(), ["logits"])["logits"], values["logits"])
    assert network.tap_specs(["logits"], 32, 32)["logits"].shape == (4,)


def test_a_member_that_is_not_asked_does_not_run(runs: Path) -> None:
    network = ensemble(runs)
    assert isinstance(network, Ensemble)

    def fail(*_: object) -> None:
        raise AssertionError("ran")

    network.members["b_1"].register_forward_pre_hook(fail)
    network(pixels(), ["a.logits"])
    with pytest.raises(AssertionError, match="ran"):
        network(pixels(), ["b_1.logits"])


def test_an_ensemble_is_rebuilt_from_its_configuration(runs: Path) -> None:
    network = ensemble(runs, mean=True, **{"a.mine": "a.model.layer2"})
    config = NetworkConfig.from_dict(network.config.to_dict())
    assert config == network.config
    again = rebuild(config)
    assert again.taps == network.taps and again.taps["a.mine"] == "a.model.layer2"
    assert weights_digest(again) != weights_digest(network)
    fit_weights(again, WeightsFile(state=network.state_dict(), origin="memory"))
    assert weights_digest(again) == weights_digest(network)
    assert torch.equal(again.eval()(pixels(), ["logits"])["logits"], network(pixels(), ["logits"])["logits"])


def test_a_manifests_places_bring_the_same_ensemble_back(runs: Path) -> None:
    first = ensemble(runs, mean=True)
    again = ensemble(runs, mean=True, **first.taps)  # a cache names the place of every tap it keeps
    assert again.taps == first.taps and weights_digest(again) == weights_digest(first)
    plain = {k: v for k, v in first.config.to_dict().items() if k != "taps"}
    assert {k: v for k, v in again.config.to_dict().items() if k != "taps"} == plain


def test_a_place_of_no_member_is_refused(runs: Path) -> None:
    with pytest.raises(BadOption, match="tap 'mine' is of no member of the ensemble") as caught:
        ensemble(runs, mine="layer2")
    assert "members: a, b_1" in caught.value.fix


def test_networks_and_runs_of_one_label_are_told_apart(runs: Path, tmp_path: Path) -> None:
    make_run(tmp_path / "elsewhere/a", "resnet8")
    network = ensemble(runs, f"a,{tmp_path / 'elsewhere/a'}")
    assert isinstance(network, Ensemble) and list(network.members) == ["a", "a_2"]


def test_networks_take_one_weights_entry_each(runs: Path, tmp_path: Path) -> None:
    files = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        state = build_network("resnet8", task="classification", num_classes=4).state_dict()
        save_file(state, tmp_path / f"{seed}.safetensors")
        files.append(str(tmp_path / f"{seed}.safetensors"))
    network, _, _ = resolve_teacher(
        "resnet8,a,resnet8", runs, task="classification", num_classes=4, weights=f"{files[0]},,{files[1]}"
    )
    assert isinstance(network, Ensemble) and list(network.members) == ["resnet8", "a", "resnet8_2"]
    assert not torch.equal(
        *(network.members[m].state_dict()["model.fc.weight"] for m in ("resnet8", "resnet8_2"))
    )
    with pytest.raises(BadOption, match="1 weights for the 2 members"):
        resolve_teacher("resnet8,a", runs, task="classification", num_classes=4, weights=files[0])
    with pytest.raises(BadOption, match="'resnet8' is named twice with the same weights"):
        resolve_teacher(
            "resnet8,resnet8", runs, task="classification", num_classes=4, weights=f"{files[0]},{files[0]}"
        )


@pytest.mark.parametrize(
    ("name", "what"), [("a,b.1,a", "run 'a' is named twice"), ("a,", "a name is missing")]
)
def test_a_run_is_named_once(runs: Path, name: str, what: str) -> None:
    with pytest.raises(BadOption, match=what) as caught:
        ensemble(runs, name)
    assert caught.value.where == f"--teacher {name}" and "once" in caught.value.fix


def test_members_for_other_classes_or_another_task_are_refused(runs: Path, tiny_name: str) -> None:
    make_run(runs / "five", "resnet8", num_classes=5)
    make_run(runs / "maps", tiny_name, task="segmentation")
    for other, what in (("five", "five classification of 5 classes"), ("maps", "maps segmentation of 4")):
        with pytest.raises(BadOption, match="members of an ensemble answer different questions") as caught:
            resolve_teacher(f"a,{other}", runs, num_classes=None)
        assert what in caught.value.what and "one task" in caught.value.fix
    with pytest.raises(BadOption, match="run 'maps' was trained for segmentation, the data are for classif"):
        ensemble(runs, "a,maps")


def test_the_mean_of_one_teacher_is_refused(runs: Path) -> None:
    with pytest.raises(BadOption, match="'a' is one teacher, and --mean asks for the mean of several"):
        ensemble(runs, "a", mean=True)


def test_segmentation_teachers_form_ensembles_too(tmp_path: Path, tiny_name: str) -> None:
    for name in ("x", "y"):
        make_run(tmp_path / name, tiny_name, task="segmentation")
    network, _, _ = resolve_teacher("x,y", tmp_path, num_classes=4, mean=True)
    values = network(pixels()[:, :9, :14], ["x.stage1", "logits"])
    assert values["x.stage1"].shape[2:] == (5, 7) and values["logits"].shape == (2, 4, 3, 4)


@pytest.mark.slow
def test_teachers_without_equal_logits_have_no_mean(tmp_path: Path) -> None:
    for stride in (8, 16):
        torch.manual_seed(0)
        network = build_network("mbv2", task="segmentation", num_classes=3, output_stride=stride)
        save_file(network.state_dict(), tmp_path / f"{stride}.safetensors")
    members = {
        f"s{s}": build_network("mbv2", task="segmentation", num_classes=3, output_stride=s) for s in (8, 16)
    }
    with pytest.raises(BadOption, match="logits of these teachers have no mean: sizes") as caught:
        Ensemble("s8,s16", members, mean=True)
    assert "--mean" in caught.value.where
    backbone = build_network("timm:resnet18", task="segmentation", num_classes=3)
    with pytest.raises(BadOption, match="no mean: bare has none"):
        Ensemble("s8,bare", {"s8": members["s8"], "bare": backbone}, mean=True)


def test_normalised_input_needs_one_normalisation(runs: Path) -> None:
    network = ensemble(runs)
    inputs_BCHW = torch.randn(1, 3, 32, 32, requires_grad=True)
    network.read_normalised(inputs_BCHW, ["a.logits", "b_1.logits"])["b_1.logits"].sum().backward()
    assert inputs_BCHW.grad is not None
    assert isinstance(network, Ensemble) and network.classifier_weight() is None
    other = copy.deepcopy(network)
    other.members["a"].normalise.mean.fill_(0.5)
    with pytest.raises(BadOption, match="normalise pixels in 2 ways"):
        other.read_normalised(inputs_BCHW, ["a.logits"])


@pytest.mark.parametrize(
    ("name", "task", "size", "tap"),
    [
        ("a", None, (32, 32), "pre2"),
        ("a,b.1", None, (32, 32), "b_1.embedding"),
        ("resnet20", None, (32, 32), "stage3"),
        ("r18", "classification", (224, 224), "embedding"),
        ("resnet8,a", "classification", (32, 32), "resnet8.logits"),
    ],
)
def test_taps_are_listed_for_classification_too(
    runs: Path, name: str, task: object, size: tuple[int, int], tap: str
) -> None:
    network, listed = network_for_listing(name, runs, 4, None, "classification" if task else None)
    assert listed == size and tap in network.tap_specs(list(network.taps), *listed)
