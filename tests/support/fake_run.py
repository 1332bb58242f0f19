"""A run small enough for tests: student, stream, validation and export without files or a pipeline.

The stream is faithful in what resuming relies on: batches and targets are a pure function of the micro step.
"""

import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from kdcache.cache.networks.build import build_network
from kdcache.cache.spec import TensorSpec
from kdcache.cache.tasks.table import SEGMENTATION
from kdcache.losses.plan.plan import LossPlan, parse_losses
from kdcache.trainer.assemble import student_taps
from kdcache.trainer.config import TrainConfig
from kdcache.trainer.events import Event
from kdcache.trainer.folder.checkpoint import list_checkpoints
from kdcache.trainer.folder.metrics_log import read_metrics
from kdcache.trainer.judge.segmentation import SegmentationMetrics
from kdcache.trainer.loop import train
from kdcache.trainer.steps.contract import RunParts, Shareable
from kdcache.trainer.stream.batch import Batch, BatchLayout
from kdcache.trainer.students.contract import deployed_of
from kdcache.trainer.students.wrap import wrap_student

SIZE, CLASSES, CHANNELS = 16, 3, 4
CELLS = (SIZE // 4, SIZE // 4)
CONFIG = TrainConfig(
    run="r", steps=7, batch_size=4, accumulate=2, lr=0.1, clip=1.0, ema=0.9, save_every=2, eval_every=3,
    device="cpu", log="none",
)  # fmt: skip


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
        maps = {"stage4": features, "logits": self.head(features)}
        return {tap: maps[tap] for tap in taps}


class FakeStream:
    """Batches that depend on nothing but the micro step; `kill_at` dies before handing out that one, and
    `signal_at` sends a signal to this process."""

    num_samples = 10

    def __init__(
        self,
        layout: BatchLayout,
        *,
        kill_at: int | None = None,
        bad_at: int | None = None,
        signal_at: int | None = None,
        number: int = signal.SIGTERM,
    ) -> None:
        self.layout, self.kill_at, self.bad_at = layout, kill_at, bad_at
        self.signal_at, self.number = signal_at, number
        self.closed = False

    def run(self, start_micro_step: int = 0) -> Iterator[Batch]:
        micro_step = start_micro_step
        while True:
            if micro_step == self.kill_at:
                raise Killed
            if micro_step == self.signal_at:
                os.kill(os.getpid(), self.number)
            draw = torch.Generator().manual_seed(micro_step + 10_000 * self.layout.rank)
            size = (self.layout.micro_batch, SIZE, SIZE)
            images = torch.randint(0, 256, (*size, 3), generator=draw, dtype=torch.uint8)
            labels = torch.randint(0, CLASSES, size, generator=draw, dtype=torch.uint8)
            positions = self.layout.positions(micro_step)
            samples = torch.tensor([p % self.num_samples for p in positions])
            epoch = positions.start // self.num_samples
            yield Batch(images, labels, {}, micro_step, epoch, samples)
            micro_step += 1

    def targets(self, batch: Batch) -> dict[str, Tensor]:
        draw = torch.Generator().manual_seed(1000 + batch.micro_step + 10_000 * self.layout.rank)
        value = torch.randn(len(batch.images_BHWC), 6, SIZE // 4, SIZE // 4, generator=draw)
        return {"stage4": value * (float("nan") if batch.micro_step == self.bad_at else 1.0)}

    def key(self, sample: int) -> str:
        return f"key{sample}"

    def close(self) -> None:
        self.closed = True

    def describe(self) -> dict[str, object]:
        return {"views": "fake"}


def judge(network: nn.Module) -> SegmentationMetrics:
    """A number that depends on every weight, so that which student is the best depends on all of them."""
    total = sum(float(value.double().sum()) for value in network.state_dict().values())
    return SegmentationMetrics(total % 1.0, {"a": total % 1.0, "b": float("nan")}, 0.5, 2, 0.1)


def export(run_dir: Path, student: nn.Module | None, metrics: Mapping[str, float]) -> None:
    if student is not None:
        torch.save(deployed_of(student).state_dict(), run_dir / "student.pt")
    (run_dir / "card.json").write_text(json.dumps(dict(metrics)))


def make_network(num_classes: int | None) -> tuple[nn.Module, dict[str, str]]:
    """The tiny student as a network's factory, for students of several networks."""
    stem = TinyStudent().stem
    model = nn.Sequential(stem, nn.Conv2d(CHANNELS, num_classes or CLASSES, 1))
    model.pad_multiple = 4  # type: ignore[assignment]
    return model, {"stage4": "0", "logits": "1"}


def build_student(plan: LossPlan) -> nn.Module:
    """The tiny student, or several in the form that the losses ask for."""
    if plan.student_form.kind == "plain":
        return TinyStudent()
    return wrap_student(
        plan.student_form,
        lambda: build_network(
            "fake_run:make_network", task="segmentation", num_classes=CLASSES, role="student"
        ),
    )


def parts(
    config: TrainConfig, *, loss: str = "mgd(cwd=0)", validate: bool = True, **stream: int | None
) -> Callable[[Accelerator], RunParts]:
    """What a run of the tiny student needs; `stream` goes to FakeStream."""

    def assemble(accelerator: Accelerator) -> RunParts:
        torch.manual_seed(config.seed)
        plan = parse_losses(loss, preset=None, task=SEGMENTATION)
        student = build_student(plan)
        maps = {"stage4": TensorSpec((*CELLS, CHANNELS), 4), "logits": TensorSpec((*CELLS, CLASSES), 4)}
        several = not isinstance(student, TinyStudent)
        taps = student_taps(plan, student) if several else ("stage4", "logits")  # type: ignore[arg-type]
        specs = student.tap_specs(taps, SIZE, SIZE) if several else maps  # type: ignore[operator]
        layout = BatchLayout(
            seed=0,
            global_batch=config.batch_size,
            world=int(accelerator.num_processes),
            rank=int(accelerator.process_index),
            accumulation=config.accumulate,
        )
        return RunParts(
            student=student,
            losses=plan.build(student=specs, teacher={"stage4": TensorSpec((*CELLS, 6), 4)}),
            taps=taps,
            stream=FakeStream(layout, **stream),
            evaluate=judge if validate else None,
            score_name="miou",
            export=export,
            summary={"student": "tiny"},
            resolved={"student": "tiny"},
            step_form=plan.step_form,
            shareable=Shareable(
                pixels=f"fake {config.seed}", plan=plan, open=lambda _: FakeStream(layout, **stream)
            ),
        )

    return assemble


def run(
    run_dir: Path,
    config: TrainConfig = CONFIG,
    *,
    loss: str = "mgd(cwd=0)",
    resume: bool = False,
    **stream: int | None,
) -> list[Event]:
    events: list[Event] = []
    train(config, run_dir, parts(config, loss=loss, **stream), resume=resume, listen=events.append)
    return events


def results(run_dir: Path) -> dict[str, Any]:
    """Everything a run leaves behind that must not depend on interruptions."""
    lines = [
        {k: v for k, v in line.items() if k not in ("steps_per_s", "wait_share")}
        for line in read_metrics(run_dir)
    ]
    last = list_checkpoints(run_dir)[-1]
    digests = json.loads((last / "digests.json").read_text())
    return {
        "metrics": lines,
        "student": (run_dir / "student.pt").read_bytes(),
        "card": json.loads((run_dir / "card.json").read_text()),
        "checkpoint": (last.name, digests),
    }
