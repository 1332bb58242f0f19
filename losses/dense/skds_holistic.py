"""Holistic term of structured distillation: a critic compares whole score maps, the student tries to fool it.

Per step, student first: L = -mean D(z_S) with D in the graph, its gradients dropped; then the critic learns
from the student's logits as they were before that step: lambda_d * (D term + gradient penalty), see
`adversarial.py`. The critic's forwards come in this order, because each moves its spectral norms: D(z_S) for
the student; D(z_T), D(z_S) (`first=student`: the reverse, IFVD and CIRKD), penalty.
The critic's rate falls to 0 (SKDS) or stays (`rate=constant`, CIRKD). Its batch norm is over each rank (SKDS,
IFVD) or over all of them where the run synchronises (`statistics=all`, CIRKD).
z are raw logits at their own size. `condition=image` (the paper's form, only in branch cvpr_19 and without a
training script): the critic sees the image at the logits' size beside softmax(z), without batch norm.
The critic always computes in float32.
Liu et al. 2019, https://arxiv.org/abs/1903.04197; structure_knowledge_distillation ce208e1 (branch cvpr_19
f6e6565), winycg/CIRKD dab64db.
"""

from typing import Annotated, Literal

import torch
from torch import Tensor

from kdcache.cache.spec import BadOption, Need, TensorSpec
from kdcache.cache.tasks.table import SEGMENTATION
from kdcache.losses.contract import LossTerm, Maps, Method, Rival
from kdcache.losses.dense.adversarial import (
    Adversarial,
    between,
    fooling_loss,
    gradient_penalty,
    pixels,
    telling_loss,
    with_image,
)
from kdcache.losses.dense.critic import LEVELS, Critic, Scaling, smallest_side
from kdcache.losses.formulas.shapes import check_same_channels
from kdcache.losses.options import About, Count, NotNegative, Positive
from kdcache.losses.step_inputs import StepInputs

IMAGE_CHANNELS = 3
POLY_POWER = 0.9


class Holistic(LossTerm):
    """`weight` is the student's side, `lambda_d` the critic's: 0.1 for both as published.
    TorchDistiller, IFVD and CIRKD have `weight=0.001,optimizer=adam`, IFVD and CIRKD `first=student`,
    CIRKD also `adversarial=hinge,rate=constant,statistics=all`. Defined per micro batch: the critic
    takes batch statistics and moves its estimate of spectral norms.
    """

    method = Method(
        title="Structured distillation, holistic term",
        source="Liu et al. 2019, https://arxiv.org/abs/1903.04197",
        code="irfanICMLL/structure_knowledge_distillation ce208e1 networks/sagan_models.py, "
        "utils/criterion.py; winycg/CIRKD dab64db",
        modules="a critic of 3.2 M weights with an optimizer of its own, dropped after training",
        defaults="SKDS: wgan-gp, SGD, weight 0.1; IFVD and TorchDistiller: Adam, 0.001; "
        "CIRKD: hinge, Adam at a constant rate",
        published="Cityscapes mIoU PSPNet-R18 71.78 -> 74.08 over the pixel- and pair-wise terms",
    )
    per_micro_batch = "the critic takes batch statistics and moves its estimate of spectral norms"
    tasks = (SEGMENTATION,)
    needs = (Need(tap="logits"),)
    student_taps = ("logits",)
    published_weight = 0.1

    def __init__(
        self,
        maps: Maps,
        *,
        adversarial: Annotated[Adversarial, About("the critic's loss")] = "wgan-gp",
        condition: Annotated[
            Literal["none", "image"], About("what the critic sees beside the scores")
        ] = "none",
        preprocess: Annotated[
            Literal["batchnorm", "tanh", "rescale"], About("of raw logits; condition=image has none")
        ] = "batchnorm",
        levels: Annotated[Count, About("strided convolutions; n need sides of 4 * 2^n cells")] = LEVELS,
        first: Annotated[
            Literal["teacher", "student"], About("whose map the critic judges first in its own step")
        ] = "teacher",
        lambda_d: Annotated[NotNegative, About("weight of the critic's own loss")] = 0.1,
        optimizer: Annotated[
            Literal["sgd", "adam"], About("of the critic: momentum 0.9, decay 5e-4; or betas 0.9, 0.99")
        ] = "sgd",
        lr: Annotated[Positive, About("learning rate of the critic")] = 4e-4,
        rate: Annotated[
            Literal["poly", "constant"], About("lr * (1 - step / steps)^0.9 in each step, or lr in all")
        ] = "poly",
        statistics: Annotated[
            Literal["rank", "all"], About("its batch norm: of each rank, or of all with --sync-bn")
        ] = "rank",
    ) -> None:
        super().__init__()
        logits = maps.teacher["logits"]
        check_same_channels("skds-holistic", "logits", maps.student["logits"], logits)
        _check_size(logits, levels)
        _check_statistics(statistics, adversarial)
        self.adversarial: Adversarial = adversarial
        self.condition, self.first, self.lambda_d = condition, first, lambda_d
        self.optimizer: Literal["sgd", "adam"] = optimizer
        self.lr, self.poly_power = lr, POLY_POWER if rate == "poly" else 0.0
        with_pixels = condition == "image"
        scaling: Scaling = "none" if with_pixels else preprocess
        channels = logits.channels + (IMAGE_CHANNELS if with_pixels else 0)
        self.critic = Critic(channels, scaling=scaling, levels=levels, spans_ranks=statistics == "all")

    def forward(self, inputs: StepInputs) -> Tensor:
        return fooling_loss(self.critic(self._seen(inputs.student["logits"], inputs)))

    def rival(self) -> Rival:
        adam = self.optimizer == "adam"
        return Rival(
            self.critic,
            self.optimizer,
            self.lr,
            betas=(0.9, 0.99),
            momentum=0.9,
            weight_decay=0.0 if adam else 5e-4,
            poly_power=self.poly_power,
        )

    def rival_loss(self, inputs: StepInputs) -> Tensor:
        logits = {
            "teacher": _wide(inputs.teacher["logits"].detach()),
            "student": _wide(inputs.student["logits"].detach()),
        }
        judged = {}
        for name in ("teacher", "student") if self.first == "teacher" else ("student", "teacher"):
            judged[name] = self.critic(self._seen(logits[name], inputs))
        loss = telling_loss(judged["teacher"], judged["student"], adversarial=self.adversarial)
        if self.adversarial == "wgan-gp":
            mixed = between(logits["teacher"], logits["student"], self.draw_shares(inputs))
            loss = loss + gradient_penalty(self.critic, self._seen(mixed, inputs))
        return self.lambda_d * loss

    def draw_shares(self, inputs: StepInputs) -> Tensor:
        """(B,) uniform numbers: where between teacher and student the penalty looks."""
        logits, generator = inputs.teacher["logits"], inputs.generator
        drawn = torch.rand(len(logits), generator=generator, device=generator.device, dtype=torch.float32)
        return drawn.to(logits.device)

    def _seen(self, logits: Tensor, inputs: StepInputs) -> Tensor:
        """What the critic is shown of a score map, float32 at least."""
        wide = _wide(logits)
        if self.condition == "none":
            return wide
        if inputs.images_BHWC is None:
            raise BadOption(
                "the critic is to see the images and this step has none",
                where="loss term 'skds-holistic'",
                fix="skds-holistic(condition=none)",
            )
        return with_image(pixels(inputs.images_BHWC), wide)


def _wide(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


def _check_statistics(statistics: str, adversarial: Adversarial) -> None:
    """BadOption for a penalty on a batch norm over several ranks."""
    if statistics == "all" and adversarial == "wgan-gp":
        raise BadOption(
            "wgan-gp's penalty is differentiated twice, and a batch norm over all ranks can be only once",
            where="loss term 'skds-holistic'",
            fix="skds-holistic(statistics=rank), or skds-holistic(adversarial=hinge,statistics=all)",
        )


def _check_size(logits: TensorSpec, levels: int) -> None:
    """BadOption where the critic's last convolution would not fit."""
    height, width = logits.shape[:2]
    needed = smallest_side(levels)
    if min(height, width) >= needed:
        return
    legal = [fewer for fewer in range(1, levels) if smallest_side(fewer) <= min(height, width)]
    crop = (needed - 1) * max(logits.stride, 1) + 1
    raise BadOption(
        f"the critic of {levels} levels needs sides of {needed} cells and the logits are {height}x{width}",
        where="loss term 'skds-holistic'",
        fix=f"crops of {crop}x{crop} pixels or more"
        + (f", or skds-holistic(levels={legal[-1]})" if legal else "")
        + ", or leave it out: skds(skds-holistic=0)",
    )
