"""A run of a detector from a cache on this rank. 'whole' trains it to its end, 'killed' until rank 1 is
killed in a step, 'resumed' goes on from there. What the losses counted and the judge said is written to
`<out>/rank<r>.pt`.

python -m torch.distributed.run --nproc-per-node 2 -m -- rank_detection KIND HOME OUT
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from kdcache.losses.detection.matched import Matched
from kdcache.losses.supervised import detection as supervised
from kdcache.trainer.judge import detection as judging
from kdcache.trainer.judge.detection_metrics import DetectionMetrics
from kdcache.trainer.run import evaluate_run, train_run
from kdcache.trainer.steps.step import Stepper, StepResult

WHOLE, KILLED, RESUMED = "whole", "killed", "resumed"
NETWORK = "gfl(width=16,convs=1):test_resnet"
DIES_IN = 2
BEGUN = "begun"  # the run whose student they begin with, so that the encoder's statistics rest
# Statistics of batches are per rank on a CPU, and so is which levels BCKD skips: without both, two ranks must
# come to what one does.
OPTIONS: dict[str, Any] = {
    "student": NETWORK, "loss": "bckd(skip_levels=off)", "steps": 4, "batch_size": 4,
    "init": BEGUN, "save_every": 1, "eval_every": 4, "device": "cpu", "log": "none", "lr": 0.01,
}  # fmt: skip


class Watched:
    """Positives of each step over all ranks, and what the judge of the run was told."""

    def __init__(self) -> None:
        self.positives: list[float] = []
        self.judged: list[DetectionMetrics] = []

    def watch(self, world: int) -> None:
        real_match, real_metrics = supervised.match, judging.metrics_of

        def match(*given: Any) -> Matched:
            matched = real_match(*given)
            self.positives.append(float(matched.num_positives) * world)
            return matched

        def metrics_of(*given: Any) -> DetectionMetrics:
            self.judged.append(real_metrics(*given))
            return self.judged[-1]

        supervised.match, judging.metrics_of = match, metrics_of  # type: ignore[attr-defined]

    def left(self) -> dict[str, Any]:
        """The figures of the run's last judgement, and every box of it."""
        last = self.judged[-1]
        boxes = [
            [one.sample, one.boxes_N4.tolist(), one.scores_N.tolist(), one.classes_N.tolist()]
            for one in last.said
        ]
        return {"positives": self.positives, "figures": last.named(), "boxes": boxes}


def dies() -> None:
    """SIGKILL of rank 1 as it takes its step; the launcher ends the other."""
    real = Stepper.step

    def dying(self: Stepper, step: int, *rest: Any) -> StepResult:
        if step == DIES_IN and os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        return real(self, step, *rest)

    Stepper.step = dying  # type: ignore[method-assign]


def main(kind: str, home: Path, out: Path) -> None:
    watched = Watched()
    watched.watch(int(os.environ["WORLD_SIZE"]))
    if kind == KILLED:
        dies()
    if kind == RESUMED:
        train_run({"run": KILLED}, home=home, resume=True)
    else:
        train_run({**OPTIONS, "run": kind}, home=home)
    left = {"world": int(os.environ["WORLD_SIZE"]), **watched.left()}
    left["records"] = list(
        evaluate_run(
            KILLED if kind == RESUMED else kind,
            home=home,
            data=None,
            split="val",
            with_records=True,
            device="cpu",
        ).records
    )
    torch.save(left, out / f"rank{os.environ['RANK']}.pt")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
