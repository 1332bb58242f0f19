"""The stream of a run that reads no images: rows to be filled by a generator, in the batch layout's order."""

from collections.abc import Iterator

import torch
from torch import Tensor

from kdcache.trainer.stream.batch import Batch, BatchLayout


class NoiseStream:
    """Batches of blank pixels; an epoch is as long as the data's, so that epochs keep their meaning. See
    `Stream`.
    """

    pixels = "none, images are invented"

    def __init__(self, layout: BatchLayout, num_samples: int) -> None:
        self.layout = layout
        self.num_samples = num_samples

    def run(self, start_micro_step: int = 0) -> Iterator[Batch]:
        micro_step = start_micro_step
        while True:
            positions = self.layout.positions(micro_step)
            num = len(positions)
            yield Batch(
                images_BHWC=torch.zeros((num, 1, 1, 3), dtype=torch.uint8),
                truth=torch.zeros(num, dtype=torch.int64),
                parts={},
                micro_step=micro_step,
                epoch=positions.start // self.num_samples,
                samples_B=torch.tensor([position % self.num_samples for position in positions]),
            )
            micro_step += 1

    def targets(self, batch: Batch) -> dict[str, Tensor]:
        """None: the teacher is asked within the step, about images that do not exist yet."""
        del batch
        return {}

    def key(self, sample: int) -> str:
        return f"drawn image {sample}"

    def close(self) -> None:
        """Nothing is open."""

    def describe(self) -> dict[str, object]:
        return {"views": "generated", "samples": self.num_samples}
