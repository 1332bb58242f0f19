"""`kdtrain sweep --together`: cells that read the same batches share a process, and each is still the run of
its own command, bit for bit."""

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from sweep_home import STUDENT, InProcess, copied, typed

from kdcache.trainer.folder.checkpoint import list_checkpoints
from kdcache.trainer.folder.metrics_log import read_metrics
from kdcache.trainer.steps.step import Stepper

OTHER = "tiny_dropout:make"  # another student, which draws random numbers
FAILS = "skds-holistic"  # the tiny maps are too small for its critic: refused when the run is assembled
WORDS = [
    "sweep", "--name", "abl", "--student", f"{STUDENT},{OTHER}", "--loss", "kd,cwd", "--steps", "4",
    "--batch-size", "2", "--log", "none", "--device", "cpu", "--save-every", "1", "--ema", "0.5",
    "--no-fresh",
]  # fmt: skip
RUNS = [
    f"abl-{student}-{loss}"
    for student in ("tiny_teacher_make", "tiny_dropout_make")
    for loss in ("none", "kd", "cwd")
]


def left(home: Path, run: str) -> dict[str, object]:
    """All that a run leaves behind, but how fast it was."""
    folder = home / "runs" / run
    lines = [
        {key: value for key, value in line.items() if key not in ("steps_per_s", "wait_share")}
        for line in read_metrics(folder)
    ]
    digests = {one.name: (one / "digests.json").read_bytes() for one in list_checkpoints(folder)}
    whole = ("student.safetensors", "network.json", "config.toml", "scores/val.json", "scores/test.json")
    stream = json.loads((folder / "environment.json").read_text())["stream"]
    return {"lines": lines, "checkpoints": digests, "stream": stream} | {
        name: (folder / name).read_bytes() for name in whole
    }


@pytest.fixture(scope="module")
def alone(made_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home in which every run was trained by itself."""
    home = copied(made_home, tmp_path_factory.mktemp("alone"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDCACHE_HOME", str(home))
        patch.setattr("kdcache.trainer.bench.work.launch", InProcess())
        result = typed(*WORDS)
    assert result.exit_code == 0, result.output
    return home


def test_cells_of_one_process_are_the_runs_of_their_commands_bit_for_bit(
    alone: Path, home: Path, in_process: InProcess
) -> None:
    result = typed(*WORDS, "--together", "8")
    assert result.exit_code == 0, result.output
    assert in_process.sets == [RUNS] and len(in_process.commands) == 1, "they are judged there too"
    assert "together 6 runs in a process, on batches that are read once" in result.output
    assert "one process at a time" in result.output and "one run at a time" not in result.output
    for run in RUNS:
        assert left(home, run) == left(alone, run), run
        said = (home / "sweeps" / "abl" / "logs" / f"{run}.log").read_text()
        assert f"--run {run}" in said and "finished 4 steps" in said and "judged on test" in said
    assert "6 of 6 runs are finished" in result.output
    in_process.commands.clear()
    again = typed(*WORDS, "--together", "8")
    assert again.exit_code == 0 and in_process.commands == [], again.output


def test_a_cell_that_fails_ends_alone_with_its_error_and_waits_for_retry(
    alone: Path, home: Path, in_process: InProcess
) -> None:
    words = [one.replace("kd,cwd", f"kd,{FAILS},cwd") for one in WORDS]
    result = typed(*words, "--together", "8")
    assert result.exit_code == 1, result.output
    failed = [f"abl-{student}-{FAILS}" for student in ("tiny_teacher_make", "tiny_dropout_make")]
    for run in failed:
        kept = json.loads((home / "sweeps" / "abl" / "failed" / f"{run}.json").read_text())
        assert kept["status"] == 2 and "fix:" in kept["error"] and "Traceback" not in kept["error"]
        assert not (home / "runs" / run).exists()
    for run in RUNS:
        assert left(home, run) == left(alone, run), run
    assert "6 of 8 runs are finished, 2 failed" in result.output
    in_process.commands.clear()
    assert typed(*words, "--together", "8", "--retry").exit_code == 1
    assert in_process.sets == [failed], "what is finished is left out"


def test_a_bug_in_one_cell_is_told_with_where_it_was_and_the_others_go_on(
    alone: Path, home: Path, in_process: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Stepper.step

    def broken(self: Stepper, step: int, *others: Any) -> Any:
        if self.config.run == RUNS[1] and step == 2:
            raise ZeroDivisionError("a bug")
        return real(self, step, *others)

    monkeypatch.setattr(Stepper, "step", broken)
    result = typed(*WORDS, "--together", "8")
    assert result.exit_code == 1 and "5 of 6 runs are finished, 1 failed" in result.output, result.output
    kept = json.loads((home / "sweeps" / "abl" / "failed" / f"{RUNS[1]}.json").read_text())
    assert kept["status"] == 1 and kept["error"].endswith("ZeroDivisionError: a bug")
    for run in RUNS[2:]:
        assert left(home, run) == left(alone, run), run
    monkeypatch.setattr(Stepper, "step", real)
    assert typed(*WORDS, "--together", "8", "--retry").exit_code == 0
    assert left(home, RUNS[1]) == left(alone, RUNS[1]), "it goes on from its checkpoint"


def test_a_signal_ends_the_whole_set_at_one_step_and_the_same_command_goes_on(
    alone: Path, home: Path, in_process: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Stepper.step

    def signalled(self: Stepper, step: int, *others: Any) -> Any:
        if self.config.run == RUNS[3] and step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self, step, *others)

    monkeypatch.setattr(Stepper, "step", signalled)
    assert typed(*WORDS, "--together", "8").exit_code in (1, 143)
    steps = {run: list_checkpoints(home / "runs" / run)[-1].name for run in RUNS}
    assert set(steps.values()) == {"step-00000002"}
    assert not list((home / "sweeps" / "abl").glob("failed/*.json"))
    monkeypatch.setattr(Stepper, "step", real)
    result = typed(*WORDS, "--together", "8")
    assert result.exit_code == 0 and "6 to continue" in result.output, result.output
    assert "is continued, 6 together" in result.output
    for run in RUNS:
        assert left(home, run) == left(alone, run), run


def test_a_set_that_was_killed_leaves_no_failure_and_its_cells_go_on_from_where_each_is(
    alone: Path, home: Path, in_process: InProcess
) -> None:
    in_process.ends = {"train-together": -9}
    first = typed(*WORDS, "--together", "8")
    assert first.exit_code == 1 and "ended by SIGKILL" in first.output
    assert not list((home / "sweeps" / "abl").glob("failed/*.json"))
    in_process.ends = {}
    for run, kept in ((RUNS[0], 0), (RUNS[4], 1)):  # at different steps, as kills leave them
        shutil.copytree(alone / "runs" / run, home / "runs" / run)
        folder = home / "runs" / run
        for name in ("student.safetensors", "network.json"):
            (folder / name).unlink()
        shutil.rmtree(folder / "scores")
        for one in list_checkpoints(folder)[kept:]:
            shutil.rmtree(one)
    result = typed(*WORDS, "--together", "8")
    assert result.exit_code == 0, result.output
    for run in RUNS:
        assert left(home, run) == left(alone, run), run


def test_cells_of_other_batches_and_more_than_n_are_in_other_processes(
    home: Path, in_process: InProcess
) -> None:
    words = [*WORDS[:-1], "--loss", "kd", "--seeds", "2", "--together", "3"]
    dry = typed(*words, "--dry-run")
    assert "3, 1, 3, 1, 1, 1" not in dry.output and "runs in a process" in dry.output
    result = typed(*words)
    assert result.exit_code == 0, result.output
    seeds = [{int("seed1" in run) for run in one} for one in in_process.sets]
    kinds = [{"fresh" in run for run in one} for one in in_process.sets]
    assert all(len(one) == 1 for one in (*seeds, *kinds)), in_process.sets
    assert max(map(len, in_process.sets)) <= 3
    assert sorted(map(len, in_process.sets)) == [1, 1, 2, 2, 3, 3]


def test_a_live_teacher_is_refused_with_a_sentence(home: Path) -> None:
    result = typed(*WORDS, "--together", "2", "--online", "--teacher", STUDENT)
    assert result.exit_code == 2 and "a live teacher answers each run by itself" in result.output
