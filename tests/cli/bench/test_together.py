"""`kdtrain sweep --together`: cells that read the same batches share a process, and each is still the run of
its own command, bit for bit."""

import json
from pathlib import Path

import pytest
from sweep_home import STUDENT, InProcess, copied, typed

from kdcache.trainer.folder.checkpoint import list_checkpoints
from kdcache.trainer.folder.metrics_log import read_metrics

OTHER = "tiny_dropout:make"  # another student, which draws random numbers
WORDS = [
    "sweep", "--name", "abl", "--student", f"{STUDENT},{OTHER}", "--loss", "kd,cwd", "--steps", "4",
    "--batch-size", "2", "--log", "none", "--device", "cpu", "--save-every", "1", "--ema", "0.5", "--no-fresh",
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
    for run in RUNS:
        assert left(home, run) == left(alone, run), run
        said = (home / "sweeps" / "abl" / "logs" / f"{run}.log").read_text()
        assert f"--run {run}" in said and "finished 4 steps" in said and "judged on test" in said
    assert "6 of 6 runs are finished" in result.output
    in_process.commands.clear()
    again = typed(*WORDS, "--together", "8")
    assert again.exit_code == 0 and in_process.commands == [], again.output
