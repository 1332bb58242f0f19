"""Six cells of a sweep in one process on one stream (`--together`) against the same cells in turn: seconds of
the whole job, start and judging in it, in interleaved rounds; and whether every student has the same bits.

    benchmarks/together.py cifar --data cifar10_mini.npz --weights cifar_resnet20.safetensors
    benchmarks/together.py camvid --data camvid --weights resnet18.safetensors

CPU seconds are those of all children: on a machine that others use they say more than those of the clock.
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from kdcache.cache.fingerprint import digest_bytes

CASES = {
    "cifar": {
        "data": "npz",
        "build": ["--teacher", "resnet20a", "--tap", "logits", "--views", "crops:4"],
        "sweep": [
            "--student",
            "resnet8",
            "--loss",
            "kd,dkd(warmup=1),nkd,dist,kd-topk",
            "--batch-size",
            "64",
        ],
    },
    "camvid": {
        "data": "camvid",
        "build": [
            *("--teacher", "r18", "--tap", "stage4", "--tap", "logits", "--views", "crops:2"),
            *("--crop", "176,240"),
        ],
        "sweep": [
            *("--student", "small_student:make", "--batch-size", "16"),
            *("--loss", "kd,cwd,dist,skds-pixel,fitnet(taps=stage4)"),
        ],
    },
}


class Turn(NamedTuple):
    wall_s: float
    cpu_s: float


def kd(home: Path, *words: str) -> None:
    command = [sys.executable, "-m", f"kdcache.cli.{words[0]}", *words[1:]]
    path = os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(Path(__file__).parent)])
    environment = {**os.environ, "KDCACHE_HOME": str(home), "PYTHONPATH": path}
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)


def turn(home: Path, words: list[str], together: int) -> Turn:
    for folder in ("runs", "sweeps"):
        shutil.rmtree(home / folder, ignore_errors=True)
    before, begun_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    kd(home, "kdtrain", "sweep", *words, "--together", str(together))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Turn(time.perf_counter() - begun_s, cpu_s)


def students(home: Path) -> dict[str, str]:
    paths = sorted((home / "runs").glob("*/student.safetensors"))
    return {path.parent.name: digest_bytes(path.read_bytes()) for path in paths}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--together", type=int, default=6)
    given = parser.parse_args()
    case = CASES[given.case]
    given.home.mkdir(parents=True, exist_ok=True)
    if not list((given.home / "caches").glob("*")):
        data = f"{case['data']}:{given.data.resolve()}"
        words = [*case["build"], "--data", data, "--weights", str(given.weights.resolve())]
        kd(given.home, "kdcache", "build", *words)
    words = [*case["sweep"], "--steps", str(given.steps), "--weights", "none", "--device", "cpu"]
    words += ["--log", "none", "--no-fresh", "--name", "s"]
    turns: dict[int, list[Turn]] = {1: [], given.together: []}
    for number in range(given.rounds):
        made: list[dict[str, str]] = []
        for together in sorted(turns, reverse=bool(number % 2)):
            turns[together].append(turn(given.home, words, together))
            made.append(students(given.home))
            print(f"--together {together}: {turns[together][-1]}", flush=True)
        assert made[0] == made[1] and made[0], "a student differs"
        print(f"{len(made[0])} students, the same bits", flush=True)
    for field in Turn._fields:
        one, all_ = (
            statistics.median(getattr(each, field) for each in turns[key]) for key in (1, given.together)
        )
        print(f"{field}: in turn {one:.1f}, together {all_:.1f}, ratio {one / all_:.2f}")


if __name__ == "__main__":
    main()
