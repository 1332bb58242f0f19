"""`kdtrain sweep`: every cell is the run of its command alone; stopped, failed or held, nothing is lost."""

import json
import shlex
from pathlib import Path

import pytest
from sweep_home import STUDENT, SWEEP, InProcess, copied, typed, typed_kdcache

from kdcache.cli import kdtrain as kdtrain_module
from kdcache.cli.training import chain
from kdcache.trainer.bench.sweep_folder import failure_of, read_sweep
from kdcache.trainer.folder.run_folder import held

FRESH, NONE, KD = (f"abl-tiny_teacher_make-{loss}" for loss in ("none-fresh", "none", "kd"))
# Maps of 8 x 12 cells are too small for its critic: refused when the run is assembled.
FAILS, FAILED = "skds-holistic", "abl-tiny_teacher_make-skds-holistic"


def commands(output: str) -> list[list[str]]:
    return [shlex.split(line[2:]) for line in output.splitlines() if line.startswith("$ ")]


def runs_of(output: str) -> list[str]:
    return [words[words.index("--run") + 1] for words in commands(output) if words[0] == "kdtrain"]


def weights(home: Path, run: str) -> bytes:
    return (home / "runs" / run / "student.safetensors").read_bytes()


def test_a_cell_is_bit_for_bit_the_run_of_its_command_alone(
    home: Path, made_home: Path, in_process: InProcess, tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    result = typed(*SWEEP, "--loss", "kd")
    assert result.exit_code == 0, result.output
    assert in_process.trained == [FRESH, NONE, KD]
    assert all(
        (home / "runs" / run / "scores" / f"{split}.json").is_file()
        for run in (FRESH, NONE, KD)
        for split in ("val", "test")
    )
    printed = commands(typed(*SWEEP, "--loss", "kd", "--dry-run").output)
    alone = copied(made_home, tmp_path_factory.mktemp("alone"))
    monkeypatch.setenv("KDCACHE_HOME", str(alone))
    for words in printed:
        assert words[0] == "kdtrain" and typed(*words[1:]).exit_code == 0
    for run in (FRESH, NONE, KD):
        assert weights(home, run) == weights(alone, run), run
    assert len({weights(home, run) for run in (FRESH, NONE, KD)}) == 3


def test_again_trains_nothing_and_more_is_added_to_what_is_there(home: Path, in_process: InProcess) -> None:
    assert typed(*SWEEP, "--loss", "kd", "--no-fresh").exit_code == 0
    before = weights(home, KD)
    in_process.commands.clear()
    again = typed(*SWEEP, "--loss", "kd", "--no-fresh")
    assert again.exit_code == 0 and "2 finished" in again.output, again.output
    assert in_process.commands == []
    more = typed(*SWEEP, "--loss", "cwd", "--no-fresh", "--threads", "2")  # threads change no result
    assert more.exit_code == 0, more.output
    assert in_process.trained == ["abl-tiny_teacher_make-cwd"]
    assert weights(home, KD) == before
    assert [cell.run for cell in read_sweep(home, "abl").cells] == [NONE, KD, "abl-tiny_teacher_make-cwd"]


def test_a_run_is_judged_where_it_was_trained(home: Path, in_process: InProcess) -> None:
    in_process.judges = True
    result = typed(*SWEEP, "--loss", "kd", "--no-fresh")
    assert result.exit_code == 0, result.output
    assert [command[1] for command in in_process.commands] == ["--run", "--run"], "no second process"
    here = {run: (home / "runs" / run / "scores").glob("*.json") for run in (NONE, KD)}
    kept = {(run, path.name): path.read_bytes() for run, paths in here.items() for path in paths}
    assert {name for _, name in kept} == {"val.json", "test.json"} and len(kept) == 4
    for run, name in kept:
        (home / "runs" / run / "scores" / name).unlink()
    in_process.judges = False
    assert typed(*SWEEP, "--loss", "kd", "--no-fresh").exit_code == 0
    assert [command[1] for command in in_process.commands[2:]] == ["judge-run", "judge-run"]
    assert all(
        (home / "runs" / run / "scores" / name).read_bytes() == one for (run, name), one in kept.items()
    )


def test_what_cannot_be_judged_there_is_judged_by_a_process_that_says_why(
    home: Path, in_process: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("not here")

    in_process.judges = True
    monkeypatch.setattr(kdtrain_module, "judge_splits", fail)
    result = typed(*SWEEP, "--loss", "kd", "--no-fresh")
    assert result.exit_code == 0 and "2 of 2 runs are finished" in result.output, result.output
    assert [command[1] for command in in_process.commands] == ["--run", "judge-run"] * 2
    assert (home / "runs" / KD / "scores" / "test.json").is_file()


def test_a_failed_cell_holds_its_place_with_its_error_until_it_is_retried(
    home: Path, in_process: InProcess
) -> None:
    words = [*SWEEP, "--loss", f"{FAILS},kd", "--no-fresh"]
    first = typed(*words)
    assert first.exit_code == 1, first.output
    assert in_process.trained == [NONE, FAILED, KD], "it goes on after the failure"
    kept = json.loads((home / "sweeps" / "abl" / "failed" / f"{FAILED}.json").read_text())
    assert kept["status"] == 2 and "fix:" in kept["error"]
    sweep = read_sweep(home, "abl")
    assert [failure_of(sweep, cell) is None for cell in sweep.cells] == [True, False, True]

    in_process.commands.clear()
    second = typed(*words)
    assert second.exit_code == 1 and "1 failed before" in second.output
    assert "fix:" in second.output and "--retry tries them again" in second.output
    assert in_process.commands == []
    listed = json.loads(typed("ls", "--json").output)
    assert {row["run"]: row["state"] for row in listed}[FAILED] == "failed"

    assert typed(*words, "--retry").exit_code == 1
    assert in_process.trained == [FAILED]


def test_a_killed_cell_is_no_failure_and_goes_on_from_its_checkpoint(
    home: Path, in_process: InProcess
) -> None:
    words = [*SWEEP, "--loss", "kd", "--no-fresh"]
    in_process.ends = {KD: -9}
    first = typed(*words)
    assert first.exit_code == 1 and "ended by SIGKILL" in first.output, first.output
    assert not (home / "sweeps" / "abl" / "failed" / f"{KD}.json").exists()
    in_process.ends, in_process.commands = {}, []
    assert typed(*words).exit_code == 0
    assert in_process.trained == [KD]
    (home / "runs" / KD / "network.json").unlink()  # as if it had been killed before its export
    in_process.commands = []
    third = typed(*words)
    assert third.exit_code == 0 and "1 to continue" in third.output
    assert in_process.trained == [KD] and "--resume" in in_process.commands[0]


def test_a_run_that_another_process_trains_is_left_to_it(home: Path, in_process: InProcess) -> None:
    with held(home / "runs" / KD):
        result = typed(*SWEEP, "--loss", "kd", "--no-fresh")
    assert result.exit_code == 0, result.output
    assert f"{KD} is left alone: another process trains it" in result.output
    assert in_process.trained == [NONE]
    assert "1 of 2 runs are finished, 1 in work elsewhere" in result.output


def test_shards_share_the_cells_among_them_and_none_is_left_out(home: Path) -> None:
    words = [*SWEEP, "--loss", "kd,cwd", "--seeds", "2", "--dry-run"]
    whole = runs_of(typed(*words).output)
    parts = [runs_of(typed(*words, "--shard", f"{number}/3").output) for number in (1, 2, 3)]
    assert len(whole) == len(set(whole)) == 8
    assert sorted(run for part in parts for run in part) == sorted(whole)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert not (home / "sweeps").exists() and not (home / "runs").exists()


def test_targets_that_losses_lack_are_built_first_in_one_pass(
    home: Path, in_process: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[list[str]] = []

    def build(command: list[str]) -> int:
        built.append(command)
        return typed_kdcache(*command[1:]).exit_code

    monkeypatch.setattr(chain, "execute", build)
    words = [*SWEEP, "--loss", "kd,mgd,fitnet(taps=stage4)", "--no-fresh"]
    dry = typed(*words, "--dry-run")
    (printed,) = [line for line in commands(dry.output) if line[0] == "kdcache"]
    assert printed[printed.index("--for") + 1] == "mgd,fitnet(taps=stage4)" and built == []
    result = typed(*words)
    assert result.exit_code == 0, result.output
    assert built == [printed] and len(in_process.trained) == 4


def test_a_build_that_fails_ends_the_sweep_before_any_cell(
    home: Path, in_process: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain, "execute", lambda command: 2)
    result = typed(*SWEEP, "--loss", "mgd")
    assert result.exit_code == 2 and "the sweep stops here" in result.stderr
    assert in_process.commands == []
    assert list((home / "sweeps").iterdir()) == [], "a sweep without any cell that began"
    assert typed(*SWEEP, "--loss", "none").exit_code == 0
    assert typed(*SWEEP, "--loss", "none,mgd").exit_code == 2
    (begun,) = (home / "sweeps").iterdir()
    assert len(json.loads((begun / "cells.json").read_text())["cells"]) > 0, "one that began stays"


def test_cores_are_divided_among_jobs_and_one_job_is_left_as_it_is(
    home: Path, in_process: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(8)))
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    words = [*SWEEP, "--loss", "kd", "--no-fresh", "--threads", "6"]
    assert typed(*words, "--jobs", "4").exit_code == 0
    assert {one["OMP_NUM_THREADS"] for one in in_process.environments} == {"2"}
    trained = [command for command in in_process.commands if command[1] != "judge-run"]
    assert {command[command.index("--threads") + 1] for command in trained} == {"2"}
    line = next(one for one in typed(*words, "--jobs", "4", "--dry-run").output.splitlines() if "$ " in one)
    assert line.startswith("$ OMP_NUM_THREADS=2 kdtrain ")
    assert "OMP_NUM_THREADS=" not in typed(*words, "--dry-run").output


def test_the_plan_says_what_is_known_and_what_is_not(home: Path, in_process: InProcess) -> None:
    before = typed(*SWEEP, "--loss", "kd", "--seeds", "2", "--no-fresh", "--dry-run").output
    assert "steps    8 to make" in before and "time     unknown" in before and "bytes    unknown" in before
    assert typed(*SWEEP, "--loss", "kd", "--no-fresh").exit_code == 0
    after = typed(*SWEEP, "--loss", "kd", "--seeds", "2", "--no-fresh", "--dry-run").output
    assert "2 new, 2 finished" in after and "steps    4 to make" in after
    assert "time     about" in after and "bytes    about" in after and "unknown for" not in after


def test_consent_is_handed_on_and_a_file_gives_none(home: Path, tmp_path: Path) -> None:
    output = typed(*SWEEP, "--loss", "kd", "--dry-run", "--trust=my.codecs").output
    assert all(words[-2:] == ["--trust", "my.codecs"] for words in commands(output))
    file = tmp_path / "grid.toml"
    file.write_text('loss = "kd"\nstudent = "strange.nets:make"\n')
    refused = typed("sweep", str(file), "--dry-run")
    assert refused.exit_code == 2 and "--trust strange.nets:make" in refused.stderr


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--loss", "kdd"], ["unknown loss 'kdd'", "did you mean 'kd'?"]),
        (["--loss", "kd", "--student", "r19"], ["r19", "fix:"]),
        (["--student", STUDENT], ["a sweep without a loss", "--loss kd,cwd"]),
        (["--loss", "kd,,cwd"], ["'kd,,cwd' has an empty name"]),
        (["--loss", "kd", "--seeds", "0"], ["'0' says no seeds"]),
        (["--loss", "kd", "--seeds", "1,1"], ["says no seeds", "different ones"]),
        (["--loss", "kd", "--shard", "3/2"], ["'3/2' is no shard", "--shard 1/4"]),
        (["--loss", "kd", "--name", "a/b"], ["a sweep cannot be called 'a/b'"]),
        (["--loss", "kd", "--cache", "camvid-tiny"], ["there is no cache 'camvid-tiny'"]),
        (["--loss", "kd", "--data", "folder:x", "--cache", "y"], ["on data and on caches"]),
        (["--loss", "kd", "--lr", "-1"], ["--lr cannot be -1"]),
        (["absent.toml"], ["there is no sweep file", "kdtrain sweep --loss"]),
    ],
)
def test_what_cannot_be_a_sweep_is_said_before_anything_is_made(
    home: Path, words: list[str], parts: list[str]
) -> None:
    result = typed("sweep", *words)
    assert result.exit_code == 2, result.output
    assert all(part in result.stderr for part in parts), result.stderr
    assert not (home / "sweeps").exists() and not (home / "runs").exists()


def test_one_name_does_not_stand_for_two_runs(home: Path, in_process: InProcess) -> None:
    assert typed(*SWEEP, "--loss", "kd", "--no-fresh").exit_code == 0
    result = typed(*SWEEP, "--loss", "kd", "--no-fresh", "--lr", "0.5")
    assert result.exit_code == 2
    for part in ("already, of other options: lr 0.5 (then not given)", "--name abl-2"):
        assert part in result.stderr, result.stderr


def test_several_ranks_cannot_be_one_sweep(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = typed(*SWEEP, "--loss", "kd")
    assert result.exit_code == 2 and "--shard I/N" in result.stderr


@pytest.mark.parametrize("dry", [["--dry-run"], []])
def test_a_student_that_no_library_has_stops_the_plan(
    home: Path, in_process: InProcess, dry: list[str]
) -> None:
    words = ["sweep", "--loss", "kd", "--student", "r18,deeplabv3:test_resnt", "--steps", "2"]
    result = typed(*words, *dry)
    assert result.exit_code == 2
    assert "unknown network 'deeplabv3:test_resnt'" in result.output
    assert "--student deeplabv3:test_resnt" in result.output
    assert "did you mean 'deeplabv3:test_resnet'?" in result.output
    assert not in_process.commands and not (home / "sweeps").exists() and not (home / "runs").exists()


def test_consent_is_handed_on_for_code_of_ones_own_and_not_for_libraries(home: Path) -> None:
    words = ["sweep", "--loss", "kd", "--student", f"{STUDENT},deeplabv3:test_resnet", "--steps", "2"]
    printed = commands(typed(*words, "--no-fresh", "--dry-run").output)
    trusted = [line[line.index("--trust") + 1 :] for line in printed if "--trust" in line]
    assert len(printed) == 4 and trusted == [[STUDENT]] * 2, "those of the library's student"


def test_data_that_are_gone_stop_no_sweep_that_needs_the_cache_alone(home: Path, made_home: Path) -> None:
    """Fresh views are drawn from the images; what the cache keeps is enough for all else."""
    away = (made_home / "data").rename(made_home / "away")
    try:
        refused = typed(*SWEEP, "--loss", "kd", "--dry-run")
        advised = typed(*SWEEP, "--loss", "kd", "--dry-run", "--no-fresh")
    finally:
        away.rename(made_home / "data")
    assert refused.exit_code == 2 and not (home / "sweeps").exists(), refused.output
    assert "fix:   leave fresh views out with --no-fresh, or give the folder" in refused.stderr
    assert f"{made_home}/data" in refused.stderr, "which data"
    assert advised.exit_code == 0 and runs_of(advised.output) == [NONE, KD], advised.output
