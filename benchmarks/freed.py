"""What a process gains that keeps the memory it freed, and that leaves at once when its work is done.

    .venv/bin/python benchmarks/freed.py --data npz:FILE [--steps 100] [--rounds 3] [--together 2]

`--together` students (ResNet-8, the batch size that `kdtrain` has) train in one process of ours, as a sweep
trains them; beside it the same command whose allocator was told to do as it does by default, and the same
that Python ends.
Medians of interleaved rounds: seconds a step, page faults a step of one student, seconds from the last word
to the end of the process.
"""

import argparse
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from rounds import ratio

DEFAULT_ALLOCATOR = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=7"}  # says what holds anyway
AT_ONCE = "import kdcache.cli.kdtrain as command; command.process()"
BY_PYTHON = "import kdcache.cli.kdtrain as command; command.main()"
CONTENDERS = {
    "ours": (AT_ONCE, {}),
    "freed memory is given back": (AT_ONCE, DEFAULT_ALLOCATOR),
    "ended by Python": (BY_PYTHON, {}),
}


class Spent(NamedTuple):
    step_s: float
    faults: float
    leaving_s: float


def trained(home: Path, code: str, environment: dict[str, str], args: argparse.Namespace) -> Spent:
    """One process that trains all students."""
    for name in ("runs", "logs"):
        shutil.rmtree(home / name, ignore_errors=True)
    student = ["--student", "resnet8", "--data", args.data, "--loss", "none"]
    student += ["--device", "cpu", "--log", "none"]
    lines = [
        shlex.join(["kdtrain", "--run", f"r{number}", *student, "--steps", str(args.steps)])
        for number in range(args.together)
    ]
    command = [sys.executable, "-c", code, "train-together", "--logs", str(home / "logs"), *lines]
    env = {**os.environ, "KDCACHE_HOME": str(home), **environment}
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said_s = time.perf_counter()
    for line in process.stdout:
        assert json.loads(line)["status"] == 0, line
        said_s = time.perf_counter()
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0, status
    leaving_s = time.perf_counter() - said_s
    step_s = statistics.fmean(_seconds(home / "runs" / f"r{number}") for number in range(args.together))
    return Spent(step_s, used.ru_minflt / (args.steps * args.together), leaving_s)


def _seconds(run: Path) -> float:
    """A step's, over the second half of a run."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rates = [line["steps_per_s"] for line in lines if "steps_per_s" in line]
    return statistics.fmean(1 / rate for rate in rates[len(rates) // 2 :])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="npz:FILE of images of 32x32")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--together", type=int, default=2)
    args = parser.parse_args()
    spent: dict[str, list[Spent]] = {name: [] for name in CONTENDERS}
    with tempfile.TemporaryDirectory(prefix="kdcache-freed-") as home:
        for number in range(args.rounds):
            for name in list(CONTENDERS)[:: 1 if number % 2 == 0 else -1]:
                spent[name].append(trained(Path(home), *CONTENDERS[name], args))
    print("| process | ms a step | of ours | faults a step, start-up included | s to its end |")
    print("| --- | --- | --- | --- | --- |")
    for name, each in spent.items():
        middle, (low, high) = ratio(
            [one.step_s for one in each], [one.step_s for one in spent["ours"]], skip=0
        )
        step_s, faults, leaving_s = (statistics.median(of) for of in zip(*each, strict=True))
        over = f"{middle:.2f} ({low:.2f} .. {high:.2f})"
        print(f"| {name} | {1000 * step_s:.1f} | {over} | {faults:.0f} | {leaving_s:.2f} |")


if __name__ == "__main__":
    main()
