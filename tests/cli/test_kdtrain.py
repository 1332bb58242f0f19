"""The command line: options are frozen, errors exit with 2 in three parts, a run works from end to end."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from python_path import before
from rank_turn import alone

from kdcache.cli.kdtrain import kdtrain

OPTIONS = {
    "--accumulate", "--amp", "--augment", "--aux", "--batch-size", "--cache", "--clip", "--compile", "--crop",
    "--data", "--device", "--ema", "--epochs", "--eval-every", "--init", "--log", "--loss", "--lr",
    "--lr-drop", "--lr-schedule", "--milestones", "--momentum", "--name", "--nesterov", "--no-aux",
    "--no-sync-bn", "--online", "--optimizer", "--output-stride", "--poly-power", "--resume", "--run",
    "--pixel-memory", "--save-every", "--seed", "--steps", "--stream", "--student", "--sync-bn", "--teacher",
    "--teacher-weights", "--threads", "--views", "--warmup-steps", "--weight-decay", "--weights",
    "--trust", "--keep-empty", "--encoder-lr", "--freeze", "--inherit", "--recipe", "--rank-timeout",
    "--non-finite", "--val-data", "--config", "--quiet", "--json",
}  # fmt: skip
NETWORK = """
from torch import nn

def make(num_classes):
    stem = nn.Sequential(nn.Conv2d(3, 4, 3, stride=8, padding=1), nn.ReLU())
    model = nn.Sequential(stem, nn.Conv2d(4, num_classes or 3, 1))
    model.pad_multiple = 8
    return model, {"stage4": "0", "logits": "1"}
"""
TINY = [
    "--student",
    "tiny_for_cli:make",
    "--batch-size",
    "4",
    "--crop",
    "32",
    "--device",
    "cpu",
    "--log",
    "none",
]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a dataset and a network of the user's own, and runs/ and caches/ beside them."""
    draw_dataset(tmp_path / "drawn")
    (tmp_path / "tiny_for_cli.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("KDCACHE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def draw_dataset(root: Path) -> None:
    import numpy as np
    from PIL import Image

    (root).mkdir()
    (root / "classes.txt").write_text("left\nright\n")
    for split, count in (("train", 4), ("val", 2)):
        for kind in ("images", "labels"):
            (root / split / kind).mkdir(parents=True)
        for number in range(count):
            label = (np.arange(48)[None, :] > 20 + number).astype(np.uint8).repeat(40, 0)
            Image.fromarray(label).save(root / split / "labels" / f"s{number}.png")
            image = (label[..., None] * 150 + np.array([40, 60, 80])).astype(np.uint8)
            Image.fromarray(image).save(root / split / "images" / f"s{number}.jpg")


def kd(*arguments: str) -> Result:
    return CliRunner().invoke(kdtrain, arguments)


def metrics(run_dir: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def test_the_options_are_these_and_no_others() -> None:
    offered = {name for option in kdtrain.params for name in (*option.opts, *option.secondary_opts)}
    assert offered == OPTIONS
    assert set(kdtrain.commands) == {
        *("chain", "compare", "eval", "export", "judge-run", "ls", "methods", "predict", "report", "rm"),
        "sweep",
        "train-together",
    }
    judging = {name for option in kdtrain.commands["eval"].params for name in option.opts}
    assert judging == {
        "run", "--data", "--device", "--exit", "--exported", "--json", "--out", "--split", "--teacher",
        "--teacher-weights", "--threads", "--trust", "--quiet",
    }  # fmt: skip


def test_help_names_every_option_without_loading_torch() -> None:
    result = kd("--help")
    assert result.exit_code == 0
    shown = result.output.replace("\n", " ")
    assert all(option in shown for option in OPTIONS - {"--no-aux", "--no-sync-bn"})
    code = "import sys, kdcache.cli.kdtrain; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--data", "folder:d", "--cache", "c"], ["--data and --cache together", "where: --data", "fix:"]),
        (["--loss", "afdcd"], ["there is no cache yet", "where: ", "kdcache build --teacher"]),
        (["--data", "folder:nowhere"], ["folder", "nowhere", "fix:"]),
        (["--data", "foldr:d"], ["unknown", "'foldr'", "did you mean 'folder'"]),
        (["--data", "folder:drawn", "--loss", "afdc"], ["unknown loss 'afdc'", "did you mean 'afdcd'"]),
        (["--data", "folder:drawn", "--loss", "kd"], ["needs a teacher's logits", "--online --teacher T"]),
        (["--data", "folder:drawn", "--student", "r19"], ["unknown", "r19", "fix:"]),
        (["--data", "folder:drawn", "--crop", "big"], ["--crop cannot be big", "H,W in pixels"]),
        (
            ["--data", "folder:drawn", "--log", "tensorbord"],
            ["unknown tracker", "did you mean 'tensorboard'"],
        ),
        (["--data", "folder:drawn", "--amp", "fp16", "--device", "cpu"], ["--amp fp16", "--amp bf16"]),
        (["--run", "r", "--resume"], ["no run 'r'", "runs there: none"]),
        (["eval", "nothing"], ["no run 'nothing'", "runs there: none"]),
        (
            ["--data", "folder:drawn", "--augment", "flop"],
            ["unknown augmentation 'flop'", "did you mean 'flip'"],
        ),
        (
            ["--data", "folder:drawn", "--augment", "mixup=0.2"],
            ["cannot have mixup", "--augment"],
        ),
        (["--data", "folder:drawn", "--milestones", "x"], ["--milestones cannot be x", "shares of the run"]),
        (["--data", "folder:drawn", "--init", "r50", "--weights", "none"], ["--init and --weights", "fix:"]),
    ],
)
def test_a_wrong_command_exits_with_2_and_says_what_where_and_how(
    home: Path, arguments: list[str], parts: list[str]
) -> None:
    result = kd(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ") and "\n  where: " in result.stderr
    assert all(part in result.stderr for part in parts), result.stderr
    assert not list(home.glob("runs/*"))


def test_train_resume_and_eval_from_the_command_line(home: Path) -> None:
    command = [*TINY, "--data", "folder:drawn", "--run", "t", "--steps", "4", "--save-every", "2"]
    result = kd(*command)
    assert result.exit_code == 0, result.output
    run_dir = home / "runs" / "t"
    assert {path.name for path in run_dir.iterdir()} >= {
        "config.toml", "network.json", "student.safetensors", "metrics.jsonl", "environment.json",
        "checkpoints",
    }  # fmt: skip
    assert [line["step"] for line in metrics(run_dir) if "loss" in line] == [1, 2, 3, 4]
    assert "task" in result.output and "fresh, folder:" in result.output and "[aux]" in result.output

    again = kd(*command)
    assert again.exit_code == 2 and "run 't' exists" in again.stderr
    other = kd("--run", "t", "--resume", "--lr", "0.5")
    assert other.exit_code == 2 and "--lr 0.5 differs" in other.stderr
    strange = kd("--run", "t", "--resume")
    assert strange.exit_code == 2 and "--run t --resume --trust tiny_for_cli:make" in strange.stderr
    trusted = ("--trust", "tiny_for_cli:make")
    assert kd("--run", "t", "--resume", *trusted).exit_code == 0

    judged = kd("eval", "t", "--device", "cpu", *trusted)
    assert judged.exit_code == 0, judged.output
    assert "2 images" in judged.output and "left" in judged.output and "miou" in judged.output
    test_split = kd("eval", str(run_dir), "--split", "test", *trusted)
    assert test_split.exit_code == 2 and "test" in test_split.stderr


def test_a_live_teacher_gives_targets_on_fresh_views(home: Path) -> None:
    teacher = ["--online", "--teacher", "tiny_for_cli:make"]
    result = kd(*TINY, "--data", "folder:drawn", "--loss", "kd", "--steps", "2", *teacher)
    assert result.exit_code == 0, result.output
    assert "logits from live teacher tiny_for_cli:make" in result.output
    (run_dir,) = (home / "runs").iterdir()
    assert run_dir.name == "tiny_for_cli_make-kd-online-fresh"
    first = metrics(run_dir)[0]["loss"]
    assert isinstance(first, dict) and set(first) == {"total", "task", "kd"}


@pytest.mark.slow
def test_two_processes_share_a_step_and_finish(home: Path, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": before(tmp_path),
        "PYTHONWARNINGS": "default",
    }
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*TINY, "--data", "folder:drawn", "--run", "t", "--steps", "3"]
    # Without "--" torchrun takes --run and --log for short forms of options of its own.
    launched = [*launch, "-m", "--", "kdcache.cli.kdtrain", *command]
    with alone():
        done = subprocess.run(launched, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    run_dir = home / "runs" / "t"
    described = json.loads((run_dir / "environment.json").read_text())
    assert described["environment"]["world"] == 2
    assert [line["step"] for line in metrics(run_dir) if "loss" in line] == [1, 2, 3]
    assert metrics(run_dir)[-1]["num_images"] == 2
    assert done.stdout.count("finished 3 steps") == 1


@pytest.mark.slow
def test_a_recipe_gives_a_run_what_was_not_written_and_every_difference_is_said(home: Path) -> None:
    typed = ["--data", "folder:drawn", "--loss", "none", *TINY, "--run", "r", "--recipe"]
    refused = kd(*typed, "afdcd")
    assert refused.exit_code == 2 and "recipe 'afdcd' has no numbers for 'folder'" in refused.stderr
    assert "--recipe afdcd@camvid" in refused.stderr and not (home / "runs" / "r").exists()
    done = kd(*typed, "okddip@cifar10", "--epochs", "1", "--weight-decay", "0.25")
    assert done.exit_code == 0, done.output
    assert "lr 0.1 x 0.1 at 0.5, 0.75 of the run, weight decay 0.25" in done.output
    assert "1 (1.0 epochs), batch 4" in done.output
    assert "gives --optimizer sgd --lr 0.1 --momentum 0.9 --nesterov --lr-schedule multistep" in done.output
    assert (
        "as you wrote: --weight-decay 0.25 instead of 0.0005, --epochs 1 instead of 300, "
        "--batch-size 4 instead of 128" in done.output
    )
    options = tomllib.loads((home / "runs" / "r" / "config.toml").read_text())["options"]
    assert (options["recipe"], options["lr"], options["nesterov"]) == ("okddip@cifar10", 0.1, True)
    again = kd(*typed, "okddip@cifar10", "--epochs", "1", "--weight-decay", "0.25", "--resume")
    assert again.exit_code == 0, again.output
    other = kd(*typed, "okddip@cifar100", "--epochs", "1", "--weight-decay", "0.25", "--resume")
    assert other.exit_code == 2 and "--recipe okddip@cifar100 differs from okddip@cifar10" in other.stderr
