"""One optimizer step: stream -> student -> losses -> backward -> finite? -> clip -> optimizer -> rivals.

A step is `accumulate` micro steps; micro step n = step * accumulate + a. Every random draw of a micro step
(masks and noise from a generator, dropout from torch's global state) is seeded by (seed, n, rank): the step
number is all that a checkpoint must remember.

Student and losses are one module, the `Distiller`; beside it an `Ema` of the student where the run wants one.
"""

import copy
import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Generic, NamedTuple, TypeVar, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from kdcache.cache.errors import BadOption
from kdcache.cache.networks.network import Network
from kdcache.cache.networks.sync_batchnorm import synchronise_batchnorm
from kdcache.cache.tasks.contract import Mixed
from kdcache.losses.loss_set import LossSet
from kdcache.losses.step_inputs import LossValues, StepInputs
from kdcache.trainer.config import TrainConfig
from kdcache.trainer.steps.counts import draw_step
from kdcache.trainer.steps.finite import Watch
from kdcache.trainer.steps.options import SKIP_NON_FINITE
from kdcache.trainer.steps.rivals import Rivals, detached
from kdcache.trainer.steps.schedule import make_optimizer, run_lr, set_lr
from kdcache.trainer.stream.batch import Batch, Stream
from kdcache.trainer.students.contract import SeveralStudents, deployed_of
from kdcache.trainer.students.encoder import encoder_parameters

Module = TypeVar("Module", bound=nn.Module)


class Ema(Generic[Module]):
    """A second copy of the network: average = decay * average + (1 - decay) * weights, after every step.

    On the same device, outside of the gradient. Parameters are averaged; buffers (batch statistics, which are
    running averages themselves) are copied.
    """

    def __init__(self, network: Module, decay: float) -> None:
        self.network: Module = copy.deepcopy(network).requires_grad_(False).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        averages = [p.data for p in self.network.parameters()]
        torch._foreach_lerp_(averages, [p.data for p in network.parameters()], 1.0 - self.decay)
        for kept, buffer in zip(self.network.buffers(), network.buffers(), strict=True):
            kept.copy_(buffer)

    def state_dict(self) -> dict[str, Any]:
        return self.network.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.network.load_state_dict(state)


class Distiller(nn.Module):
    """Student and losses as one module, so that one DDP wrapper synchronises the gradients of both."""

    def __init__(self, student: nn.Module, losses: LossSet, taps: Sequence[str]) -> None:
        super().__init__()
        self.student = student
        self.losses = losses
        self.taps = tuple(taps)
        self.remembers = False  # keep what the losses read, for rivals that learn from it afterwards
        self.seen: StepInputs | None = None

    def forward(self, inputs: StepInputs) -> LossValues:
        """Losses of one micro batch whose student has not answered yet.

        Learned parts share the student's precision, formulas use float32. BadOption where a batch
        normalisation of the student or of a loss has one value per channel.
        """
        assert inputs.images_BHWC is not None, "a student is asked about images"
        with _explained(len(inputs.images_BHWC)):
            maps = self.student(inputs.images_BHWC, self.taps)
            inputs = inputs._replace(student={tap: value.float() for tap, value in maps.items()})
            self.seen = detached(inputs) if self.remembers else None
            values: LossValues = self.losses(inputs)
        return values


@contextmanager
def _explained(num_images: int) -> Iterator[None]:
    """torch's refusal of batch statistics over one value as an error with a way out: DeepLabV3 pools an image
    to one cell, so a single image is not enough for it."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise BadOption(
            f"batch normalisation of one value per channel: {num_images} image in a micro batch, "
            "and a map of one cell",
            where="--batch-size, which ranks and --accumulate divide",
            fix="two images or more per rank and micro batch: raise --batch-size or lower --accumulate",
        ) from error


UNWEIGHTED = "unweighted/"  # prefix of a term's bare formula among the reported names


class StepResult(NamedTuple):
    """Of one optimizer step. `terms` stays on the device: reading it would wait for the device."""

    names: tuple[str, ...]  # 'total', the terms, then the terms without their weights
    terms: Tensor  # (len(names),) means over the micro steps of this rank
    epoch: int
    wait_s: float  # time spent waiting for the stream
    # Of each micro step, to say whose fault it is when the means are not finite; on the device.
    micro_terms: tuple[Tensor, ...] = ()  # each (len(names),)
    samples: tuple[Tensor, ...] = ()  # each (B,) int64 index of each row's sample
    faults: Tensor | None = None  # (2,) as Watch.faults
    skipped: bool = False  # an optimizer did not move: --non-finite skip


class Stepper:
    """The prepared student, losses and optimizer of a run, and the step that moves them."""

    learner: int | None = None  # the network that learns in this step, where networks learn in turn

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
        self._watch = Watch(
            distiller, distiller.student, accelerator, skips=config.non_finite == SKIP_NON_FINITE
        )

    def find_rivals(self, distiller: Distiller) -> Rivals:
        """The parts that learn against the student. Frozen: the student's backward gives them nothing, and
        neither its optimizer nor DDP sees them."""
        rivals = Rivals(distiller.losses.rivals(), distiller.losses, steps=self.config.steps)
        rivals.freeze()
        distiller.remembers = bool(rivals)
        return rivals

    def make_optimizers(self, distiller: Distiller) -> list[torch.optim.Optimizer]:
        encoder = encoder_parameters(distiller.student)
        return [make_optimizer(distiller.parameters(), self.config, encoder=encoder)]

    @property
    def optimizer(self) -> Any:
        """The one that this step moves: accelerate's wrapper of it."""
        return self.optimizers[self.learner or 0]

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
        self._watch.begin()
        self._rival_left_out = False
        names: tuple[str, ...] = ()
        micro: list[Tensor] = []
        samples: list[Tensor] = []
        wait_s, epoch, skipped = 0.0, 0, False
        losses, accumulate = self.module.losses, self.config.accumulate
        for drawn in draw_step(batches, losses, self.accelerator, accumulate=accumulate):
            wait_s += drawn.wait_s
            epoch = epoch if micro else drawn.batch.epoch
            with self.accelerator.accumulate(self.wrapped):
                values = self.wrapped(self._inputs(step, drawn.batch, stream, drawn.labels_per_batch))
                self.accelerator.backward(values.total)
                names, terms = _flat(values)
                micro.append(terms)
                samples.append(drawn.batch.samples_B)
                skipped = self._move(step, micro)
        if self.ema is not None and not skipped:
            self.ema.update(self.module.student)
        self._watch.see_weights()
        terms = functools.reduce(torch.add, micro) / accumulate
        left_out, faults = skipped or self._rival_left_out, self._watch.faults()
        return StepResult(names, terms, epoch, wait_s, tuple(micro), tuple(samples), faults, left_out)

    def _move(self, step: int, micro: Sequence[Tensor]) -> bool:
        """After a backward: the optimizers, when it was the step's last one. True where the step is left out
        because it is not finite."""
        if self.accelerator.sync_gradients:
            self._watch.see_gradient()
            if self._watch.must_skip(micro):
                self.wrapped.zero_grad()
                self.module.seen = None
                self._watch.undo()
                return True
            self._clip()
            self._move_optimizer()
        if self.rivals:
            self._move_rivals(step)
        return False

    def _move_optimizer(self) -> None:
        """One step of it, and the gradients forgotten."""
        # Accelerate's wrapper knows the loss scale. Without one it adds nothing, and looks for a package on
        # disk at every step.
        optimizer = self.optimizer if self.accelerator.scaler is not None else self.optimizer.optimizer
        optimizer.step()
        optimizer.zero_grad()

    def lr(self, step: int) -> float:
        return run_lr(self.config, step)

    def states(self) -> dict[str, Any]:
        """Everything that changes from step to step, as checkpoint parts."""
        states = {"distiller": self.module.state_dict(), **self.optimizer_states()}
        if self.rivals:
            states["rivals"] = self.rivals.state_dict()
        if self.ema is not None:
            states["ema"] = self.ema.state_dict()
        if self.accelerator.scaler is not None:
            states["scaler"] = self.accelerator.scaler.state_dict()
        return states

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

    def _inputs(
        self, step: int, batch: Batch, stream: Stream, labels_per_batch: Tensor | None = None
    ) -> StepInputs:
        """What the losses read, all on the device, but for what the student says."""
        device, rank = self.accelerator.device, self.accelerator.process_index
        _seed_dropout(device, mixed_seed("dropout", self.config.seed, batch.micro_step, rank))
        self._generator.manual_seed(mixed_seed("losses", self.config.seed, batch.micro_step, rank))
        return StepInputs(
            student={},
            teacher=stream.targets(batch),
            truth=_as_read(batch.truth).to(device),
            generator=self._generator,
            step=step,
            epoch=batch.epoch,
            samples_B=batch.samples_B.to(device),
            images_BHWC=batch.images_BHWC.to(device),
            mixed=None if batch.mixed is None else Mixed(*(value.to(device) for value in batch.mixed)),
            rows_per_sample=batch.rows_per_sample,
            learner=self.learner,
            labels_per_batch=labels_per_batch,
        )

    def _move_rivals(self, step: int) -> None:
        """Their gradients of this micro batch, and their step when the student made its own."""
        assert self.module.seen is not None
        self.rivals.learn(self.module.seen, share=1 / self.config.accumulate)
        self.module.seen = None
        if self.accelerator.sync_gradients:
            self._rival_left_out = self.rivals.step(step, self.accelerator, skips=self._watch.skips)

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


def _seed_dropout(device: torch.device, seed: int) -> None:
    """As `torch.manual_seed`, which without a GPU also writes down the whole stack at every call."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def _as_read(truth: Tensor) -> Tensor:
    """Class numbers as int64, which indexing and cross-entropy take; measured numbers as they are."""
    return truth if truth.is_floating_point() else truth.long()


def mixed_seed(purpose: str, *numbers: int) -> int:
    """A 63-bit seed from a purpose and integers: neighbouring steps and ranks give unrelated generators."""
    digest = hashlib.blake2b(f"{purpose}/{numbers}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def _flat(values: LossValues) -> tuple[tuple[str, ...], Tensor]:
    """Names and one tensor of the total, the weighted terms and the bare ones, detached."""
    bare = {f"{UNWEIGHTED}{name}": value for name, value in values.unweighted.items()}
    named = {"total": values.total, **values.terms, **bare}
    return tuple(named), torch.stack([value.detach().float().reshape(()) for value in named.values()])
