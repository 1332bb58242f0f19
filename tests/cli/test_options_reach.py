"""`kdtrain`, `kdtrain eval` and the commands for looking: what is typed reaches the function behind them."""

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from kdcache.cache.look.verify import DeepError
from kdcache.cache.processes.stop import Stopped
from kdcache.cli.caches import show_table, verify_display
from kdcache.cli.kdcache import main as kdcache
from kdcache.cli.kdtrain import kdtrain
from kdcache.trainer.judge.segmentation import SegmentationMetrics
from kdcache.trainer.run import Judged

# Imported for the first time while `open_cache` is another, they would keep that one for the whole process.
assert show_table and verify_display


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KDCACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for check in ("configured", "check_asked"):  # what they refuse: test_startup.py
        monkeypatch.setattr(f"kdcache.trainer.folder.start.{check}", lambda *_, **__: None)
    monkeypatch.setattr("kdcache.cache.sources.table.check_data", lambda *_: None)
    return tmp_path


def kd(program: Any, *arguments: str) -> Result:
    return CliRunner().invoke(program, arguments)


class Heard:
    """Stands for the function behind a command; `answer` is what it returns."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer
        self.positional: tuple[Any, ...] = ()
        self.named: dict[str, Any] = {}

    def __call__(self, *positional: Any, **named: Any) -> Any:
        self.positional, self.named = positional, named
        return self.answer


@pytest.fixture
def trained(home: Path, monkeypatch: pytest.MonkeyPatch) -> Heard:
    heard = Heard()
    monkeypatch.setattr("kdcache.trainer.run.train_run", heard)
    return heard


TYPED: list[tuple[list[str], dict[str, object]]] = [
    (["--student", "r34", "--loss", "kd", "--name", "x"], {"student": "r34", "loss": "kd", "run": "x"}),
    (["--data", "camvid:d", "--seed", "0"], {"data": "camvid:d", "seed": 0}),
    (["--cache", "c", "--online", "--teacher", "t"], {"cache": "c", "online": True, "teacher": "t"}),
    (["--teacher-weights", "w", "--views", "fresh"], {"teacher_weights": "w", "views": "fresh"}),
    (["--crop", "32,48", "--augment", "flip"], {"crop": (32, 48), "augment": "flip"}),
    (["--weights", "none", "--init", "r"], {"weights": "none", "init": "r"}),
    (["--output-stride", "16", "--no-aux"], {"output_stride": 16, "aux": False}),
    (["--aux", "--ema", "0.5"], {"aux": True, "ema": 0.5}),
    (["--steps", "40000", "--batch-size", "16"], {"steps": 40000, "batch_size": 16}),
    (["--epochs", "1.5", "--accumulate", "2"], {"epochs": 1.5, "accumulate": 2}),
    (["--optimizer", "adamw", "--lr", "0.5"], {"optimizer": "adamw", "lr": 0.5}),
    (["--weight-decay", "0", "--momentum", "0.5"], {"weight_decay": 0.0, "momentum": 0.5}),
    (["--nesterov", "--clip", "2"], {"nesterov": True, "clip": 2.0}),
    (["--lr-schedule", "poly", "--poly-power", "1"], {"lr_schedule": "poly", "poly_power": 1.0}),
    (["--milestones", "50%,0.75", "--lr-drop", "0.5"], {"milestones": (0.5, 0.75), "lr_drop": 0.5}),
    (["--warmup-steps", "9", "--device", "cpu"], {"warmup_steps": 9, "device": "cpu"}),
    (["--amp", "bf16", "--compile"], {"amp": "bf16", "compile": True}),
    (["--no-sync-bn", "--threads", "2"], {"sync_bn": False, "threads": 2}),
    (["--eval-every", "5", "--save-every", "6"], {"eval_every": 5, "save_every": 6}),
    (["--log", "none"], {"log": "none"}),
    ([], {}),
]


@pytest.mark.parametrize(("arguments", "given"), TYPED, ids=lambda one: str(one)[:30])
def test_training_is_given_the_options_that_were_typed_and_no_others(
    trained: Heard, home: Path, arguments: list[str], given: dict[str, object]
) -> None:
    assert kd(kdtrain, *arguments).exit_code == 0
    assert trained.positional == (given,)
    assert trained.named["home"] == home and trained.named["resume"] is False


def test_resume_is_a_wish_of_its_own_and_no_option_of_the_run(trained: Heard) -> None:
    assert kd(kdtrain, "--run", "x", "--resume").exit_code == 0
    assert trained.positional == ({"run": "x"},) and trained.named["resume"] is True


def test_ctrl_c_ends_training_with_130_and_says_what_there_is(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kdcache.trainer.run.train_run", interrupted)
    stopped = kd(kdtrain)
    assert stopped.exit_code == 130
    assert stopped.stderr == "stopped; no step was made; the same command starts again\n"

    def after_steps(*_: Any, **__: Any) -> None:
        raise Stopped(signal.SIGTERM, "7 steps are done, go on with: that")

    monkeypatch.setattr("kdcache.trainer.run.train_run", after_steps)
    stopped = kd(kdtrain)
    assert stopped.exit_code == 143 and stopped.stderr == "stopped; 7 steps are done, go on with: that\n"
    monkeypatch.setenv("RANK", "1")
    assert kd(kdtrain).stderr == "", "one rank tells it"
    monkeypatch.delenv("RANK")
    monkeypatch.setattr("kdcache.trainer.chain.read_links", interrupted)
    chain = kd(kdtrain, "chain", "r18", "r34", "--data", "camvid:d")
    assert chain.exit_code == 130 and "the same command continues the chain" in chain.stderr


@pytest.fixture
def judged(home: Path, monkeypatch: pytest.MonkeyPatch) -> Heard:
    metrics = SegmentationMetrics(0.25, {"sky": 0.5, "pole": float("nan")}, 0.125, 7, 0.75)
    heard = Heard(Judged(home / "runs" / "r", "camvid:d", metrics, "teacher 't' is the run"))
    monkeypatch.setattr("kdcache.trainer.run.evaluate_run", heard)
    return heard


def test_eval_asks_for_what_was_typed(judged: Heard, home: Path) -> None:
    options = ["--data", "folder:x", "--split", "test", "--teacher", "t", "--teacher-weights", "w"]
    asked = kd(kdtrain, "eval", "r", *options, "--exit", "2", "--device", "cpu", "--threads", "3")
    assert asked.exit_code == 0, asked.output
    assert judged.positional == ("r",)
    assert judged.named == {
        "home": home, "data": "folder:x", "split": "test", "teacher": "t", "teacher_weights": "w",
        "exit_number": 2, "device": "cpu", "threads": 3, "with_records": False,
    }  # fmt: skip
    assert "r, exit 2 on camvid:d, test: 7 images" in asked.output


def test_eval_shows_percent_and_writes_ratios_with_null_for_a_class_that_never_occurs(
    judged: Heard, home: Path
) -> None:
    shown = kd(kdtrain, "eval", "r", "--out", "new/figures.json")
    assert shown.exit_code == 0, shown.output
    lines = [" ".join(line.split()) for line in shown.output.splitlines()]
    for line in ("r on camvid:d, val: 7 images", "teacher 't' is the run", "class IoU %", "sky 50.00"):
        assert line in lines, shown.output
    assert "pole absent" in lines and "miou 25.00 %" in lines, shown.output
    figures = json.loads((home / "new" / "figures.json").read_text())
    assert figures["per_class_iou"] == {"sky": 0.5, "pole": None} and figures["miou"] == 0.25
    assert (figures["split"], figures["data"], figures["num_images"]) == ("val", "camvid:d", 7)
    assert "exit" not in figures


def test_eval_writes_what_is_said_of_each_image_where_it_is_asked_to(judged: Heard, home: Path) -> None:
    record = {"image_id": 7, "category_id": 1, "bbox": [0.5, 1.0, 2.0, 3.0], "score": 0.25}
    judged.answer = judged.answer._replace(records=[record])
    shown = kd(kdtrain, "eval", "r", "--json", "new/boxes.json")
    assert shown.exit_code == 0, shown.output
    assert judged.named["with_records"] is True
    assert json.loads((home / "new" / "boxes.json").read_text()) == [record]
    assert [path.name for path in (home / "new").iterdir()] == ["boxes.json"]


@pytest.fixture
def cache_dir(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("kdcache.cache.record.find.find_cache", lambda name, folder: folder / str(name))
    monkeypatch.setattr("kdcache.cache.reader.cache.open_cache", lambda root: root)
    for name, answer in (("problems", iter(())), ("list_generations", []), ("unfinished", [])):
        monkeypatch.setattr(f"kdcache.cli.caches.verify_display.{name}", lambda root, answer=answer: answer)
    return home / "caches"


def test_peek_draws_the_sample_the_view_and_the_file_that_were_typed(
    cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = Heard(["image", "label"])
    monkeypatch.setattr("kdcache.cache.look.peek.peek", drawn)
    shown = kd(kdcache, "peek", "scene/1", "--cache", "c", "--view", "3", "--out", "p.png")
    assert shown.exit_code == 0 and shown.output == "p.png: image, label\n"
    assert drawn.positional == (cache_dir / "c", "scene/1", 3, Path("p.png"))
    kd(kdcache, "peek", "scene/1")
    assert drawn.positional == (cache_dir / "None", "scene/1", 0, Path("peek.png"))


def test_verify_runs_the_teacher_again_only_when_asked_and_on_the_rows_that_were_typed(
    cache_dir: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared, teacher = (
        Heard([DeepError("logits", rows=5, max_abs=0.25, bound=0.5, relative_l2=0.125, beyond=())]),
        Heard("network"),
    )
    monkeypatch.setattr("kdcache.cli.caches.verify_display.deep_check", compared)
    monkeypatch.setattr("kdcache.cache.look.teacher.manifest_teacher", teacher)
    plain = kd(kdcache, "verify", "c", "--rows", "5")
    assert plain.exit_code == 0, plain.output
    assert compared.positional == ()
    deep = kd(kdcache, "verify", "c", "--deep", "--rows", "5", "--weights", "w", "--teacher", "own:make")
    assert deep.exit_code == 0, deep.output
    assert compared.positional == (cache_dir / "c", "network", 5)
    assert teacher.positional == (cache_dir / "c", home / "runs", "w", "own:make")
    assert all(part in deep.output for part in ("logits", "0.25", "0.5", "1.25e-01"))


def test_taps_lists_shapes_of_the_input_and_the_classes_that_were_typed(home: Path) -> None:
    asked = ["--crop", "16,24", "--classes", "7", "--modules"]
    listed = kd(kdcache, "taps", "--teacher", "tiny_teacher:make", *asked)
    assert listed.exit_code == 0, listed.output
    lines = [" ".join(re.sub("[^ -~]", " ", line).split()) for line in listed.output.splitlines()]
    assert lines[0] == "tiny_teacher:make, input 16x24"
    # int8: a byte a value, and scale and minimum of 4 bytes a channel; fp16: two bytes a value.
    assert "stage1 stage1 4 x 6 x 5 4 int8 160 B" in lines and "logits head 2 x 3 x 7 8 fp16 84 B" in lines
    assert "stage1.0" in lines, "module paths, for --tap NAME@PATH"
    plain = kd(kdcache, "taps", "--teacher", "tiny_teacher:make")
    assert "stage1.0" not in plain.output
