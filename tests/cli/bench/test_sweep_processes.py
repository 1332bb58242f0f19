"""A sweep whose cells are processes: stopped by a signal it ends them with their work kept, and goes on to
the very weights of runs that nobody stopped."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sweep_home import STUDENT, copied, typed

from kdcache.trainer.bench.run_state import is_held, state_of

RUNS = ("abl-tiny_teacher_make-none", "abl-tiny_teacher_make-kd")
STEPS = 60
WORDS = [
    "sweep", "--student", STUDENT, "--loss", "kd", "--no-fresh", "--name", "abl", "--steps", str(STEPS),
    "--batch-size", "4", "--log", "none", "--device", "cpu", "--save-every", "1",
]  # fmt: skip


def begin(home: Path, way: str) -> "subprocess.Popen[str]":
    """`way`: two processes of a run each, or one of both."""
    support = str(Path(__file__).parents[2] / "support")
    path = os.pathsep.join([*sys.path, support])
    environment = {**os.environ, "KDCACHE_HOME": str(home), "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    command = [sys.executable, "-m", "kdcache.cli.kdtrain", *WORDS, way, "2"]
    return subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def wait_for_steps(home: Path, process: "subprocess.Popen[str]") -> None:
    """Until each run has a checkpoint and neither is finished."""
    folders = [home / "runs" / run / "checkpoints" for run in RUNS]
    while process.poll() is None and not all(any(one.glob("step-*")) for one in folders):
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.timeout(900)  # seven processes, each of which loads torch
@pytest.mark.parametrize("way", ["--jobs", "--together"])
def test_a_signal_ends_every_cell_with_its_work_kept_and_the_same_command_goes_on_to_the_same_bits(
    home: Path, made_home: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch,
    way: str,
) -> None:  # fmt: skip
    with begin(home, way) as process:
        wait_for_steps(home, process)
        process.send_signal(signal.SIGTERM)
        output = process.communicate()[0]
    assert process.returncode == 143, output
    assert "go on with: kdtrain sweep" in output and "Traceback" not in output
    said = " ".join(output.split())
    assert "0 of 2 runs are done, those in work were ended and keep what checkpoints they have" in said
    states = [state_of(home / "runs" / run) for run in RUNS]
    assert not any(is_held(home / "runs" / run) for run in RUNS), "no child outlives the sweep"
    assert "stopped" in {state.word for state in states}
    assert all(state.step > 0 for state in states)
    assert way == "--jobs" or len({state.step for state in states}) == 1
    assert not list((home / "sweeps" / "abl").glob("failed/*.json"))

    with begin(home, way) as second:
        output = second.communicate()[0]
    assert second.returncode == 0 and "2 of 2 runs are finished" in output, output
    assert "is continued" in output
    logs = [path.read_text() for path in (home / "sweeps" / "abl" / "logs").glob("*.log")]
    assert not any("judge-run" in log for log in logs), "torch would be loaded a second time for each run"
    alone = copied(made_home, tmp_path_factory.mktemp("alone"))
    monkeypatch.setenv("KDCACHE_HOME", str(alone))
    (cache,) = [path.name for path in (alone / "caches").iterdir()]
    for run, loss in zip(RUNS, ("none", "kd"), strict=True):
        words = ["--run", run, "--loss", loss, "--cache", cache, "--student", STUDENT]
        assert typed(*words, *WORDS[WORDS.index("--steps") :]).exit_code == 0
        one, other = ((where / "runs" / run / "student.safetensors").read_bytes() for where in (home, alone))
        assert one == other, f"{run} was stopped and is another one"
