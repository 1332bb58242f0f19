"""What a loss reads at one step, and what the whole set of losses answers.

Named tuples, because they travel through accelerate's and DDP's wrappers.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kdcache.cache.tasks.contract import Mixed


class StepInputs(NamedTuple):
    """One step's tensors. B rows, C channels, H W cells of a map (truth: pixels), D width of a vector."""

    student: Mapping[str, Tensor]  # as below, with gradient; empty until the student has answered
    teacher: Mapping[str, Tensor]  # tap or need -> (B, C, H, W) or (B, D) float, without gradient
    # What the task collates: int64 classes of pixels (B, H, W), 255 = ignore, or of images (B,); objects
    # (B, M, 5) float32: x1 y1 x2 y2 in pixels of the canvas and the class, -1 for padding.
    truth: Tensor
    generator: torch.Generator  # masks and noise are drawn from it and from nowhere else
    step: int
    epoch: int  # from 0
    samples_B: Tensor | None = None  # int64: index of each row's sample, for losses with a memory per sample
    images_BHWC: Tensor | None = None  # uint8, for losses that look at the pixels
    mixed: Mixed | None = None  # second classes, only where the views mix images
    rows_per_sample: int = 1  # 4 with turns: row 4i is the plain view of sample i, then 90, 180, 270 degrees
    learner: int | None = None  # the one network that learns in this step, where networks learn in turn
    # Mean number of labels that count, over the micro batches of the step on all ranks; None: the step is one
    # micro batch, or its supervised term counts every row alike. What is averaged over labels divides by it.
    labels_per_batch: Tensor | None = None
    prepared: Any = None  # what the supervised term worked out once for all terms (`LossTerm.prepare`)


def plain_rows(inputs: StepInputs, value: Tensor) -> Tensor:
    """The rows of unturned images: all of them, unless the batch holds quarter turns."""
    return value[:: inputs.rows_per_sample]


class LossValues(NamedTuple):
    """`total` is what to call backward on and equals the sum of `terms`; both mappings are detached, for the
    record.
    """

    total: Tensor
    terms: dict[str, Tensor]  # 'task', 'afdcd.fd' ... -> scalar as it enters the total, every weight applied
    unweighted: dict[str, Tensor]  # same keys -> scalar of the bare formula
