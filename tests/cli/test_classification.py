"""Classification from the command line: train on arrays, cache, distil, judge beside the teacher."""

import json
from pathlib import Path

import numpy as np
import pytest
from class_data import draw_brightness
from click.testing import CliRunner, Result

from kdcache.cli.kdcache import main as kdcache
from kdcache.cli.kdtrain import kdtrain
from kdcache.trainer.config import TrainConfig
from kdcache.trainer.folder.metrics_log import read_metrics
from kdcache.trainer.folder.start import resolve_run_source
from kdcache.trainer.stream.run_source import open_run_source

TINY = [
    "--student", "tiny_classifier:make", "--steps", "4", "--batch-size", "4", "--device", "cpu",
    "--log", "none", "--lr-schedule", "multistep",
]  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn images in three brightnesses, a teacher trained on them, and its cache."""
    folder: Path = tmp_path_factory.mktemp("home")
    draw_brightness(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDCACHE_HOME", str(folder))
        trained = run(kdtrain, "--data", f"npz:{folder / 'tiny.npz'}", "--run", "teacher", *TINY)
        assert trained.exit_code == 0, trained.output
        built = run(kdcache, "build", "--teacher", "teacher", "--views", "crops:2", "--for", "kd")
        assert built.exit_code == 0, built.output
    return folder


@pytest.fixture(autouse=True)
def in_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDCACHE_HOME", str(home))


def run(program: object, *arguments: str) -> Result:
    return CliRunner().invoke(program, arguments, catch_exceptions=False)  # type: ignore[arg-type]


def test_the_task_is_found_and_the_student_that_answers_best_is_kept(home: Path) -> None:
    lines = read_metrics(home / "runs" / "teacher")
    validation = next(line for line in lines if line.get("split") == "val")
    assert {"top1", "top5", "nll", "ece", "per_class_accuracy"} <= set(validation)
    card = json.loads((home / "runs" / "teacher" / "network.json").read_text())
    assert card["metrics"]["best/top1"] == validation["top1"]
    options = (home / "runs" / "teacher" / "config.toml").read_text()
    assert 'task = "classification"' in options and 'augment = "pad=4,flip"' in options


def test_a_student_learns_from_the_cache_and_is_judged_beside_its_teacher(home: Path) -> None:
    trained = run(kdtrain, "--loss", "kd", "--run", "student", *TINY)
    assert trained.exit_code == 0, trained.output
    assert "classification, 3 classes" in trained.output and "stored, cache npz-teacher" in trained.output
    assert "kd" in read_metrics(home / "runs" / "student")[0]["loss"]
    out = home / "judged.json"
    judged = run(kdtrain, "eval", "student", "--teacher", "teacher", "--split", "test", "--out", str(out))
    assert judged.exit_code == 0, judged.output
    for part in ("6 images", "teacher 'teacher' is the run", "accuracy %", "agreement", "teacher_kl", "nats"):
        assert part in judged.output, judged.output
    figures = json.loads(out.read_text())
    assert 0 <= figures["agreement"] <= 1 and figures["num_images"] == 6


def test_a_network_agrees_with_itself(home: Path) -> None:
    out = home / "self.json"
    assert run(kdtrain, "eval", "teacher", "--teacher", "teacher", "--out", str(out)).exit_code == 0
    figures = json.loads(out.read_text())
    assert figures["agreement"] == 1 and figures["teacher_kl"] == pytest.approx(0, abs=1e-6)


def test_fresh_views_follow_the_recipe_and_a_resumed_run_keeps_it(home: Path) -> None:
    data = ["--data", f"npz:{home / 'tiny.npz'}", "--augment", "flip,pad=2", "--run", "fresh"]
    trained = run(kdtrain, *data, *TINY)
    assert trained.exit_code == 0 and "pad=2,flip" in trained.output, trained.output
    assert run(kdtrain, "--run", "fresh", "--resume", "--augment", "flip,pad=2").exit_code == 0
    other = run(kdtrain, "--run", "fresh", "--resume", "--augment", "flip")
    assert other.exit_code == 2 and "--augment flip differs from flip,pad=2" in other.stderr


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--exit", "1"], ["has no exits", "kdtrain --loss byot"]),
        (["--teacher-weights", "w.safetensors"], ["--teacher-weights without a teacher", "add --teacher"]),
        (["--teacher", "nobody"], ["nobody", "fix:"]),
    ],
)
def test_a_wrong_question_about_a_run_is_answered_in_three_parts(
    arguments: list[str], parts: list[str]
) -> None:
    result = run(kdtrain, "eval", "teacher", *arguments)
    assert result.exit_code == 2 and "\n  where: " in result.stderr
    assert all(part in result.stderr for part in parts), result.stderr


@pytest.mark.parametrize("stored", [False, True])
def test_losses_are_told_the_class_of_every_sample(home: Path, stored: bool) -> None:
    """By the index that a batch carries: a memory of negatives would mix classes up otherwise."""
    pixels = {} if stored else {"data": f"npz:{home / 'tiny.npz'}"}
    config = resolve_run_source(TrainConfig(run="r", **pixels), home)
    facts = open_run_source(config, home, output_stride=None).facts(batch_size=6)
    expected = np.load(home / "tiny.npz")["y_train"][:18]  # the last tenth is the validation split
    assert facts.labels_N is not None and facts.labels_N.tolist() == expected.tolist()
    assert (facts.num_classes, facts.num_samples, facts.steps_per_epoch) == (3, 18, 3.0)
    assert facts.input_size == (16, 16) and facts.task == "classification"
    assert facts.classifier_KD is None or facts.classifier_KD.shape == (3, 6)


def test_taps_of_a_classifier_are_listed_without_data() -> None:
    listed = run(kdcache, "taps", "--teacher", "resnet20")
    assert listed.exit_code == 0 and "input 32x32" in listed.output, listed.output
    assert all(tap in listed.output for tap in ("stage3", "pre3", "embedding", "logits"))
    asked = run(kdcache, "taps", "--teacher", "timm:resnet18", "--task", "classification", "--classes", "7")
    assert asked.exit_code == 0 and "embedding" in asked.output and "logits" in asked.output, asked.output
    plain = run(kdcache, "taps", "--teacher", "timm:resnet18")  # a backbone of segmentation networks
    assert plain.exit_code == 0 and "embedding" not in plain.output
    refused = run(kdcache, "taps", "--teacher", "resnet20", "--output-stride", "8")
    assert refused.exit_code == 2 and "--output-stride 8 for classification" in refused.stderr


def test_show_names_the_losses_that_these_views_can_serve() -> None:
    shown = " ".join(run(kdcache, "show").output.split()).partition("losses it can serve: ")[2].split(", ")
    assert {"none", "kd", "dkd", "dml"} <= set(shown)
    assert not {"dafl", "sskd", "crd", "cirkd"} & set(shown), "invented images, turns, a tap, the other task"
