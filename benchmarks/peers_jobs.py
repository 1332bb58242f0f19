"""The whole job of six ablations, for benchmarks/peers.py: from nothing to six judged students.

`none` and kd at five temperatures (0.1 of the labels, 0.9 of the teacher), CIFAR-10 images of 32x32, crops
padded by 4 and flips, SGD and a cosine, the same number of samples in every run, every student judged on
`val` and `test`. Each contender is timed as its user would wait for it, imports and start-up included: a
command of its own for each run, or one script for all of them.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from peers_envs import HERE, CallFailed, NotInstalled, made
from peers_hand import title
from rounds import ratio

TEMPERATURES = (None, 1.0, 2.0, 3.0, 4.0, 8.0)  # None: no teacher
HAND, OURS, TOGETHER, ONLINE, TORCHDISTILL = (
    "hand loop",
    "kdcache",
    "kdcache, together",
    "online",
    "torchdistill",
)
TAIL_CHARS = 400  # of a log, in an error
SGD = {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-4}


class Job(NamedTuple):
    """What is trained, and how long."""

    data: Path  # an npz file
    weights: Path  # of the teacher
    teacher: str
    student: str
    epochs: int
    images: int  # of the file's training rows
    temperatures: tuple[float | None, ...] = TEMPERATURES
    batch: int = 64
    views: int = 4

    @property
    def steps(self) -> int:
        """As many samples as `epochs` passes over the training part."""
        return max(1, round(self.epochs * self.num_train / self.batch))

    @property
    def num_train(self) -> int:
        return self.images - max(1, self.images // 10)


class Part(NamedTuple):
    """A stretch of the job: what it made, seconds, and the validation score of a run."""

    label: str
    seconds: float
    score: float | None = None


class Place(NamedTuple):
    """Where a contender works in one round."""

    job: Job
    folder: Path
    envs: Path

    def run(self, *command: str) -> tuple[float, str]:
        """Wall seconds of a command and what it printed. Raises CallFailed where it fails."""
        self.folder.mkdir(parents=True, exist_ok=True)
        env = os.environ | {"KDCACHE_HOME": str(self.folder)}
        began = time.perf_counter()
        with (self.folder / "log.txt").open("ab+") as log:
            done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=log, text=True)
            spent_s = time.perf_counter() - began
            if done.returncode:
                log.seek(0)
                said = (done.stdout + log.read().decode(errors="replace"))[-TAIL_CHARS:]
                raise CallFailed(f"exit status {done.returncode}: {' '.join(said.split())}")
        return spent_s, done.stdout

    @property
    def teacher(self) -> list[str]:
        return ["--teacher", self.job.teacher]


def hand(place: Place) -> list[Part]:
    return _script(place, Path(sys.executable), "peers_hand.py", {})


def torchdistill(place: Place) -> list[Part]:
    more = {"cache": str(place.folder / "outputs"), "epochs": place.job.epochs, "workers": 2}
    return _script(place, made("torchdistill", place.envs).python, "peers_torchdistill.py", more)


def _script(place: Place, python: Path, name: str, more: dict[str, Any]) -> list[Part]:
    """A script that prints when each part was done; what came before its clock began counts to the first."""
    place.folder.mkdir(parents=True, exist_ok=True)
    job = place.job._asdict() | {
        "data": str(place.job.data), "weights": str(place.job.weights),
        "log": str(place.folder / "losses.txt"), "steps": place.job.steps, "sgd": SGD,
    }  # fmt: skip
    file = place.folder / "job.json"
    file.write_text(json.dumps(job | more))
    spent_s, said = place.run(str(python), str(HERE / name), str(file))
    return parts_of([json.loads(line) for line in said.splitlines() if line.startswith("{")], spent_s)


def parts_of(lines: list[dict[str, Any]], spent_s: float) -> list[Part]:
    """From moments on the script's own clock to stretches that add up to its wall time."""
    before = spent_s - lines[-1]["at_s"]  # start-up and end
    starts = [-before, *(line["at_s"] for line in lines[:-1])]
    return [
        Part(line["label"], line["at_s"] - start, line.get("score"))
        for line, start in zip(lines, starts, strict=True)
    ]


def online(place: Place) -> list[Part]:
    data = ["--data", f"npz:{place.job.data}"]
    live = [*data, "--online", *place.teacher, "--teacher-weights", str(place.job.weights)]
    return [_kdtrain(place, t, live if t else data) for t in place.job.temperatures]


def ours(place: Place) -> list[Part]:
    built = _build(place)
    (cache,) = (place.folder / "caches").iterdir()
    return [built, *(_kdtrain(place, t, ["--cache", cache.name]) for t in place.job.temperatures)]


def together(place: Place) -> list[Part]:
    """All in one process on one stream; without the option CallFailed says so."""
    if "--together" not in place.run(*_command("kdtrain"), "sweep", "--help")[1]:
        raise CallFailed("this version's sweep has no --together")
    built = _build(place)
    losses = ",".join(_loss(t) for t in place.job.temperatures if t)  # a sweep trains 'none' by itself
    sweep = ["sweep", "--name", "six", "--loss", losses, "--no-fresh"]
    sweep += ["--together", str(len(place.job.temperatures)), *_settings(place.job)]
    spent_s, _ = place.run(*_command("kdtrain"), *sweep)
    scores = [score for run in (place.folder / "runs").glob("*/") if (score := _score(run)) is not None]
    if len(scores) != len(place.job.temperatures):
        raise CallFailed(f"{len(scores)} runs have a score")
    return [built, Part("sweep of all", spent_s, sum(scores) / len(scores))]


def _build(place: Place) -> Part:
    options = [*place.teacher, "--weights", str(place.job.weights), "--data", f"npz:{place.job.data}"]
    options += ["--views", f"crops:{place.job.views}", "--tap", "logits", "--device", "cpu"]
    return Part("build", place.run(*_command("kdcache"), "build", *options)[0])


def _kdtrain(place: Place, temperature: float | None, more: list[str]) -> Part:
    run = title(temperature).replace("=", "")
    options = ["--run", run, "--loss", _loss(temperature), *_settings(place.job), *more]
    spent_s, _ = place.run(*_command("kdtrain"), *options)
    judged_s, _ = place.run(*_command("kdtrain"), "eval", run, "--split", "test", "--device", "cpu")
    return Part(title(temperature), spent_s + judged_s, _score(place.folder / "runs" / run))


def _loss(temperature: float | None) -> str:
    return f"kd(T={temperature})" if temperature else "none"


def _settings(job: Job) -> list[str]:
    given = {
        "--student": job.student, "--steps": job.steps, "--batch-size": job.batch, "--lr": SGD["lr"],
        "--momentum": SGD["momentum"], "--weight-decay": SGD["weight_decay"], "--lr-schedule": "cosine",
        "--log": "none", "--device": "cpu",
    }  # fmt: skip
    return [str(word) for pair in given.items() for word in pair]


def _command(name: str) -> list[str]:
    return [sys.executable, "-m", f"kdcache.cli.{name}"]


def _score(run: Path) -> float | None:
    """Accuracy on the validation images, of the last line that has it."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    scores = [value for line in lines for name, value in line.items() if name.endswith("top1")]
    return float(scores[-1]) if scores else None


CONTENDERS: dict[str, Callable[[Place], list[Part]]] = {
    HAND: hand,
    OURS: ours,
    TOGETHER: together,
    ONLINE: online,
    TORCHDISTILL: torchdistill,
}


def measure(
    job: Job, work: Path, envs: Path, *, rounds: int, until_s: float, contenders: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Every contender once a round, the order turned round in every second one; their parts in each."""
    names = [name for name in CONTENDERS if not contenders or name in contenders]
    times: dict[str, list[list[Part]]] = {name: [] for name in names}
    missing: dict[str, str] = {}
    for number in range(rounds):
        if number and time.monotonic() > until_s:
            break
        for name in names if number % 2 == 0 else reversed(names):
            if name in missing:
                continue
            folder = work / f"job-{number}-{name.replace(', ', '-').replace(' ', '-')}"
            try:
                times[name].append(CONTENDERS[name](Place(job, folder, envs)))
            except NotInstalled as error:
                missing[name] = f"not installed: {error}"
            except CallFailed as error:
                missing[name] = f"failed: {error}"
    return {
        "job": job._asdict() | {"data": job.data.name, "weights": job.weights.name, "steps": job.steps},
        "rounds": {
            name: [[part._asdict() for part in parts] for parts in each] for name, each in times.items()
        },
        "summary": {name: summary(each, times.get(HAND, [])) for name, each in times.items() if each},
        "missing": missing,
    }


def summary(each: list[list[Part]], hand_rounds: list[list[Part]]) -> dict[str, Any]:
    """Seconds of the whole job in each round, the same over the hand loop's, the mean score."""
    totals = [sum(part.seconds for part in parts) for parts in each]
    base = [sum(part.seconds for part in parts) for parts in hand_rounds][: len(totals)]
    scores = [part.score for parts in each for part in parts if part.score is not None]
    result: dict[str, Any] = {"seconds": totals, "score": sum(scores) / len(scores) if scores else None}
    if len(base) == len(totals):
        result["over_hand"], result["over_hand_spread"] = ratio(totals, base, skip=0)
    return result
