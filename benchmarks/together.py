"""Six cells of a sweep in one process on one stream (`--together`) against the same cells in turn, in
interleaved rounds: seconds of the whole job, start and judging in it, or with `--steps-only` those of the
steps alone, in one process; and whether every student has the same bits.

    benchmarks/together.py cifar --data cifar10_mini.npz --weights cifar_resnet20.safetensors --home DIR
    benchmarks/together.py camvid --data camvid --home DIR --steps-only

CPU seconds are those of this process or of all children: on a machine that others use they say more than
those of the clock.
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from kdcache.cache.fingerprint import digest_bytes
from kdcache.trainer.bench.definition import split_list
from kdcache.trainer.events import Event, RunStarted, StepsDone
from kdcache.trainer.loop import Training, train
from kdcache.trainer.run import training_of
from kdcache.trainer.together.group import Member, train_together

CASES: dict[str, dict[str, Any]] = {
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
            *("--teacher", "small_student:make", "--tap", "stage4", "--tap", "logits", "--views", "crops:1"),
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


def clear(home: Path) -> None:
    for folder in ("runs", "sweeps"):
        shutil.rmtree(home / folder, ignore_errors=True)


class Clock:
    """Listens to a run: the seconds from its first step to its last."""

    def __init__(self, steps: int) -> None:
        self.steps, self.begun, self.ended = steps, (0.0, 0.0), (0.0, 0.0)

    def __call__(self, event: Event) -> None:
        now = time.perf_counter(), time.process_time()
        if isinstance(event, RunStarted):
            self.begun = now
        elif isinstance(event, StepsDone) and event.step == self.steps:
            self.ended = now


def unjudged(given: dict[str, Any], home: Path, clock: Clock) -> Training:
    what = training_of(given, home=home, resume=False, listen=clock)
    return what._replace(assemble=lambda accelerator: replace(what.assemble(accelerator), evaluate=None))


def steps_only(home: Path, given: Sequence[dict[str, Any]], together: int) -> Turn:
    """All steps of all runs in this process."""
    clear(home)
    clocks = [Clock(one["steps"]) for one in given]
    makes = [partial(unjudged, one, home, clock) for one, clock in zip(given, clocks, strict=True)]
    if together > 1:
        members = [Member(one["run"], ("kdtrain",), make) for one, make in zip(given, makes, strict=True)]
        train_together(members, lambda ended: None)
        first, last = max(clock.begun for clock in clocks), max(clock.ended for clock in clocks)
        return Turn(last[0] - first[0], last[1] - first[1])
    for make in makes:
        what = make()
        train(what.config, what.run_dir, what.assemble, listen=what.listen)
    return Turn(*(sum(one.ended[i] - one.begun[i] for one in clocks) for i in (0, 1)))


def turn(home: Path, words: list[str], together: int) -> Turn:
    clear(home)
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
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--together", type=int, default=6)
    parser.add_argument("--steps-only", action="store_true")
    given = parser.parse_args()
    case = CASES[given.case]
    build(given.home, case, given.data, given.weights)
    words = [*case["sweep"], "--steps", str(given.steps), "--weights", "none", "--device", "cpu"]
    words += ["--log", "none", "--no-fresh", "--name", "s"]
    measure = partial(steps_only, given.home, runs_of(words)) if given.steps_only else None
    turns: dict[int, list[Turn]] = {1: [], given.together: []}
    for number in range(given.rounds):
        made: list[dict[str, str]] = []
        for together in sorted(turns, reverse=bool(number % 2)):
            one = measure(together) if measure else turn(given.home, words, together)
            turns[together].append(one)
            made.append(students(given.home))
            print(f"--together {together}: {one}", flush=True)
        assert made[0] == made[1] and made[0], "a student differs"
        print(f"{len(made[0])} students, the same bits", flush=True)
    said(turns)


def build(home: Path, case: dict[str, Any], data: Path, weights: Path | None) -> None:
    home.mkdir(parents=True, exist_ok=True)
    if not list((home / "caches").glob("*")):
        words = [*case["build"], "--data", f"{case['data']}:{data.resolve()}"]
        kd(home, "kdcache", "build", *words, *(("--weights", str(weights.resolve())) if weights else ()))


def runs_of(words: Sequence[str]) -> list[dict[str, Any]]:
    """The cells of these words, as options by their names."""
    typed = dict(zip(words, words[1:], strict=False))
    losses = ["none", *split_list(typed["--loss"], "--loss")]
    own = {"student": typed["--student"], "batch_size": int(typed["--batch-size"]), "weights": "none"}
    own |= {"steps": int(typed["--steps"]), "device": "cpu", "log": "none"}
    return [{"run": f"r{number}", "loss": loss, **own} for number, loss in enumerate(losses)]


def said(turns: dict[int, list[Turn]]) -> None:
    one, all_ = turns.values()
    for field in Turn._fields:
        middle = [statistics.median(getattr(turn, field) for turn in each) for each in (one, all_)]
        print(
            f"{field}: in turn {middle[0]:.1f}, together {middle[1]:.1f}, ratio {middle[0] / middle[1]:.2f}"
        )


if __name__ == "__main__":
    main()
