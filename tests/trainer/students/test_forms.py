"""Students of several networks: their taps, the gradients that reach each part, and the one that is kept."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor

from kdcache.cache.errors import BadOption, BadWeights, Missing
from kdcache.cache.networks.build import build_network
from kdcache.cache.networks.network import Network
from kdcache.cache.networks.run import load_run_network
from kdcache.cache.networks.run_card import RunCard, save_run_network
from kdcache.losses.contract import StudentForm
from kdcache.trainer.steps.step import Ema
from kdcache.trainer.students import exit_file
from kdcache.trainer.students.branches import Branches
from kdcache.trainer.students.contract import SeveralStudents, deployed_of
from kdcache.trainer.students.exits import Exits, load_exit
from kdcache.trainer.students.export import in_any_form
from kdcache.trainer.students.peers import Peers
from kdcache.trainer.students.wrap import wrap_student

CLASSES = 5
NAMES = ("resnet8x4", "wrn-16-1", "timm:resnet18")


def make(name: str = "resnet8x4") -> Network:
    return build_network(name, task="classification", num_classes=CLASSES, role="student")


def wrapped(form: StudentForm, name: str = "resnet8x4") -> SeveralStudents:
    torch.manual_seed(0)
    student = wrap_student(form, lambda: make(name))
    assert isinstance(student, SeveralStudents)
    return student


def images(num: int = 2) -> Tensor:
    return torch.randint(0, 256, (num, 32, 32, 3), generator=torch.Generator().manual_seed(3)).byte()


def save(run_dir: Path, student: torch.nn.Module | None, metrics: object) -> None:
    if student is None:
        return
    assert isinstance(student, Network)
    save_run_network(run_dir, student, card(student))


def card(network: Network) -> RunCard:
    return RunCard(
        network=network.config.to_dict(), data="npz:x", class_names=("a",) * CLASSES,
        crop=(32, 32), output_stride=network.output_stride,
    )  # fmt: skip


@pytest.mark.parametrize(
    "form",
    [
        StudentForm("peers", 3, deployed=2),
        StudentForm("branches", 3, deployed=1),
        StudentForm("branches", 2, option="bpscale"),
        StudentForm("exits", 2),
        StudentForm("exits", 2, option="attention"),
    ],
    ids=str,
)
def test_every_tap_has_the_announced_size_and_the_deployed_one_gives_the_logits(
    form: StudentForm,
) -> None:
    student = wrapped(form).eval()
    with torch.no_grad():
        maps = student(images(), student.taps)
        deployed = student.deployed.eval()(images(), ("embedding", "logits"))
    for tap, spec in student.tap_specs(student.taps, 32, 32).items():
        *cells, channels = spec.shape
        assert maps[tap].shape == (2, channels, *cells), tap
        assert spec.stride == (32 // cells[0] if cells else 0), tap
    for tap in ("embedding", "logits"):
        torch.testing.assert_close(maps[tap], deployed[tap])


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_trunk_and_deployed_branch_become_a_network_of_the_students_name(name: str, tmp_path: Path) -> None:
    student = wrapped(StudentForm("branches", 2, deployed=1), name)
    moved = torch.optim.SGD(student.parameters(), 0.1)
    student(images(), ("peer0.logits", "peer1.logits"))["peer1.logits"].square().sum().backward()
    moved.step()
    in_any_form(save)(tmp_path / "r", student, {})
    loaded = load_run_network(tmp_path / "r").eval()
    student.eval()
    with torch.no_grad():
        assert torch.equal(loaded(images(), ("logits",))["logits"], student(images(), ("logits",))["logits"])
    assert loaded.name == make(name).name
    ema = Ema(student, 0.5)
    assert deployed_of(ema.network) is not student.deployed


def test_scaled_branches_send_a_part_of_their_gradient_into_the_trunk() -> None:
    plain, scaled = (wrapped(StudentForm("branches", 4, option=option)) for option in ("", "bpscale"))
    for student in (plain, scaled):
        said = student(images(), tuple(f"peer{i}.logits" for i in range(4)))
        torch.stack(list(said.values())).square().sum().backward()
    assert isinstance(plain, Branches) and isinstance(scaled, Branches)
    for one, four in zip(scaled.trunk.parameters(), plain.trunk.parameters(), strict=True):
        torch.testing.assert_close(one.grad, four.grad / 4)
    for one, same in zip(scaled.branches.parameters(), plain.branches.parameters(), strict=True):
        torch.testing.assert_close(one.grad, same.grad)


def test_branches_and_peers_begin_at_different_weights() -> None:
    for form in (StudentForm("branches", 2), StudentForm("peers", 2)):
        maps = wrapped(form).eval()(images(), ("peer0.logits", "peer1.logits"))
        assert not torch.allclose(maps["peer0.logits"], maps["peer1.logits"])


def test_peers_whose_turn_it_is_not_are_constants() -> None:
    student = wrapped(StudentForm("peers", 2))
    assert isinstance(student, Peers)
    student.learner = 1
    maps = student(images(), ("peer0.logits", "peer1.logits"))
    assert [value.requires_grad for value in maps.values()] == [False, True]


def test_a_network_without_a_known_last_stage_takes_no_branches() -> None:
    network = build_network("tiny_classifier:make", task="classification", num_classes=3, role="student")
    with pytest.raises(BadOption, match="cannot be cut before its last stage") as error:
        wrap_student(StudentForm("branches", 2), lambda: network)
    assert "resnet" in error.value.fix


def test_more_exits_than_earlier_stages_are_refused() -> None:
    with pytest.raises(BadOption, match="3 exits need 4 stages and an embedding") as error:
        wrapped(StudentForm("exits", 3))
    assert "fewer exits" in error.value.fix and "resnet8x4" in error.value.where


def test_an_exit_that_is_not_read_does_not_run() -> None:
    student = wrapped(StudentForm("exits", 2))
    assert isinstance(student, Exits)
    student(images(), ("exit2.logits",))["exit2.logits"].sum().backward()
    assert all(p.grad is None for p in student.exits[0].parameters())
    assert all(p.grad is not None for p in student.exits[1].parameters())


@pytest.mark.parametrize("kind", ["peers", "branches"])
def test_who_is_not_asked_does_not_run(kind: Literal["peers", "branches"]) -> None:
    """Or DDP would wait for a gradient that never comes."""
    student = wrapped(StudentForm(kind, 3))
    members = student.networks if isinstance(student, Peers) else student.branches
    ran: list[int] = []
    for index, member in enumerate(members):  # type: ignore[arg-type]
        member.register_forward_hook(lambda *_, index=index: ran.append(index))
    student(images(), ("peer1.logits",))
    assert ran == [1]


def test_an_unknown_tap_of_a_form_names_the_nearest() -> None:
    with pytest.raises(BadOption, match="unknown tap 'exit2.logit'") as error:
        wrapped(StudentForm("exits", 2))(images(), ("exit2.logit",))
    assert "exit2.logits" in error.value.fix


@pytest.fixture
def exported(tmp_path: Path) -> tuple[Exits, Path]:
    student = wrapped(StudentForm("exits", 2, option="attention"))
    assert isinstance(student, Exits)
    in_any_form(save)(tmp_path / "r", student, {})
    return student, tmp_path / "r"


@pytest.mark.parametrize("number", [1, 2])
def test_an_exit_is_loaded_from_its_run(exported: tuple[Exits, Path], number: int) -> None:
    student, run_dir = exported
    with torch.no_grad():
        trained = student.eval()(images(), (f"exit{number}.logits",))[f"exit{number}.logits"]
        assert torch.equal(load_exit(run_dir, number)(images(), ("logits",))["logits"], trained)


def test_the_exported_student_holds_no_exit(exported: tuple[Exits, Path]) -> None:
    student, run_dir = exported
    assert load_run_network(run_dir).state_dict().keys() == make().state_dict().keys()


@pytest.mark.parametrize("number", [0, 3])
def test_an_exit_that_does_not_exist_is_refused(exported: tuple[Exits, Path], number: int) -> None:
    with pytest.raises(BadOption, match=f"has exits 1 to 2, and no exit {number}") as error:
        load_exit(exported[1], number)
    assert error.value.where == f"--exit {number}" and "leave --exit out" in error.value.fix


def test_a_run_without_exits_says_so(tmp_path: Path) -> None:
    in_any_form(save)(tmp_path / "r", make(), {})
    with pytest.raises(Missing, match="run 'r' has no exits") as error:
        load_exit(tmp_path / "r", 1)
    assert "byot" in error.value.fix


def test_a_kill_anywhere_in_an_export_leaves_the_old_pair_or_the_new_one(
    exported: tuple[Exits, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    old, run_dir = exported
    torch.manual_seed(9)
    new = Exits(make(), count=2, form="attention").eval()
    answers = {}
    with torch.no_grad():
        for name, student in (("old", old.eval()), ("new", new)):
            answers[name] = student(images(), ("logits", "exit1.logits"))

    def stop(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    kills: list[Callable[[pytest.MonkeyPatch], None]] = [
        lambda patch: patch.setattr(exit_file, "save_tensors", stop),  # before anything waits on disk
        lambda patch: patch.setattr(exit_file, "sync", stop),  # the weights wait, their description does not
        lambda patch: patch.setattr(exit_file, "replace", stop),  # after the student's export
    ]
    for kill, expected in zip(kills, ("old", "old", "new"), strict=True):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            kill(patch)
            in_any_form(save)(run_dir, new, {})
        with torch.no_grad():
            loaded = load_exit(run_dir, 1)(images(), ("logits",))["logits"]
            network = load_run_network(run_dir).eval()(images(), ("logits",))["logits"]
        assert torch.equal(loaded, answers[expected]["exit1.logits"])
        assert torch.equal(network, answers[expected]["logits"])


def test_exits_of_another_student_are_never_joined_to_this_one(exported: tuple[Exits, Path]) -> None:
    _, run_dir = exported
    torch.manual_seed(5)
    save(run_dir, make(), {})
    with pytest.raises(BadWeights, match="exits of run 'r' are not those of its student") as error:
        load_exit(run_dir, 1)
    assert "--resume" in error.value.fix
