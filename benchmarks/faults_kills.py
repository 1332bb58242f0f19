"""Random kills of faults.py: rounds of kill.py, each with a seed of its own."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_name("kill.py")
ROUNDS, BUILDS, RUNS = 10, 20, 6  # 200 builds and 60 runs


def kill_cases(small: bool) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """`small` is one short round."""
    if small:
        yield "small", partial(round_of_kills, 0, ["--kills", "3", "--train-kills", "1", "--images", "12"])
        return
    for seed in range(ROUNDS):
        yield (
            f"round {seed}",
            partial(round_of_kills, seed, ["--kills", str(BUILDS), "--train-kills", str(RUNS)]),
        )


def round_of_kills(seed: int, options: list[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="kdcache-kills-") as folder:
        out = Path(folder) / "kill.json"
        command = [sys.executable, str(SCRIPT), "--warm", "--seed", str(seed), "--out", str(out), *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1800)
        if not out.is_file():
            return {"failed": 1, "why": done.stderr[-500:]}
        result = json.loads(out.read_text())
    kills = {f"kills of {job}": sum(result[job]["kills"].values()) for job in ("build", "train")}
    failed = {"failed": len(result["failures"]), "why": "; ".join(result["failures"][:3])}
    return kills | (failed if result["failures"] else {})
