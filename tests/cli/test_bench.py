"""`kdtrain eval`, `compare` and `report` as they are typed, where answers are words or boxes."""

import json
from pathlib import Path

import pytest
from class_data import draw_brightness
from click.testing import CliRunner, Result
from painted_objects import painted_set, write_coco

from kdcache.cache.errors import Refused
from kdcache.cli.kdcache import main as kdcache
from kdcache.cli.kdtrain import kdtrain
from kdcache.trainer.bench.scoring import judge_and_keep
from kdcache.trainer.folder.scores import read_scores

TINY = [
    "--student", "tiny_classifier:make", "--steps", "4", "--batch-size", "4", "--device", "cpu",
    "--log", "none", "--eval-every", "2",
]  # fmt: skip
DETECTOR = ["--student", "gfl(width=16,convs=1):test_resnet", "--weights", "none", "--batch-size", "4"]
DETECTOR += ["--steps", "2", "--log", "none", "--device", "cpu"]


def typed(program: object, *words: str) -> Result:
    return CliRunner().invoke(program, list(words), catch_exceptions=False)  # type: ignore[arg-type]


def done(program: object, *words: str) -> str:
    result = typed(program, *words)
    assert result.exit_code == 0, result.output + result.stderr
    return result.output


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images in three brightnesses, a teacher, its cache, and two students of one seed."""
    folder: Path = tmp_path_factory.mktemp("home")
    draw_brightness(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDCACHE_HOME", str(folder))
        done(kdtrain, "--data", f"npz:{folder / 'tiny.npz'}", "--run", "teacher", *TINY)
        done(kdcache, "build", "--teacher", "teacher", "--views", "crops:2", "--for", "kd")
        for loss in ("none", "kd"):
            done(kdtrain, "--loss", loss, "--run", loss, *TINY)
    return folder


@pytest.fixture(autouse=True)
def at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDCACHE_HOME", str(home))


def test_eval_keeps_what_it_says_of_the_runs_own_data_and_nothing_else(home: Path, tmp_path: Path) -> None:
    run, out = home / "runs" / "kd", tmp_path / "figures.json"
    done(kdtrain, "eval", "kd", "--split", "val", "--data", f"npz:{home / 'tiny.npz'}")
    assert read_scores(run, "val") is None
    done(kdtrain, "eval", "kd", "--split", "val", "--out", str(out))
    kept = read_scores(run, "val")
    assert kept == json.loads(out.read_text()) and kept is not None and kept["num_images"] == 2
    assert judge_and_keep(run, home=home, split="test", device="cpu", threads=None)["split"] == "test"
    assert read_scores(run, "test") is not None
    (run / "scores" / "test.json").unlink()


def test_eval_of_a_run_that_may_only_be_read_says_its_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise Refused("the scores could not be kept: this user has no permission", where="w", fix="f")

    monkeypatch.setattr("kdcache.trainer.folder.scores.write_scores", refuse)
    said = done(kdtrain, "eval", "kd")
    assert "top1" in said and "not kept with the run: the scores could not be kept" in said


def test_compare_has_the_teacher_and_the_readings(home: Path) -> None:
    said = done(kdtrain, "compare")
    lines = {line.split()[0]: line for line in said.splitlines() if line}
    assert {"teacher", "none", "kd"} <= lines.keys() and "One seed: kd." in said
    card = json.loads((home / "runs" / "kd" / "network.json").read_text())
    assert f"{100 * card['metrics']['best/top1']:.2f}" in lines["kd"]
    assert json.loads(done(kdtrain, "compare", "--json"))["metric"] == "top1"
    assert " kd | stored | 1 | 50.00 |" in done(kdtrain, "compare", "kd", "none", "--markdown")


def test_runs_beside_a_sweep_are_refused() -> None:
    for command in ("compare", "report"):
        said = typed(kdtrain, command, "kd", "--sweep", "first")
        assert said.exit_code == 2 and "runs and a sweep are two choices of what is compared" in said.stderr
        assert "leave --sweep out, or name no run" in said.stderr


def test_a_report_of_classifiers_says_their_answers_in_words(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "made" / "page.html"
    said = done(kdtrain, "report", "--out", str(out), "--analysis")
    page = out.read_text(encoding="utf-8")
    assert f"written: {out}" in said
    answers = page.count('<div class="words')
    assert (page.count('<img alt="image"'), answers) == (2, 2 * 4), "truth, teacher, none, kd"
    assert "At tap stage1, on 2 whole images" in page
    wrong = page.count('<div class="words wrong">')
    assert 0 < wrong < 6, "of some answers the page says that they are wrong"


@pytest.mark.slow
def test_a_report_of_detectors_shows_boxes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDCACHE_HOME", str(tmp_path))
    write_coco(tmp_path / "data", painted_set(8), "train")
    write_coco(tmp_path / "data", painted_set(4, 50), "val")
    data = ["--data", f"coco:{tmp_path / 'data'}", "--crop", "64,96"]
    done(kdtrain, "--run", "teacher", *data, *DETECTOR)
    done(kdcache, "build", "--teacher", "teacher", "--views", "crops:1", *data[2:])
    for loss in ("none", "bckd"):
        done(kdtrain, "--loss", loss, "--run", loss, *DETECTOR)
    out = tmp_path / "page.html"
    done(kdtrain, "report", "--out", str(out), "--analysis")
    page = out.read_text(encoding="utf-8")
    assert page.count('<img alt="where the answers differ"') == 4 and page.count('<img alt="bckd"') == 4
    assert '<h2 id="analysis">' in page
