"""SIGKILL at random moments of a build and of a training run, a few times; in full: benchmarks/kill.py."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "kill.py"


@pytest.mark.slow
def test_a_build_and_a_training_run_that_are_killed_end_byte_identical(tmp_path: Path) -> None:
    out = tmp_path / "kill.json"
    options = ["--kills", "4", "--train-kills", "2", "--images", "12", "--steps", "30", "--warm"]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *options, "--out", str(out)],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())
    assert found["failures"] == []
    assert found["build"]["finished_and_compared"] and found["train"]["finished_and_compared"]
    # A kill that hit nothing half-written proves little: each phase must have been hit.
    assert found["build"]["kills"].keys() >= {"array", "tar", "record"}
    assert found["train"]["kills"].keys() >= {"checkpoint"}
