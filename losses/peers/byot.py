"""Be your own teacher: shallow exits of a network learn from its deepest one.

z_0, f_0: logits and embedding of the whole network, constants in the terms below; z_i, f_i: of exit i.
    luanyunteng  (1 - alpha) * sum over all i of CE(z_i)
                 + alpha * T^2 * sum over exits of the soft cross-entropy of z_0 and z_i at T
                 + beta * sum over exits, images and channels of (f_i - f_0)^2 where f_i > 0 or f_0 > 0
                 (a raw sum: it grows with the batch)                  alpha 0.1, T 3, beta 1e-6
    archiplab    CE(z_0) + sum over exits of (1 - c) * CE(z_i) + c * the soft cross-entropy, no T^2
                 + g * sum over exits but the deepest of || A_i f_i + b_i - f_0 ||, the norm of the whole
                 batch's matrix, not squared and not averaged           c 0.3, T 3, g 0.03
The second is the authors' code for the journal version. Its comment exempts the shallowest exit from the
feature term; its code exempts the deepest auxiliary one, and so does this.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.linalg import vector_norm
from torch.nn import functional

from kdcache.cache.spec import BadOption
from kdcache.cache.tasks.table import CLASSIFICATION
from kdcache.losses.contract import LossOutput, LossTerm, Maps, Method, Reads, StudentForm, Weighted
from kdcache.losses.formulas.precision import in_float32
from kdcache.losses.options import About, Count, NotNegative, OptionValue, Positive, Share
from kdcache.losses.peers.online import summed_ce
from kdcache.losses.step_inputs import StepInputs, plain_rows

Form = Literal["luanyunteng", "archiplab"]
HEADS = {"luanyunteng": "bottleneck", "archiplab": "attention"}


@in_float32
def soft_cross_entropy(exit_BK: Tensor, deepest_BK: Tensor, *, temperature: float) -> Tensor:
    """Mean over images of -sum P_T(z_0) log P_T(z_i), no T^2. The deepest scores are constants."""
    target_BK = (deepest_BK.detach() / temperature).softmax(1)
    log_exit_BK = functional.log_softmax(exit_BK / temperature, dim=1)
    return -(target_BK * log_exit_BK).sum(1).mean()


@in_float32
def active_square(exit_BD: Tensor, deepest_BD: Tensor) -> Tensor:
    """Sum over images and channels of (f_i - f_0)^2 where one of the two is positive; f_0 is constant."""
    deepest_BD = deepest_BD.detach()
    active_BD = (exit_BD > 0) | (deepest_BD > 0)
    return ((exit_BD - deepest_BD).square() * active_BD).sum()


@in_float32
def matrix_distance(adapted_BD: Tensor, deepest_BD: Tensor) -> Tensor:
    """Frobenius norm of the whole batch's difference; f_0 is constant."""
    distance: Tensor = vector_norm(adapted_BD - deepest_BD.detach())
    return distance


class OwnTeacher(LossTerm):
    """Takes the place of the task loss. Exit 1 is the shallowest; the whole network is deployed.
    Defined per micro batch: features are summed over its images, or normed as one matrix.
    """

    method = Method(
        title="Be your own teacher",
        source="Zhang et al. 2019, https://arxiv.org/abs/1905.08094",
        code="luanyunteng/pytorch-be-your-own-teacher 8045079 (a port); "
        "ArchipLab-LinfengZhang/pytorch-self-distillation-final 47ca93b (the authors', journal form)",
        cacheable="no: the network is its own teacher",
        modules="the exits; archiplab: a linear layer D -> D per exit but the deepest",
        defaults="CIFAR-100, batch 128, SGD 0.1, wd 5e-4: luanyunteng 200 epochs, archiplab 250",
        published="port, CIFAR-100, exits of ResNet18 66.57/74.69/78.04/78.73, "
        "of ResNet50 71.84/77.75/80.14/80.64",
    )
    per_micro_batch = "features are summed over its images, or normed as one matrix"
    tasks = (CLASSIFICATION,)

    def __init__(
        self,
        maps: Maps,
        *,
        form: Annotated[Form, About("whose form")] = "luanyunteng",
        exits: Annotated[Count, About("exits beside the last, one per stage from the first")] = 3,
        alpha: Annotated[Share, About("luanyunteng: share of the soft labels")] = 0.1,
        beta: Annotated[NotNegative, About("luanyunteng: weight of the features")] = 1e-6,
        c: Annotated[Share, About("archiplab: share of the soft labels in an exit's loss")] = 0.3,
        g: Annotated[NotNegative, About("archiplab: weight of the features")] = 0.03,
        T: Annotated[Positive, About("temperature, divides the logits")] = 3.0,
    ) -> None:
        super().__init__()
        self.form: Form = form
        self.exits = exits
        self.alpha, self.beta, self.c, self.g = alpha, beta, c, g
        self.T = T
        width = maps.student["embedding"].channels
        for number in range(1, exits + 1):
            _check_width(number, maps.student[f"exit{number}.embedding"].channels, width)
        adapted = exits - 1 if form == "archiplab" else 0
        self.adapters = nn.ModuleList([nn.Linear(width, width) for _ in range(adapted)])  # of exits 1, 2 ...

    @classmethod
    def reads(cls, options: Mapping[str, OptionValue]) -> Reads:
        names = ["", *(f"exit{n}." for n in range(1, int(options["exits"]) + 1))]  # type: ignore[arg-type]
        return Reads(tuple(f"{name}{kind}" for name in names for kind in ("logits", "embedding")), ())

    @classmethod
    def task_weight(cls, options: Mapping[str, OptionValue]) -> float:
        return 0.0

    @classmethod
    def student_form(cls, options: Mapping[str, OptionValue]) -> StudentForm:
        heads = HEADS[str(options["form"])]
        return StudentForm("exits", count=int(options["exits"]), option=heads)  # type: ignore[arg-type]

    def forward(self, inputs: StepInputs) -> LossOutput:
        student = {tap: plain_rows(inputs, value) for tap, value in inputs.student.items()}
        names = [f"exit{n}" for n in range(1, self.exits + 1)]
        exits_EBK = torch.stack([student[f"{name}.logits"] for name in names])
        features_EBD = torch.stack([student[f"{name}.embedding"] for name in names])
        deepest_BK, feature_BD = student["logits"], student["embedding"]
        soft = torch.stack([soft_cross_entropy(z, deepest_BK, temperature=self.T) for z in exits_EBK]).sum()
        ce, ce_exits = summed_ce(deepest_BK[None], inputs), summed_ce(exits_EBK, inputs)
        if self.form == "luanyunteng":
            hard, hard_exits, share = 1 - self.alpha, 1 - self.alpha, self.alpha * self.T**2
            square = torch.stack([active_square(f_BD, feature_BD) for f_BD in features_EBD]).sum()
            features = Weighted(square, self.beta)
        else:
            hard, hard_exits, share = 1.0, 1 - self.c, self.c
            features = Weighted(self._distances(features_EBD, feature_BD), self.g)
        return {
            "ce": Weighted(ce, hard),
            "ce_exits": Weighted(ce_exits, hard_exits),
            "kd": Weighted(soft, share),
            "features": features,
        }

    def _distances(self, features_EBD: Tensor, deepest_BD: Tensor) -> Tensor:
        pairs = zip(self.adapters, features_EBD, strict=False)  # the deepest exit has no adapter
        distances = [matrix_distance(adapter(f_BD), deepest_BD) for adapter, f_BD in pairs]
        return torch.stack(distances).sum() if distances else deepest_BD.new_zeros(())


def _check_width(number: int, width: int, wanted: int) -> None:
    if width != wanted:
        raise BadOption(
            f"exit {number} has features of width {width}, the network of width {wanted}",
            where="loss term 'byot'",
            fix="give every exit features as wide as the network's embedding",
        )
