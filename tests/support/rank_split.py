"""One batch in any split: steps of a student without batch statistics, on labels of very uneven shares.

python -m torch.distributed.run --nproc-per-node 2 -m -- rank_split OUT: every optimizer and accumulation, the
weights of each after some steps into `<out>/rank<r>.pt`.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator
from fake_run import SIZE
from plain_run import BARE, PlainStudent, Samples, Weights, copy_of
from plain_run import plain_parts as labelled_parts

from kdcache.cache.spec import IGNORE
from kdcache.trainer.config import TrainConfig
from kdcache.trainer.ranks import reset_accelerate, start_accelerator
from kdcache.trainer.steps.choose import make_stepper
from kdcache.trainer.steps.contract import RunParts
from kdcache.trainer.stream.batch import Batch

STEPS = 3
RATES = {"sgd": 0.5, "adamw": 0.01}
ACCUMULATED = (1, 2, 4)
# Rows of each label map that count, by position in the batch of 8. The first two are wholly ignored, which
# is a whole micro batch of four.
ROWS = (0, 0, 1, 16, 2, 9, 16, 1)


class Uneven(Samples):
    """Labels of which few or all are ignored; in the last step all of them."""

    def run(self, start_micro_step: int = 0) -> Iterator[Batch]:
        for batch in super().run(start_micro_step):
            truth = batch.truth.clone()
            for row, position in enumerate(self.layout.positions(batch.micro_step)):
                step, place = divmod(position, self.layout.global_batch)
                truth[row, ROWS[place] if step < STEPS - 1 else 0 : SIZE] = IGNORE
            yield batch._replace(truth=truth)


def uneven_parts(config: TrainConfig, loss: str) -> Callable[[Accelerator], RunParts]:
    def assemble(accelerator: Accelerator) -> RunParts:
        made = labelled_parts(config, loss)(accelerator)
        assert isinstance(made.student, PlainStudent)
        return replace(made, stream=Uneven(made.stream.layout))

    return assemble


def split_config(optimizer: str, accumulate: int) -> TrainConfig:
    return replace(BARE, optimizer=optimizer, lr=RATES[optimizer], accumulate=accumulate, steps=STEPS)


def trained(folder: Path, config: TrainConfig, loss: str = "none") -> tuple[Weights, list[float]]:
    """The student's weights after `STEPS` steps, and the loss of each on this rank."""
    accelerator = start_accelerator(config, folder, start=0)
    made = uneven_parts(config, loss)(accelerator)
    stepper = make_stepper(config, made, accelerator, sync_bn=False)
    batches = made.stream.run()
    losses = [float(stepper.step(step, batches, made.stream).terms[0]) for step in range(STEPS)]
    return copy_of(stepper.module.student), losses


def main(out: Path) -> None:
    accelerator = start_accelerator(split_config("sgd", 1), out, start=0)
    rank, world = int(accelerator.process_index), int(accelerator.num_processes)
    left = {
        f"{optimizer}/{accumulate}": trained(out, split_config(optimizer, accumulate))
        for optimizer in RATES
        for accumulate in ACCUMULATED
    }
    torch.save({"world": world, "trained": left}, out / f"rank{rank}.pt")
    accelerator.end_training()
    reset_accelerate()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
