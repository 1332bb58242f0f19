"""What one forward of a step runs: the student and its losses as one module.

Legend: B rows, H W pixels.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kdcache.cache.errors import BadOption
from kdcache.losses.loss_set import LossSet
from kdcache.losses.step_inputs import LossValues, Mixed, StepInputs
from kdcache.trainer.steps.rivals import detached


class StepBatch(NamedTuple):
    """What one micro step feeds to the `Distiller`, all on its device."""

    images_BHWC: Tensor  # uint8
    labels: Tensor  # int64: (B, H, W), 255 = ignore; or (B,), the class with the larger share
    targets: dict[str, Tensor]
    generator: torch.Generator
    step: int
    epoch: int
    samples_B: Tensor  # int64
    mixed: Mixed | None = None
    rows_per_sample: int = 1
    turn: int | None = None


class Distiller(nn.Module):
    """Student and losses as one module, so that one DDP wrapper synchronises the gradients of both."""

    def __init__(self, student: nn.Module, losses: LossSet, taps: Sequence[str]) -> None:
        super().__init__()
        self.student = student
        self.losses = losses
        self.taps = tuple(taps)
        self.remembers = False  # keep what the losses read, for rivals that learn from it afterwards
        self.seen: StepInputs | None = None

    def forward(self, batch: StepBatch) -> LossValues:
        """Losses of one micro batch. Learned parts share the student's precision, formulas use float32.

        BadOption where a batch normalisation of the student or of a loss has one value per channel.
        """
        with _explained(batch):
            return self._forward(batch)

    def _forward(self, batch: StepBatch) -> LossValues:
        maps = self.student(batch.images_BHWC, self.taps)
        inputs = StepInputs(
            student={tap: value.float() for tap, value in maps.items()},
            teacher=batch.targets,
            labels=batch.labels,
            generator=batch.generator,
            step=batch.step,
            epoch=batch.epoch,
            samples_B=batch.samples_B,
            images_BHWC=batch.images_BHWC,
            mixed=batch.mixed,
            rows_per_sample=batch.rows_per_sample,
            turn=batch.turn,
        )
        self.seen = detached(inputs) if self.remembers else None
        values: LossValues = self.losses(inputs)
        return values


@contextmanager
def _explained(batch: StepBatch) -> Iterator[None]:
    """torch's refusal of batch statistics over one value as an error with a way out: DeepLabV3 pools an image
    to one cell, so a single image is not enough for it."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise BadOption(
            f"batch normalisation of one value per channel: {len(batch.images_BHWC)} image in a micro batch, "
            "and a map of one cell",
            where="--batch-size, which ranks and --accumulate divide",
            fix="two images or more per rank and micro batch: raise --batch-size or lower --accumulate",
        ) from error
