"""One optimizer step: stream -> student -> losses -> backward -> clip -> optimizer -> rivals.

Legend: B rows, H W pixels. A step is `accumulate` micro steps; micro step n = step * accumulate + a. Every
random draw of a micro step (masks and noise from a generator, dropout from torch's global state) is seeded by
(seed, n, rank): the step number is all that a checkpoint must remember.
"""

import hashlib
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from kdcache.cache.networks.network import Network
from kdcache.cache.networks.sync_batchnorm import synchronise_batchnorm
from kdcache.losses.step_inputs import LossValues
from kdcache.trainer.batch_layout import Batch, Stream
from kdcache.trainer.config import TrainConfig
from kdcache.trainer.distiller import Distiller as Distiller
from kdcache.trainer.distiller import StepBatch
from kdcache.trainer.ema import Ema
from kdcache.trainer.optimizer import make_optimizer, set_lr
from kdcache.trainer.schedule import run_lr
from kdcache.trainer.steps.labels import dominating
from kdcache.trainer.steps.rivals import Rivals
from kdcache.trainer.students.contract import SeveralStudents, deployed_of

UNWEIGHTED = "unweighted/"  # prefix of a term's bare formula among the reported names


class StepResult(NamedTuple):
    """Of one optimizer step. `terms` stays on the device: reading it would wait for the device."""

    names: tuple[str, ...]  # 'total', the terms, then the terms without their weights
    terms: Tensor  # (len(names),) means over the micro steps of this rank
    epoch: int
    wait_s: float  # time spent waiting for the stream


class Stepper:
    """The prepared student, losses and optimizer of a run, and the step that moves them."""

    turn: int | None = None  # the network that learns in this step, where networks learn in turn

    def __init__(
        self, config: TrainConfig, distiller: Distiller, accelerator: Accelerator, *, sync_bn: bool = False
    ) -> None:
        self.config = config
        self.accelerator = accelerator
        if sync_bn:
            _synchronise_batch_statistics(distiller)
        if accelerator.device.type == "cuda":  # the stream's layout, and what cuDNN's half kernels want
            distiller = distiller.to(memory_format=torch.channels_last)
        self.rivals = self.find_rivals(distiller)
        optimizers = self.make_optimizers(distiller)
        if config.compile:
            distiller.student.compile()
        self.wrapped, *self.optimizers = accelerator.prepare(distiller, *optimizers)
        self.wrapped.train()
        self.module: Distiller = distiller
        self.ema = Ema(distiller.student, config.ema) if config.ema is not None else None
        self._generator = torch.Generator(accelerator.device)

    def find_rivals(self, distiller: Distiller) -> Rivals:
        """The parts that learn against the student. Frozen: the student's backward gives them nothing, and
        neither its optimizer nor DDP sees them."""
        rivals = Rivals(distiller.losses.rivals(), distiller.losses, steps=self.config.steps)
        rivals.freeze()
        distiller.remembers = bool(rivals)
        return rivals

    def make_optimizers(self, distiller: Distiller) -> list[torch.optim.Optimizer]:
        return [make_optimizer(distiller.parameters(), self.config)]

    @property
    def optimizer(self) -> Any:
        """The one that this step moves: accelerate's wrapper of it."""
        return self.optimizers[self.turn or 0]

    @property
    def student(self) -> nn.Module:
        """What is kept of a run: the averaged student where there is one, with all its branches or exits."""
        return self.ema.network if self.ema is not None else self.module.student

    @property
    def network(self) -> nn.Module:
        """What is evaluated: of several students the deployed one."""
        return deployed_of(self.student)

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
                if self.rivals:
                    self._move_rivals(step)
            names, terms = _flat(values)
            sums = terms if sums is None else sums + terms
            epoch = batch.epoch if index == 0 else epoch
        assert sums is not None
        if self.ema is not None:
            self.ema.update(self.module.student)
        return StepResult(names, sums / self.config.accumulate, epoch, wait_s)

    def lr(self, step: int) -> float:
        return run_lr(self.config, step)

    def states(self) -> dict[str, Any]:
        """Everything that changes from step to step, as checkpoint parts."""
        found = {"distiller": self.module.state_dict(), **self.optimizer_states()}
        if self.rivals:
            found["rivals"] = self.rivals.state_dict()
        if self.ema is not None:
            found["ema"] = self.ema.state_dict()
        if self.accelerator.scaler is not None:
            found["scaler"] = self.accelerator.scaler.state_dict()
        return found

    def load_states(self, states: Mapping[str, Any]) -> None:
        self.module.load_state_dict(states["distiller"])
        for name, optimizer in zip(self.optimizer_states(), self.optimizers, strict=True):
            optimizer.load_state_dict(states[name])
        if self.rivals:
            self.rivals.load_state_dict(states["rivals"])
        if self.ema is not None:
            self.ema.load_state_dict(states["ema"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(states["scaler"])

    def optimizer_states(self) -> dict[str, Any]:
        """'optimizer', 'optimizer1' ... -> state."""
        return {f"optimizer{i or ''}": one.state_dict() for i, one in enumerate(self.optimizers)}

    def _inputs(self, step: int, batch: Batch, stream: Stream) -> StepBatch:
        device, rank = self.accelerator.device, self.accelerator.process_index
        torch.manual_seed(mixed_seed("dropout", self.config.seed, batch.micro_step, rank))
        self._generator.manual_seed(mixed_seed("losses", self.config.seed, batch.micro_step, rank))
        labels, mixed = dominating(batch, device)
        return StepBatch(
            images_BHWC=batch.images_BHWC.to(device),
            labels=labels,
            targets=stream.targets(batch),
            generator=self._generator,
            step=step,
            epoch=batch.epoch,
            samples_B=batch.samples_B.to(device),
            mixed=mixed,
            rows_per_sample=batch.rows_per_sample,
            turn=self.turn,
        )

    def _move_rivals(self, step: int) -> None:
        """Their gradients of this micro batch, and their step when the student made its own."""
        assert self.module.seen is not None
        self.rivals.learn(self.module.seen, share=1 / self.config.accumulate)
        self.module.seen = None
        if self.accelerator.sync_gradients:
            self.rivals.step(step, self.accelerator)

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
    if isinstance(distiller.student, Network | SeveralStudents):
        distiller.student = synchronise_batchnorm(cast(Network, distiller.student))
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
