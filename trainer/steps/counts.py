"""The micro batches of one step, and how many labels a term's mean is over in all of them.

A mean over the labels of a micro batch, averaged over micro batches and ranks, is no mean over the step's
labels where their numbers differ. So the numbers are known before the first forward: by looking ahead at the
labels of this step, and one sum over the ranks.

Looking ahead holds a step's micro batches as the stream gives them, pixels as bytes and targets encoded,
each until its turn. A step of one micro batch holds nothing more, and a run whose supervised term counts
every row alike looks at nothing.
"""

import time
from collections.abc import Iterator
from typing import NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor

from kdcache.cache.processes.progress import arrived
from kdcache.losses.loss_set import LossSet
from kdcache.trainer.stream.batch import Batch


class Drawn(NamedTuple):
    """One micro batch of a step."""

    batch: Batch
    labels_per_batch: Tensor | None  # as StepInputs has it
    wait_s: float  # time spent waiting for the stream


def draw_step(
    batches: Iterator[Batch], losses: LossSet, accelerator: Accelerator, *, accumulate: int
) -> Iterator[Drawn]:
    """The next `accumulate` micro batches."""
    parts = accumulate * int(accelerator.num_processes)
    if parts == 1 or not losses.counts_labels:
        for _ in range(accumulate):
            batch, wait_s = _next(batches)
            yield Drawn(batch, None, wait_s)
        return
    ahead = [_next(batches) for _ in range(accumulate)]
    counted = torch.stack([losses.count_labels(batch.truth) for batch, _ in ahead]).sum()
    total: Tensor = accelerator.reduce(counted.to(accelerator.device), reduction="sum")
    while ahead:  # what had its turn is let go
        batch, wait_s = ahead.pop(0)
        yield Drawn(batch, total.clamp(min=1) / parts, wait_s)


def _next(batches: Iterator[Batch]) -> tuple[Batch, float]:
    began = time.perf_counter()
    batch = next(batches)
    arrived()
    return batch, time.perf_counter() - began
