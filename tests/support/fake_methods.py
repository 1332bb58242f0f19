"""Loss terms for tests of the step: a critic with an optimizer of its own, networks in turn, branches."""

from collections.abc import Mapping

import torch
from fake_run import CHANNELS
from torch import Tensor, nn

from kdcache.cache.spec import Need
from kdcache.losses.contract import LossTerm, Maps, Reads, Rival, StepForm, StudentForm
from kdcache.losses.options import OptionValue
from kdcache.losses.step_inputs import StepInputs


class Critic(LossTerm):
    """A critic tells student maps from teacher maps; batch statistics and a draw: both must resume."""

    needs = (Need(tap="stage4"),)
    student_taps = ("stage4",)

    def __init__(self, maps: Maps) -> None:
        super().__init__()
        channels = maps.teacher["stage4"].channels
        self.align = nn.Conv2d(CHANNELS, channels, 1)  # learns with the student
        # The mean behind a batch norm is a constant: without the curve at the end all gradients are rounding.
        self.critic = nn.Sequential(nn.BatchNorm2d(channels), nn.Conv2d(channels, 1, 1), nn.Softplus())

    def rival(self) -> Rival:
        return Rival(self.critic, "adam", lr=0.01, betas=(0.5, 0.9), poly_power=0.9)

    def forward(self, inputs: StepInputs) -> Tensor:
        return -self.critic(self.align(inputs.student["stage4"])).mean()

    def rival_loss(self, inputs: StepInputs) -> Tensor:
        assert not inputs.student["stage4"].requires_grad
        fake = self.align(inputs.student["stage4"]).detach()
        share = torch.rand((), generator=inputs.generator)
        return (self.critic(fake).mean() - self.critic(inputs.teacher["stage4"]).mean()) * share


class CurvedCritic(LossTerm):
    """D(x) = mean softplus(w x + b) over cells: a gradient that can be written down (`critic_by_hand`), moved
    by SGD, which unlike Adam sees the gradient's size. Remembers what it was shown.
    """

    needs = (Need(tap="stage4"),)
    student_taps = ("stage4",)
    LR, MOMENTUM, DECAY, POWER = 0.5, 0.9, 0.01, 0.9

    def __init__(self, maps: Maps) -> None:
        super().__init__()
        self.critic = nn.Sequential(nn.Conv2d(CHANNELS, 1, 1), nn.Softplus())
        self.shown: list[
            tuple[Tensor, Tensor]
        ] = []  # the student's and the teacher's map of each micro batch

    def rival(self) -> Rival:
        return Rival(
            self.critic,
            "sgd",
            lr=self.LR,
            momentum=self.MOMENTUM,
            weight_decay=self.DECAY,
            poly_power=self.POWER,
        )

    def forward(self, inputs: StepInputs) -> Tensor:
        return -self.critic(inputs.student["stage4"]).mean()

    def rival_loss(self, inputs: StepInputs) -> Tensor:
        fake, real = inputs.student["stage4"], inputs.teacher["stage4"][:, :CHANNELS]
        self.shown.append((fake.clone(), real.clone()))
        return self.critic(fake).mean() - self.critic(real).mean()


class InTurn(LossTerm):
    """Three networks of which the first is deployed; the one whose turn it is learns from the other two."""

    COUNT = 3

    @classmethod
    def reads(cls, options: Mapping[str, OptionValue]) -> Reads:
        return Reads(tuple(f"peer{i}.logits" for i in range(cls.COUNT)), ())

    @classmethod
    def task_weight(cls, options: Mapping[str, OptionValue]) -> float:
        return 0.0

    @classmethod
    def student_form(cls, options: Mapping[str, OptionValue]) -> StudentForm:
        return StudentForm("peers", cls.COUNT)

    @classmethod
    def step_form(cls, options: Mapping[str, OptionValue]) -> StepForm:
        return "in_turn"

    def __init__(self, maps: Maps) -> None:
        super().__init__()

    def forward(self, inputs: StepInputs) -> Tensor:
        assert inputs.learner is not None
        logits = [inputs.student[f"peer{i}.logits"] for i in range(self.COUNT)]
        assert [value.requires_grad for value in logits] == [i == inputs.learner for i in range(self.COUNT)]
        own = logits[inputs.learner]
        return torch.stack([(own - other).square().mean() for other in logits]).sum() + own.square().mean()
