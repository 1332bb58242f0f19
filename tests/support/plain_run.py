"""A run whose steps can be worked out by hand: no batch statistics, no dropout, every pixel labelled, and
samples that depend on their position alone, so that any cut of a batch has the same pixels.

The functions at the end are that work: they know torch, and nothing of the code under test.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from fake_run import CELLS, CHANNELS, CLASSES, SIZE, FakeStream, parts
from torch import Tensor, nn
from torch.nn import functional

from kdcache.cache.spec import Need
from kdcache.losses.contract import LossTerm, Maps, Rival
from kdcache.losses.step_inputs import StepInputs
from kdcache.trainer.config import TrainConfig
from kdcache.trainer.ranks import start_accelerator
from kdcache.trainer.steps.choose import make_stepper
from kdcache.trainer.steps.contract import RunParts
from kdcache.trainer.steps.step import Stepper, StepResult
from kdcache.trainer.stream.batch import Batch

# At rate 1, without momentum and decay, what a step takes from the weights is the gradient.
BARE = TrainConfig(
    run="r", steps=5, batch_size=8, lr=1.0, momentum=0.0, weight_decay=0.0, device="cpu", log="none"
)
GAIN_GRADIENT = (3.0, 4.0, 12.0)  # of norm 13
GAIN_CLIP = 0.5
RIVAL_LR, RIVAL_POWER = 0.5, 0.9

Weights = dict[str, Tensor]


class PlainStudent(nn.Module):
    """The taps of `fake_run.TinyStudent`, and one answer per sample whatever else is in the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, CHANNELS, 4, stride=4)
        self.head = nn.Conv2d(CHANNELS, CLASSES, 1)

    def forward(self, images_BHWC: Tensor, taps: tuple[str, ...]) -> dict[str, Tensor]:
        features = self.stem(images_BHWC.permute(0, 3, 1, 2).float() / 255).relu()
        maps = {"stage4": features, "logits": self.head(features)}
        return {tap: maps[tap] for tap in taps}


class Sample(NamedTuple):
    image_HWC: Tensor
    label_HW: Tensor
    target_CHW: Tensor


def sample_at(position: int) -> Sample:
    draw = torch.Generator().manual_seed(position)
    return Sample(
        torch.randint(0, 256, (SIZE, SIZE, 3), generator=draw, dtype=torch.uint8),
        torch.randint(0, CLASSES, (SIZE, SIZE), generator=draw, dtype=torch.uint8),
        torch.randn(6, *CELLS, generator=draw) + 1,
    )


class Samples(FakeStream):
    """The fake stream with `sample_at` every position of the order."""

    def run(self, start_micro_step: int = 0) -> Iterator[Batch]:
        for batch in super().run(start_micro_step):
            samples = [sample_at(p) for p in self.layout.positions(batch.micro_step)]
            yield batch._replace(
                images_BHWC=torch.stack([one.image_HWC for one in samples]),
                truth=torch.stack([one.label_HW for one in samples]),
            )

    def targets(self, batch: Batch) -> dict[str, Tensor]:
        positions = self.layout.positions(batch.micro_step)
        return {"stage4": torch.stack([sample_at(p).target_CHW for p in positions])}


class Gain(LossTerm):
    """A learned part whose gradient is GAIN_GRADIENT in every step, clipped to GAIN_CLIP."""

    clip_norm = GAIN_CLIP

    def __init__(self, maps: Maps) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(3))

    def forward(self, inputs: StepInputs) -> Tensor:
        return (self.gain * torch.tensor(GAIN_GRADIENT)).sum()


class Draws(LossTerm):
    """Keeps what it draws in every micro step: from the generator, as masks are, and as dropout is."""

    student_taps = ("logits",)

    def __init__(self, maps: Maps) -> None:
        super().__init__()
        self.masks: list[list[float]] = []
        self.dropped: list[list[float]] = []
        self.float_types: list[torch.dtype] = []

    def forward(self, inputs: StepInputs) -> Tensor:
        mask = torch.empty(64).bernoulli_(0.5, generator=inputs.generator)  # dropout's own kernel
        self.masks.append(mask.tolist())
        self.dropped.append(functional.dropout(torch.ones(64), 0.5).tolist())
        self.float_types.append(inputs.student["logits"].dtype)
        return inputs.student["logits"].sum() * 0


class Duel(LossTerm):
    """A rival of one weight, moved by SGD. Its gradient is the mean of the teacher's map; the momentum, which
    a first step does not feel, tells two steps from one."""

    needs = (Need(tap="stage4"),)

    def __init__(self, maps: Maps) -> None:
        super().__init__()
        self.critic = nn.Linear(1, 1, bias=False)

    def rival(self) -> Rival:
        return Rival(self.critic, "sgd", lr=RIVAL_LR, momentum=0.5, poly_power=RIVAL_POWER)

    def forward(self, inputs: StepInputs) -> Tensor:
        return self.critic.weight.sum() * 0

    def rival_loss(self, inputs: StepInputs) -> Tensor:
        return self.critic.weight.sum() * inputs.teacher["stage4"].mean()


def plain_parts(config: TrainConfig, loss: str) -> Callable[[Accelerator], RunParts]:
    def assemble(accelerator: Accelerator) -> RunParts:
        made = parts(config, loss=loss, validate=False)(accelerator)
        torch.manual_seed(config.seed)
        return replace(made, student=PlainStudent(), stream=Samples(made.stream.layout))

    return assemble


class Bench:
    """A stepper on the plain student: step it and look at what moved."""

    def __init__(self, folder: Path, config: TrainConfig = BARE, loss: str = "none") -> None:
        accelerator = start_accelerator(config, folder, start=0)
        self.parts = plain_parts(config, loss)(accelerator)
        self.stepper: Stepper = make_stepper(config, self.parts, accelerator, sync_bn=False)
        self.batches = self.parts.stream.run()

    def step(self, number: int = 0) -> StepResult:
        return self.stepper.step(number, self.batches, self.parts.stream)

    def weights(self) -> Weights:
        return copy_of(self.stepper.module.student)

    def term(self, label: str) -> Any:
        return self.stepper.module.losses.terms[label]


def copy_of(module: nn.Module) -> Weights:
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def taken(before: Weights, after: Weights) -> Weights:
    """What was subtracted from every weight."""
    return {name: before[name] - after[name] for name in before}


def loss_by_hand(weights: Weights, positions: Sequence[int]) -> Tensor:
    """Mean cross-entropy over all pixels of these samples."""
    samples = [sample_at(p) for p in positions]
    pixels = torch.stack([one.image_HWC for one in samples]).movedim(-1, 1) / 255
    features = functional.conv2d(pixels, weights["stem.weight"], weights["stem.bias"], stride=4).clamp(min=0)
    logits = functional.conv2d(features, weights["head.weight"], weights["head.bias"])
    enlarged = functional.interpolate(logits, size=(SIZE, SIZE), mode="bilinear", align_corners=True)
    return functional.cross_entropy(enlarged, torch.stack([one.label_HW for one in samples]).long())


def gradient_by_hand(weights: Weights, positions: Sequence[int]) -> Weights:
    leaves = {name: value.clone().requires_grad_() for name, value in weights.items()}
    slopes = torch.autograd.grad(loss_by_hand(leaves, positions), list(leaves.values()))
    return dict(zip(leaves, slopes, strict=True))


def assert_close(actual: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            actual[name], value, rtol=1e-3, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}"
        )
