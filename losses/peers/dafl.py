"""Data-free learning: a generator invents images that please the frozen teacher, on which the student learns.

    x = G(latent), latent ~ N(0, I);  t, f = teacher's logits and embedding of x;  y = argmax t, a constant
    generator  oh * CE(t, y) + ie * sum over classes of pbar log10 pbar - a * mean |f|
    student    mean over images of KL(softmax(t) || softmax(student(x))), T 1; t and x are constants
pbar is the mean over the batch of softmax(t). The logarithm of base 10 is the published one. The mean over
|f| is over all its elements. Gradients of the first line reach the generator alone, those of the second the
student alone; pbar is that of this process's batch.
Generator: linear latent -> 128 x h/4 x w/4, BatchNorm; twice as large (nearest), conv 3x3 128, BatchNorm,
leaky ReLU 0.2; twice as large, conv 128 -> 64, BatchNorm, leaky ReLU; conv -> 3, tanh, BatchNorm without
weights. The inner BatchNorms have eps 0.8, which was presumably meant as momentum.
"""

import math
from collections.abc import Mapping
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdcache.cache.spec import BadOption, Need
from kdcache.cache.tasks.table import CLASSIFICATION
from kdcache.losses.contract import LossTerm, Maps, Method, Rival, StepForm, Weighted
from kdcache.losses.formulas.precision import in_float32
from kdcache.losses.formulas.scores import check_scores, mean_kl
from kdcache.losses.options import About, Count, NotNegative, OptionValue, Positive
from kdcache.losses.step_inputs import StepInputs

WIDE, NARROW = 128, 64  # channels
EPSILON_AS_PUBLISHED = 0.8
SLOPE = 0.2


class Generator(nn.Module):
    """Latent (B, L) -> network input (B, 3, H, W); `grey` repeats one channel. H and W divide by 4."""

    def __init__(self, latent: int, size: tuple[int, int], *, grey: bool = False) -> None:
        super().__init__()
        self.latent = latent
        self.first_size = (size[0] // 4, size[1] // 4)
        self.linear = nn.Linear(latent, WIDE * self.first_size[0] * self.first_size[1])
        self.norm = nn.BatchNorm2d(WIDE)
        self.body = nn.Sequential(
            nn.Upsample(scale_factor=2),
            *_unit(WIDE, WIDE),
            nn.Upsample(scale_factor=2),
            *_unit(WIDE, NARROW),
            nn.Conv2d(NARROW, 1 if grey else 3, 3, padding=1),
            nn.Tanh(),
            nn.BatchNorm2d(1 if grey else 3, affine=False),
        )

    def forward(self, latent_BL: Tensor) -> Tensor:
        first_BCHW = self.norm(self.linear(latent_BL).unflatten(1, (WIDE, *self.first_size)))
        image_BCHW: Tensor = self.body(first_BCHW)
        return image_BCHW.expand(-1, 3, -1, -1)


def _unit(in_channels: int, out_channels: int) -> tuple[nn.Module, ...]:
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
    return conv, nn.BatchNorm2d(out_channels, eps=EPSILON_AS_PUBLISHED), nn.LeakyReLU(SLOPE)


@in_float32
def one_hot_loss(teacher_BK: Tensor) -> Tensor:
    """Cross-entropy with the teacher's own likeliest class, in nats."""
    return functional.cross_entropy(teacher_BK, teacher_BK.detach().argmax(1))


@in_float32
def balance_loss(teacher_BK: Tensor) -> Tensor:
    """Sum over classes of pbar log10 pbar: least, -log10 K, where all classes are alike."""
    log_mean_K = functional.log_softmax(teacher_BK, dim=1).logsumexp(0) - math.log(teacher_BK.shape[0])
    return (log_mean_K.exp() * log_mean_K).sum() / math.log(10)


@in_float32
def activation_loss(feature_BD: Tensor) -> Tensor:
    """Minus the mean absolute value of the embedding."""
    return -feature_BD.abs().mean()


class DataFree(LossTerm):
    """Takes the place of the task loss, there being no labels. `generator`, `draw`, `generator_loss`
    and `student_loss` are for the step in which images are invented. Defined per micro batch: images
    are drawn, and the generator takes batch statistics of them.
    """

    method = Method(
        title="Data-free learning of student networks",
        source="Chen et al. 2019, https://arxiv.org/abs/1904.01186",
        code="huawei-noah/Data-Efficient-Model-Compression 5e8f4e4, DAFL/DAFL-train.py",
        cacheable="no: the generator needs the teacher's gradient with respect to its input",
        modules="generator, with an Adam of its own",
        defaults="MNIST: latent 100, batch 512, 200 x 120 steps, lr 0.2, student Adam 2e-3, oh 1, ie 5, "
        "a 0.1; CIFAR: latent 1000, batch 1024, 2000 x 120 steps, lr 0.02, student SGD 0.1; CIFAR-10 oh "
        "0.05, ie 5, a 0.01; CIFAR-100 oh 0.5, ie 20, a 0.1",
        published="in images only",
    )
    per_micro_batch = "images are drawn, and the generator takes batch statistics of them"
    tasks = (CLASSIFICATION,)
    needs = (Need(tap="logits"), Need(tap="embedding"))
    student_taps = ("logits",)

    def __init__(
        self,
        maps: Maps,
        *,
        oh: Annotated[NotNegative, About("weight of the generator's one-hot term")] = 1.0,
        ie: Annotated[NotNegative, About("weight of the generator's balance between classes")] = 5.0,
        a: Annotated[NotNegative, About("weight of the generator's activations")] = 0.1,
        latent: Annotated[Count, About("numbers from which an image is made")] = 100,
        lr: Annotated[Positive, About("learning rate of the generator's Adam")] = 0.2,
        grey: Annotated[bool, About("true: one channel, repeated, for teachers of grey images")] = False,
    ) -> None:
        super().__init__()
        check_scores("dafl", maps)
        self.oh, self.ie, self.a = oh, ie, a
        self.lr = lr
        self.generator = Generator(latent, _image_size(maps.facts.input_size), grey=grey)

    @classmethod
    def task_weight(cls, options: Mapping[str, OptionValue]) -> float:
        return 0.0

    @classmethod
    def step_form(cls, options: Mapping[str, OptionValue]) -> StepForm:
        return "generator"

    def draw(self, num: int, generator: torch.Generator) -> Tensor:
        """(num, L): latent vectors from the step's own generator, on the device of the weights."""
        shape = (num, self.generator.latent)
        drawn = torch.randn(shape, generator=generator, device=generator.device, dtype=torch.float32)
        return drawn.to(self.generator.linear.weight)

    def generator_loss(self, teacher_logits: Tensor, teacher_embedding: Tensor) -> dict[str, Weighted]:
        """What the generator minimises, from (B, K) and (B, D) with gradients to the images."""
        return {
            "one_hot": Weighted(one_hot_loss(teacher_logits), self.oh),
            "balance": Weighted(balance_loss(teacher_logits), self.ie),
            "activation": Weighted(activation_loss(teacher_embedding), self.a),
        }

    def student_loss(self, teacher_logits: Tensor, student_logits: Tensor) -> Tensor:
        """Mean over images of the KL at temperature 1; the teacher is constant."""
        return mean_kl(student_logits, teacher_logits.detach(), temperature=1.0)

    def forward(self, inputs: StepInputs) -> Tensor:
        """The student's part, for images that are there already."""
        return self.student_loss(inputs.teacher["logits"], inputs.student["logits"])

    def rival(self) -> Rival:
        return Rival(self.generator, "adam", self.lr)

    @property
    def generator_optimizer(self) -> Rival:
        """The same, for the step in which the generator learns from the student's backward."""
        return self.rival()


def _image_size(size: tuple[int, int]) -> tuple[int, int]:
    if min(size) < 4 or size[0] % 4 or size[1] % 4:
        raise BadOption(
            f"images of {size[0]} x {size[1]} pixels: the generator doubles its map twice",
            where="loss term 'dafl'",
            fix="take an input size whose height and width divide by 4",
        )
    return size
