"""One optimizer step: stream -> student -> losses -> backward -> clip -> optimizer.

Legend: B batch, H W pixels. A step is `accumulate` micro steps; micro step n = step * accumulate + a. Every
random draw of a micro step (masks and noise from a generator, dropout from torch's global state) is seeded by
(seed, n, rank): the step number is all that a checkpoint must remember.
"""

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from kdcache.cache.networks.network import Network
from kdcache.cache.networks.sync_batchnorm import synchronise_batchnorm
from kdcache.losses.loss_set import LossSet
from kdcache.losses.step_inputs import LossValues, StepInputs
from kdcache.trainer.batch_layout import Batch, Stream
from kdcache.trainer.config import TrainConfig
from kdcache.trainer.ema import Ema
from kdcache.trainer.optimizer import make_optimizer, set_lr
from kdcache.trainer.schedule import lr_at

UNWEIGHTED = "unweighted/"  # prefix of a term's bare formula among the reported names


class StepBatch(NamedTuple):
    """What one micro step feeds to the `Distiller`, all on its device."""

    images_BHWC: Tensor  # uint8
    labels_BHW: Tensor  # int64, 255 = ignore
    targets: dict[str, Tensor]
    generator: torch.Generator
    step: int
    epoch: int


class StepResult(NamedTuple):
    """Of one optimizer step. `terms` stays on the device: reading it would wait for the device."""

    names: tuple[str, ...]  # 'total', the terms, then the terms without their weights
    terms: Tensor  # (len(names),) means over the micro steps of this rank
    epoch: int
    wait_s: float  # time spent waiting for the stream


class Distiller(nn.Module):
    """Student and losses as one module, so that one DDP wrapper synchronises the gradients of both."""

    def __init__(self, student: nn.Module, losses: LossSet, taps: Sequence[str]) -> None:
        super().__init__()
        self.student = student
        self.losses = losses
        self.taps = tuple(taps)

    def forward(self, batch: StepBatch) -> LossValues:
        """Losses of one micro batch. Learned parts share the student's precision, formulas use float32."""
        maps = self.student(batch.images_BHWC, self.taps)
        values: LossValues = self.losses(
            StepInputs(
                student={tap: value.float() for tap, value in maps.items()},
                teacher=batch.targets,
                labels_BHW=batch.labels_BHW,
                generator=batch.generator,
                step=batch.step,
                epoch=batch.epoch,
            )
        )
        return values


class Stepper:
    """The prepared student, losses and optimizer of a run, and the step that moves them."""

    def __init__(
        self, config: TrainConfig, distiller: Distiller, accelerator: Accelerator, *, sync_bn: bool = False
    ) -> None:
        self.config = config
        self.accelerator = accelerator
        if sync_bn:
            _synchronise_batch_statistics(distiller)
        if accelerator.device.type == "cuda":  # the stream's layout, and what cuDNN's half kernels want
            distiller = distiller.to(memory_format=torch.channels_last)
        optimizer = make_optimizer([distiller], config)
        if config.compile:
            distiller.student.compile()
        self.wrapped, self.optimizer = accelerator.prepare(distiller, optimizer)
        self.wrapped.train()
        self.module: Distiller = distiller
        self.ema = Ema(distiller.student, config.ema) if config.ema is not None else None
        self._generator = torch.Generator(accelerator.device)

    @property
    def network(self) -> nn.Module:
        """What is evaluated and exported: the averaged student where there is one."""
        return self.ema.network if self.ema is not None else self.module.student

    def step(self, step: int, batches: Iterator[Batch], stream: Stream) -> StepResult:
        """Run optimizer step `step` (from 0) on the next `accumulate` batches."""
        set_lr(self.optimizer, self.lr(step))
        sums: Tensor | None = None
        names: tuple[str, ...] = ()
        wait_s, epoch = 0.0, 0
        for index in range(self.config.accumulate):
            began = time.perf_counter()
            batch = next(batches)
            wait_s += time.perf_counter() - began
            with self.accelerator.accumulate(self.wrapped):
                values = self.wrapped(self._inputs(step, batch, stream))
                self.accelerator.backward(values.total)
                if self.accelerator.sync_gradients:
                    self._clip()
                self.optimizer.step()
                self.optimizer.zero_grad()
            names, terms = _flat(values)
            sums = terms if sums is None else sums + terms
            epoch = batch.epoch if index == 0 else epoch
        assert sums is not None
        if self.ema is not None:
            self.ema.update(self.module.student)
        return StepResult(names, sums / self.config.accumulate, epoch, wait_s)

    def lr(self, step: int) -> float:
        c = self.config
        return lr_at(step, base=c.base_lr, total=c.steps, power=c.poly_power, warmup=c.warmup_steps)

    def states(self) -> dict[str, Any]:
        """Everything that changes from step to step, as checkpoint parts."""
        found = {"distiller": self.module.state_dict(), "optimizer": self.optimizer.state_dict()}
        if self.ema is not None:
            found["ema"] = self.ema.state_dict()
        if self.accelerator.scaler is not None:
            found["scaler"] = self.accelerator.scaler.state_dict()
        return found

    def load_states(self, states: Mapping[str, Any]) -> None:
        self.module.load_state_dict(states["distiller"])
        self.optimizer.load_state_dict(states["optimizer"])
        if self.ema is not None:
            self.ema.load_state_dict(states["ema"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(states["scaler"])

    def _inputs(self, step: int, batch: Batch, stream: Stream) -> StepBatch:
        device, rank = self.accelerator.device, self.accelerator.process_index
        torch.manual_seed(mixed_seed("dropout", self.config.seed, batch.micro_step, rank))
        self._generator.manual_seed(mixed_seed("losses", self.config.seed, batch.micro_step, rank))
        return StepBatch(
            images_BHWC=batch.images_BHWC.to(device),
            labels_BHW=batch.labels_BHW.to(device, torch.int64),
            targets=stream.targets(batch),
            generator=self._generator,
            step=step,
            epoch=batch.epoch,
        )

    def _clip(self) -> None:
        """--clip for the student, each loss's own bound for its learned parts; fp16 gradients unscaled."""
        losses = self.module.losses
        if self.config.clip is None and losses.clip_norm is None:
            return
        self.accelerator.unscale_gradients(self.optimizer)
        if self.config.clip is not None:
            nn.utils.clip_grad_norm_(self.module.student.parameters(), self.config.clip)
        losses.clip_gradients()


def _synchronise_batch_statistics(distiller: Distiller) -> None:
    """Over all ranks; the student by its own conversion, because torch's breaks timm's fused layers."""
    if isinstance(distiller.student, Network):
        distiller.student = synchronise_batchnorm(distiller.student)
    distiller.losses = nn.SyncBatchNorm.convert_sync_batchnorm(distiller.losses)  # type: ignore[no-untyped-call]


def mixed_seed(purpose: str, *numbers: int) -> int:
    """A 63-bit seed from a purpose and integers: neighbouring steps and ranks give unrelated generators."""
    digest = hashlib.blake2b(f"{purpose}/{numbers}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def _flat(values: LossValues) -> tuple[tuple[str, ...], Tensor]:
    """Names and one tensor of the total, the weighted terms and the bare ones, detached."""
    bare = {f"{UNWEIGHTED}{name}": value for name, value in values.unweighted.items()}
    named = {"total": values.total, **values.terms, **bare}
    return tuple(named), torch.stack([value.detach().float().reshape(()) for value in named.values()])
