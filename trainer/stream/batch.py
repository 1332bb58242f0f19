"""What flows from a stream to the training loop, and which positions of the order each rank reads.

Axes: B batch (of one rank and one micro step), H W pixels or cells, C channels.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from kdcache.cache.errors import BadOption
from kdcache.cache.images.feed import ImageBatch
from kdcache.cache.spec import Task
from kdcache.cache.tasks.contract import Mixed, Truth

CLASSES = "classes"  # of what a stream describes: the digest of names and class map, of fresh views


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLayout:
    """How one global batch is split: first over accumulation steps, then over ranks, each part contiguous.

    A step reads positions [step * B, (step + 1) * B) for any world size and any accumulation: the same step
    means the same samples wherever it runs.
    """

    seed: int
    global_batch: int  # samples per optimizer step, over all ranks and accumulation steps
    world: int = 1
    rank: int = 0
    accumulation: int = 1

    def __post_init__(self) -> None:
        parts = self.world * self.accumulation
        if not 0 <= self.rank < self.world or self.accumulation < 1 or self.global_batch < 1:
            raise BadOption(
                f"rank {self.rank} of {self.world}, accumulation {self.accumulation}, "
                f"batch {self.global_batch}",
                where="the batch layout",
                fix="use 0 <= rank < world size, and at least 1 for accumulation and batch size",
            )
        if self.global_batch % parts:
            raise BadOption(
                f"a global batch of {self.global_batch} cannot be split into {parts} equal parts "
                f"({self.world} ranks x {self.accumulation} accumulation steps)",
                where="--batch-size",
                fix=f"use --batch-size {max(1, self.global_batch // parts) * parts}, "
                f"or change --accumulate or the number of processes",
            )

    @property
    def micro_batch(self) -> int:
        """Samples that one rank reads per micro step."""
        return self.global_batch // (self.world * self.accumulation)

    def positions(self, micro_step: int) -> range:
        """The positions of this rank at `micro_step` = step * accumulation + a, for 0 <= a < accumulation."""
        start = (micro_step * self.world + self.rank) * self.micro_batch
        return range(start, start + self.micro_batch)


class Batch(NamedTuple):
    """One micro batch of one rank, on the stream's device. The tensors own their memory and may be held.

    With turned views B is 4 x the samples: rows 4i .. 4i + 3 show sample i turned by 0, 90, 180 and 270
    degrees counter-clockwise, and `rows_per_sample` is 4.
    """

    images_BHWC: Tensor  # uint8 RGB
    truth: Tensor  # as `Truth.collate` gives it
    parts: dict[str, dict[str, Tensor]]  # target name -> part name -> (B, *part shape), still encoded
    micro_step: int
    epoch: int  # of the first position; a batch may straddle two
    samples_B: Tensor  # int64 index of each row's sample
    mixed: Mixed | None = None  # only where the recipe mixes
    rows_per_sample: int = 1


def batch_of(
    decoded: ImageBatch,
    truth: Truth,
    *,
    micro_step: int,
    epoch: int,
    rows_per_sample: int,
    parts: dict[str, dict[str, Tensor]],
) -> Batch:
    """What the image pipeline made of a feed, with the truth and the sample numbers of the feed's rows."""
    device = decoded.images_BHWC.device
    collated, mixed = truth.collate(decoded.feed.truths, decoded.maps_BHW)
    return Batch(
        images_BHWC=decoded.images_BHWC,
        truth=collated.to(device),
        parts=parts,
        micro_step=micro_step,
        epoch=epoch,
        samples_B=torch.tensor([row.sample for row in decoded.feed.rows], device=device),
        mixed=None if mixed is None else Mixed(*(value.to(device) for value in mixed)),
        rows_per_sample=rows_per_sample,
    )


class Stream(Protocol):
    """Batches in the order of `layout`, from any micro step on, and the teacher's answer to each of them."""

    @property
    def layout(self) -> BatchLayout: ...
    @property
    def pixels(self) -> str:
        """Where pixels come from and why, for the header of a run."""
        ...

    @property
    def num_samples(self) -> int:
        """Valid samples: what one epoch visits."""
        ...

    def run(self, start_micro_step: int = 0) -> Iterator[Batch]:
        """Endless batches from `start_micro_step` on; the same as the tail of a run from 0."""
        ...

    def targets(self, batch: Batch) -> dict[str, Tensor]:
        """Need name -> float32 (B, C, H, W) or (B, C), on the batch's device, without gradient."""
        ...

    def key(self, sample: int) -> str:
        """The key of a sample by its index in `samples_B`, for errors."""
        ...

    def close(self) -> None: ...
    def describe(self) -> dict[str, object]:
        """What a run records to say which pixels and targets it trained on; plain JSON values."""
        ...


@runtime_checkable
class SampleSource(Protocol):
    """Encoded samples by index: what a fresh stream and evaluation read. A Cache is one as it stands."""

    @property
    def task(self) -> Task: ...
    @property
    def num_samples(self) -> int: ...
    @property
    def invalid(self) -> np.ndarray:
        """Sorted indices of samples that cannot be used."""
        ...

    def image(self, index: int) -> np.ndarray:
        """The encoded image, 1-D uint8."""
        ...

    def truth(self, index: int) -> np.ndarray:
        """As `Truth.parse` of the task gives it."""
        ...

    def key(self, index: int) -> str: ...
    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of the image in pixels."""
        ...
