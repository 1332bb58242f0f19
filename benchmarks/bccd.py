"""Distillation of detectors on BCCD: docs/results.md's table, from commands as a user types them.

    .venv/bin/python benchmarks/bccd.py --data DIR --weights DIR [--out bench-out/bccd] [--jobs 1] [--table]

364 images of blood cells, 3 classes, on a canvas of 192x256. A teacher gfl-r50 learns for 24 epochs, students
gfl-r18 for 8, all with a head of 128 channels and two convolutions. Every student sees the same stored views:
8 draws of fit=0.7x1.5 with flip. Each command that has ended is not run again, a training run that was killed
is resumed, so the script is started again until it prints its table. `--jobs` runs that many students at a
time, with a thread each.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

CANVAS, RECIPE, NUM_VIEWS = "192,256", "fit=0.7x1.5,flip", 8
HEAD = "gfl(width=128,convs=2)"
COMMON = [
    "--batch-size", "4", "--optimizer", "adamw", "--lr", "4e-4", "--encoder-lr", "0.25", "--lr-schedule",
    "cosine",
]  # fmt: skip
SEEDS = (0, 1, 2)
OWN = "+task(score=own)"  # GFL's own task loss beside every method: what differs is the method
LOSSES = ("none", f"bckd{OWN}", f"bckd(loc=0){OWN}", "pkd", f"bckd+pkd{OWN}")
CODECS = {"fp32": LOSSES, "int8": (f"bckd{OWN}",)}  # how class maps are stored -> what is trained from them
FIGURES = ("ap", "ap50", "ap75")


class Student(NamedTuple):
    codec: str
    loss: str
    seed: int

    @property
    def run(self) -> str:
        named = self.loss.removesuffix(OWN)
        plain = "".join(letter if letter.isalnum() else "-" for letter in named).strip("-")
        return f"{plain}-s{self.seed}"


def students() -> Iterator[Student]:
    """One seed of everything first: what there is when the time is up is then a fair table."""
    for seed in SEEDS:
        for codec, losses in CODECS.items():
            yield from (Student(codec, loss, seed) for loss in losses)


class Bench:
    def __init__(self, data: Path, weights: Path, out: Path) -> None:
        self.data, self.weights, self.out = f"coco:{data.resolve()}", weights.resolve(), out.resolve()

    def home(self, codec: str) -> Path:
        return self.out / codec

    def call(self, home: Path, program: str, *words: str) -> None:
        """One command, its output in a log beside the runs. Raises CalledProcessError."""
        home.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", f"kdcache.cli.{program}", *words]
        environment = {**os.environ, "KDCACHE_HOME": str(home), "OMP_NUM_THREADS": "1"}
        with (home / "log.txt").open("a") as log:
            log.write(f"$ {program} {' '.join(words)}\n")
            log.flush()
            subprocess.run(command, env=environment, stdout=log, stderr=subprocess.STDOUT, check=True)

    def train(self, home: Path, run: str, *words: str) -> None:
        """Train `run` unless it has ended, from its last checkpoint on where it was killed."""
        folder = home / "runs" / run
        if (folder / "test.json").is_file():
            return
        began = time.monotonic()
        resumed = ["--resume"] if (folder / "config.toml").is_file() else []
        self.call(home, "kdtrain", "--run", run, *words, "--save-every", "50", *resumed)
        for split in ("val", "test"):
            self.call(home, "kdtrain", "eval", run, "--split", split, "--out", str(folder / f"{split}.json"))
        print(f"{home.name}/{run}: {(time.monotonic() - began) / 60:.1f} min", flush=True)

    def teacher(self) -> None:
        home = self.home("teacher")
        self.train(
            home, "r50", "--student", f"{HEAD}:r50", "--weights", str(self.weights / "resnet50.safetensors"),
            "--loss", "none", "--data", self.data, "--crop", CANVAS, "--augment", RECIPE, "--epochs", "24",
            *COMMON,
        )  # fmt: skip

    def cache(self, codec: str) -> None:
        """The same command finishes what was killed, and has nothing to do where it ended."""
        self.call(
            self.home(codec), "kdcache", "build", "--teacher", str(self.home("teacher") / "runs" / "r50"),
            "--views", f"crops:{NUM_VIEWS}", "--augment", RECIPE, "--crop", CANVAS,
            "--tap", f"cls={codec}", "--tap", "box", *(["--tap", "fpn"] if codec == "fp32" else []),
        )  # fmt: skip

    def student(self, one: Student) -> None:
        self.train(
            self.home(one.codec), one.run, "--student", f"{HEAD}:r18", "--weights",
            str(self.weights / "resnet18.safetensors"), "--loss", one.loss, "--epochs", "8", "--seed",
            str(one.seed), *COMMON,
        )  # fmt: skip

    def figures(self, codec: str, run: str, split: str) -> dict[str, float] | None:
        path = self.home(codec) / "runs" / run / f"{split}.json"
        return json.loads(path.read_text()) if path.is_file() else None

    def table(self) -> None:
        print("| student | class maps | seeds | val AP / AP50 / AP75 | test AP / AP50 / AP75 |")
        print("|---|---|---|---|---|")
        rows = [("teacher gfl-r50", "", "teacher", ["r50"])]
        for codec, losses in CODECS.items():
            rows += [
                (loss, codec, codec, [Student(codec, loss, seed).run for seed in SEEDS]) for loss in losses
            ]
        for name, said, home, runs in rows:
            cells = [self._cell(home, runs, split) for split in ("val", "test")]
            ended = sum(self.figures(home, run, "test") is not None for run in runs)
            print(f"| {name.removesuffix(OWN)} | {said} | {ended} | {cells[0]} | {cells[1]} |")

    def _cell(self, home: str, runs: list[str], split: str) -> str:
        each = [one for run in runs if (one := self.figures(home, run, split)) is not None]
        return " / ".join(_spread([one[figure] for one in each]) for figure in FIGURES)


def _spread(values: list[float]) -> str:
    if not values:
        return "-"
    spread = f" ± {stdev(values) * 100:.1f}" if len(values) > 1 else ""
    return f"{mean(values) * 100:.1f}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("bench-out/bccd"))
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="print what there is and train nothing")
    args = parser.parse_args()
    bench = Bench(args.data, args.weights, args.out)
    if not args.table:
        bench.teacher()
        for codec in CODECS:
            bench.cache(codec)
        with ThreadPoolExecutor(args.jobs) as pool:
            list(pool.map(bench.student, students()))
    bench.table()


if __name__ == "__main__":
    main()
