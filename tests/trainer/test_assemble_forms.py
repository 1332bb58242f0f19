"""Options to a finished run, for every form of student and step: what is exported is an ordinary network."""

from pathlib import Path
from typing import Any

import pytest
import torch
from class_data import draw_npz
from dying_step import dies_in_step

from kdcache.cache.errors import BadOption, Missing
from kdcache.cache.networks.run import load_run_network
from kdcache.trainer.folder.checkpoint import list_checkpoints, load_latest
from kdcache.trainer.folder.metrics_log import read_metrics
from kdcache.trainer.run import train_run
from kdcache.trainer.students.exits import load_exit

TINY = {"student": "resnet8x4", "batch_size": 4, "steps": 2, "device": "cpu", "log": "none", "save_every": 1}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    draw_npz(tmp_path / "drawn", (16, 16, 3))
    return tmp_path


def start(home: Path, run: str, **options: Any) -> Path:
    train_run({**TINY, "data": f"npz:{home / 'drawn' / 'small.npz'}", "run": run, **options}, home=home)
    return home / "runs" / run


@pytest.mark.slow
@pytest.mark.parametrize(
    "loss", ["byot(exits=2)", "dml", "dml(form=okddip)", "okddip(peers=3)", "one", "cl-ilr(branches=2)"]
)
def test_students_that_learn_from_each_other_leave_one_network(home: Path, loss: str) -> None:
    run_dir = start(home, "r", loss=loss)
    plain = start(home, "plain", loss="none")
    assert load_run_network(run_dir).state_dict().keys() == load_run_network(plain).state_dict().keys()
    assert "top1" in read_metrics(run_dir)[-1]
    if loss.startswith("byot"):
        assert load_exit(run_dir, 2)(torch.zeros(1, 16, 16, 3), ("logits",))["logits"].shape == (1, 3)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["byot(exits=2)", "dml", "cl-ilr(branches=2)"])
def test_killed_and_resumed_they_end_bit_identical(
    home: Path, monkeypatch: pytest.MonkeyPatch, loss: str
) -> None:
    options = {"loss": loss, "steps": 4, "accumulate": 2, "ema": 0.9, "eval_every": 2}
    whole = start(home, "whole", **options)
    dies_in_step(3, lambda: start(home, "r", **options), monkeypatch)
    train_run({"run": "r"}, home=home, resume=True)
    killed = home / "runs" / "r"
    digests = [(list_checkpoints(d)[-1] / "digests.json").read_text() for d in (whole, killed)]
    assert digests[0] == digests[1]
    assert (whole / "student.safetensors").read_bytes() == (killed / "student.safetensors").read_bytes()


def test_a_generators_run_reads_no_image_and_leaves_the_student(home: Path) -> None:
    start(home, "teacher", loss="none")
    run_dir = start(home, "r", loss="dafl(latent=4)", online=True, teacher="teacher")
    assert '"views": "generated"' in (run_dir / "environment.json").read_text()
    assert load_run_network(run_dir).name == load_run_network(home / "runs" / "teacher").name


def test_a_generator_without_a_live_teacher_says_what_to_add(home: Path) -> None:
    with pytest.raises(BadOption, match="images that it invents: a cache has no answers") as error:
        start(home, "r", loss="dafl")
    assert error.value.where == "--loss dafl" and "--online --teacher" in error.value.fix


def test_a_student_of_several_networks_is_not_compiled(home: Path) -> None:
    with pytest.raises(BadOption, match="--compile with a student of 2 peers") as error:
        start(home, "r", loss="dml", compile=True)
    assert "leave --compile out" in error.value.fix


def test_branches_have_no_encoder_to_freeze_or_to_slow(home: Path) -> None:
    options = {"student": "r18", "weights": "none", "loss": "cl-ilr(branches=2)"}
    with pytest.raises(
        BadOption, match="--freeze with a student of 2 branches, which has no encoder"
    ) as error:
        start(home, "r", freeze="stem+stage1", **options)
    assert error.value.fix == "leave --freeze out"
    with pytest.raises(BadOption, match="--encoder-lr for a student without an encoder"):
        start(home, "r", **{**options, "student": "resnet8x4"}, encoder_lr=0.5)


def test_init_begins_with_the_student_and_the_learned_parts_of_a_run(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(home, "teacher", loss="none")
    first = start(home, "first", loss="fitnet", online=True, teacher="teacher", seed=3)
    saved = load_latest(first)
    assert saved is not None
    second = start(home, "second", loss="fitnet", online=True, teacher="teacher", init="first", lr=1e-12)
    begun = load_latest(second)
    assert begun is not None
    weights = [n for n in saved.states["distiller"] if n.endswith("weight")]
    assert any(name.startswith("losses.") for name in weights)
    for name in weights:
        torch.testing.assert_close(begun.states["distiller"][name], saved.states["distiller"][name])


def test_init_is_refused_where_several_students_begin_apart(home: Path) -> None:
    start(home, "first", loss="none")
    with pytest.raises(BadOption, match="--init holds one student, and this loss trains several") as error:
        start(home, "r", loss="dml", init="first")
    assert error.value.where == "--init first"


def test_init_with_a_run_that_is_not_there_names_those_that_are(home: Path) -> None:
    start(home, "first", loss="none")
    with pytest.raises(Missing, match="no run 'frist'") as error:
        start(home, "r", loss="none", init="frist")
    assert "first" in error.value.fix


@pytest.mark.slow
def test_init_says_what_was_not_taken_and_refuses_a_run_of_which_nothing_fits(home: Path) -> None:
    start(home, "first", loss="none")
    notes: list[str] = []
    train_run(
        {**TINY, "student": "resnet32x4", "data": f"npz:{home / 'drawn' / 'small.npz'}", "run": "r",
         "loss": "none", "init": "first"},
        home=home, listen=lambda event: notes.extend(getattr(event, "notes", ())),
    )  # fmt: skip
    (line,) = {note for note in notes if note.startswith("begins with run 'first'")}
    assert "taken" in line and "not:" in line
    with pytest.raises(BadOption, match="nothing of run 'first' fits") as error:
        start(home, "other", student="tiny_classifier:make", loss="none", init="first")
    assert "same student" in error.value.fix
