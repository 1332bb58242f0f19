"""A minute of benchmarks/faults.py with its fixed seed: crash points, flips, kills, a reader under fire,
copies, hostile files, error numbers, environments."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "faults.py"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "outcome", "least"),
    [
        ("crash", "same", 80),
        ("flips", "found", 40),
        ("kills", "kills of build", 3),
        ("fire", "rows", 100),
        ("compact", "rounds", 8),
        ("hostile", "refused", 25),
        ("errnos", "refused", 20),
        ("environments", "no harm", 5),
    ],
)
def test_nothing_is_silent_and_nothing_is_a_traceback(
    tmp_path: Path, kind: str, outcome: str, least: int
) -> None:
    command = [sys.executable, "-W", "ignore", str(SCRIPT), "--small", "--only", kind, "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    cases = json.loads((tmp_path / f"{kind}.json").read_text())
    assert "incomplete" not in done.stdout and f"| {kind} | {len(cases)} | 0 | 0 |" in done.stdout
    assert sum(case.get(outcome, 0) for case in cases.values()) >= least
