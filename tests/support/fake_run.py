"""A run small enough for tests: student, stream, validation and export without files or a pipeline.

The stream is faithful in what resuming relies on: batches and targets are a pure function of the micro step.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from kdcache.trainer.batch_layout import Batch, BatchLayout
from kdcache.trainer.evaluate import Metrics

SIZE, CLASSES, CHANNELS = 16, 3, 4


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the code under test may catch it."""


class TinyStudent(nn.Module):
    """Batch statistics and dropout: the two things of a student that remember or draw."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, CHANNELS, 3, 4, 1), nn.BatchNorm2d(CHANNELS), nn.ReLU(), nn.Dropout(0.3)
        )
        self.head = nn.Conv2d(CHANNELS, CLASSES, 1)

    def forward(self, images_BHWC: Tensor, taps: tuple[str, ...]) -> dict[str, Tensor]:
        features = self.stem(images_BHWC.permute(0, 3, 1, 2).float() / 255)
        found = {"stage4": features, "logits": self.head(features)}
        return {tap: found[tap] for tap in taps}


class FakeStream:
    """Batches that depend on nothing but the micro step; `kill_at` dies before handing out that one."""

    num_samples = 10

    def __init__(self, layout: BatchLayout, *, kill_at: int | None = None, bad_at: int | None = None) -> None:
        self.layout, self.kill_at, self.bad_at = layout, kill_at, bad_at
        self.closed = False

    def run(self, start_micro_step: int = 0) -> Iterator[Batch]:
        micro_step = start_micro_step
        while True:
            if micro_step == self.kill_at:
                raise Killed
            draw = torch.Generator().manual_seed(micro_step)
            size = (self.layout.micro_batch, SIZE, SIZE)
            images = torch.randint(0, 256, (*size, 3), generator=draw, dtype=torch.uint8)
            labels = torch.randint(0, CLASSES, size, generator=draw, dtype=torch.uint8)
            yield Batch(
                images, labels, {}, micro_step, self.layout.positions(micro_step).start // self.num_samples
            )
            micro_step += 1

    def targets(self, batch: Batch) -> dict[str, Tensor]:
        draw = torch.Generator().manual_seed(1000 + batch.micro_step)
        value = torch.randn(len(batch.images_BHWC), 6, SIZE // 4, SIZE // 4, generator=draw)
        return {"stage4": value * (float("nan") if batch.micro_step == self.bad_at else 1.0)}

    def close(self) -> None:
        self.closed = True

    def describe(self) -> dict[str, object]:
        return {"views": "fake"}


def judge(network: nn.Module) -> Metrics:
    """A number that depends on every weight, so that which student is the best depends on all of them."""
    total = sum(float(value.double().sum()) for value in network.state_dict().values())
    return Metrics(total % 1.0, {"a": total % 1.0, "b": float("nan")}, 0.5, 2, 0.1)


def export(run_dir: Path, network: nn.Module | None, metrics: Mapping[str, float]) -> None:
    if network is not None:
        torch.save(network.state_dict(), run_dir / "student.pt")
    (run_dir / "card.json").write_text(json.dumps(dict(metrics)))
