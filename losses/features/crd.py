"""CRD: an embedding stands nearer to its own sample's than to those of other classes, seen from both sides.

1. e = unit(Linear(embedding)) of each side, both learned; v1 (student) and v2 (teacher) remember one e per
   sample;
2. for sample i and c = [i, K samples of other classes]: o_s = exp(v2[c].e_s / T) / Z1 and
   o_t = exp(v1[c].e_t / T) / Z2, Z = n * mean of the unscaled o of the first batch, then frozen;
3. NCE(o) = -1 / B * sum [ log(o_0 / (o_0 + K/n + 1e-7)) + sum over the K of log((K/n) / (o + K/n + 1e-7)) ];
4. L = NCE(o_s) + NCE(o_t), weight 0.8; afterwards v[i] <- unit(m v[i] + (1 - m) e), without gradient.

Tian et al. 2020, https://arxiv.org/abs/1910.10699; HobbitLong/RepDistiller b84f547 `crd/`. Computed in
logarithms. Distributed: every rank draws its own negatives and writes the rows of all ranks, so memories and
Z are equal everywhere. A sample twice in a batch keeps its last row. Differs by intent: where fewer than K
samples are of another class, K is their number (published: drawn with repetition).
"""

import math
from collections.abc import Mapping
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdcache.cache.spec import BadOption
from kdcache.cache.tasks.table import CLASSIFICATION
from kdcache.losses.contract import LossTerm, Maps, Method, Reads, same_tap
from kdcache.losses.features.negatives import OtherClasses
from kdcache.losses.formulas.gather import gather_rows
from kdcache.losses.formulas.precision import in_float32
from kdcache.losses.options import About, Count, OptionValue, Range, Share
from kdcache.losses.step_inputs import StepInputs, plain_rows

EPSILON = 1e-7
# Below it exp(1 / T) leaves the range of float32 together with the number of samples.
Temperature = Annotated[float, Range(0.02)]


@in_float32
def noise_contrast(log_scores_BC: Tensor, *, num_samples: int) -> Tensor:
    """NCE of log o: the sample itself in column 0, then its negatives."""
    num_negatives = log_scores_BC.shape[1] - 1
    noise = num_negatives / num_samples
    log_sums_BC = torch.logaddexp(log_scores_BC, log_scores_BC.new_tensor(math.log(noise + EPSILON)))
    own = log_scores_BC[:, 0] - log_sums_BC[:, 0]
    others = math.log(noise) - log_sums_BC[:, 1:]
    return -(own.sum() + others.sum()) / len(log_scores_BC)


@in_float32
def unit(embedding_BD: Tensor) -> Tensor:
    """Rows of length 1."""
    return functional.normalize(embedding_BD)


@in_float32
def similarities(memory_ND: Tensor, compared_BC: Tensor, embedding_BD: Tensor) -> Tensor:
    """(B, C): products of each row's embedding with the memory rows that it is compared with.

    Against the whole memory where that is the smaller copy: one matrix product instead of B C gathered rows
    (the loss takes 0.13 s instead of 2.0 at N 50000, B 64, C 16385, one core). A copy in any case: the memory
    moves on before the backward.
    """
    if len(memory_ND) <= compared_BC.numel():
        return (embedding_BD @ memory_ND.clone().T).gather(1, compared_BC)
    return torch.einsum("bcd,bd->bc", memory_ND[compared_BC], embedding_BD)


class ContrastiveRepresentation(LossTerm):
    """Two memories of n x dim float32 and the classes of all samples: 51 MB for 50000 samples. A step
    copies each memory for its backward, or B (K + 1) of its vectors where these are fewer. Defined per
    micro batch: negatives are drawn and the memories move.
    """

    method = Method(
        title="Contrastive representation distillation",
        source="Tian et al. 2020, https://arxiv.org/abs/1910.10699",
        code="HobbitLong/RepDistiller b84f547 crd/criterion.py, crd/memory.py",
        modules="a linear layer per side, a memory per side",
        defaults="K 16384, T 0.07, momentum 0.5, weight 0.8; CRD+KD: crd+kd(weight=1)",
        published="CIFAR-100 resnet32x4 -> resnet8x4 75.51 (student 72.50)",
    )
    per_micro_batch = "negatives are drawn and the memories move"
    tasks = (CLASSIFICATION,)
    published_weight = 0.8
    memory_student_ND: Tensor
    memory_teacher_ND: Tensor
    scales_2: Tensor

    def __init__(
        self,
        maps: Maps,
        *,
        tap: Annotated[str, About("embedding of both sides")] = "embedding",
        dim: Annotated[Count, About("width of the learned embeddings")] = 128,
        negatives: Annotated[Count, About("samples of other classes per row, K")] = 16384,
        T: Annotated[Temperature, About("temperature, divides the products")] = 0.07,
        momentum: Annotated[Share, About("share of a memory's old row that is kept")] = 0.5,
    ) -> None:
        super().__init__()
        self.tap, self.T, self.momentum = tap, T, momentum
        self.num_samples = maps.facts.num_samples
        self.embed_student = nn.Linear(_width(tap, maps.student[tap].shape), dim)
        self.embed_teacher = nn.Linear(_width(tap, maps.teacher[tap].shape), dim)
        self.others = OtherClasses(maps.facts.labels_N, self.num_samples, where="loss term 'crd'")
        self.num_negatives = min(negatives, self.others.fewest)
        if self.num_negatives < negatives:
            self.notes = (
                f"crd: {self.num_negatives} negatives instead of {negatives}, as many samples are of "
                "another class",
            )
        bound = 1 / math.sqrt(dim / 3)
        for side in ("student", "teacher"):
            self.register_buffer(f"memory_{side}_ND", torch.empty(self.num_samples, dim))
            nn.init.uniform_(self.get_buffer(f"memory_{side}_ND"), -bound, bound)
        self.register_buffer("scales_2", torch.zeros(2))  # Z1 and Z2, 0 until the first batch

    @classmethod
    def reads(cls, options: Mapping[str, OptionValue]) -> Reads:
        return same_tap(options)

    def forward(self, inputs: StepInputs, *, compared_BC: Tensor | None = None) -> Tensor:
        """`compared_BC` int64 takes the place of the drawn samples: each row's own, then its negatives."""
        samples_B = self._samples(inputs)
        student = unit(self.embed_student(plain_rows(inputs, inputs.student[self.tap])))
        teacher = unit(self.embed_teacher(plain_rows(inputs, inputs.teacher[self.tap])))
        if compared_BC is None:
            drawn_BK = self.others.draw(samples_B, self.num_negatives, inputs.generator)
            compared_BC = torch.cat([samples_B[:, None], drawn_BK], 1)
        student_BC = similarities(self.memory_teacher_ND, compared_BC, student) / self.T
        teacher_BC = similarities(self.memory_student_ND, compared_BC, teacher) / self.T
        self._settle_scales(student_BC.detach(), teacher_BC.detach())
        student_log, teacher_log = self.scales_2.log()
        loss = noise_contrast(student_BC - student_log, num_samples=self.num_samples) + noise_contrast(
            teacher_BC - teacher_log, num_samples=self.num_samples
        )
        self._remember(samples_B, student, teacher)
        return loss

    def _samples(self, inputs: StepInputs) -> Tensor:
        if inputs.samples_B is None:
            raise BadOption(
                "the step does not say which samples its rows are",
                where="loss term 'crd'",
                fix="train from a cache or a source, whose streams number their samples",
            )
        return plain_rows(inputs, inputs.samples_B)

    @torch.no_grad()
    def _settle_scales(self, student_BC: Tensor, teacher_BC: Tensor) -> None:
        """Z of the first batch of all ranks, then always the same."""
        means = torch.stack([student_BC.exp().mean(), teacher_BC.exp().mean()])
        estimated = gather_rows(means[None]).mean(0) * self.num_samples
        self.scales_2.copy_(torch.where(self.scales_2 > 0, self.scales_2, estimated))

    @torch.no_grad()
    def _remember(self, samples_B: Tensor, student_BD: Tensor, teacher_BD: Tensor) -> None:
        samples = gather_rows(samples_B)
        last = _last_rows(samples)
        sides = ((self.memory_student_ND, student_BD), (self.memory_teacher_ND, teacher_BD))
        for memory, embedding in sides:
            rows = gather_rows(embedding)[last].to(memory.dtype)
            old = memory[samples[last]]
            moved = self.momentum * old + (1 - self.momentum) * rows
            memory[samples[last]] = functional.normalize(moved)


def _last_rows(samples_B: Tensor) -> Tensor:
    """Row of the last occurrence of every sample: writing a duplicate twice is not the same on every
    device.
    """
    unique, place_B = torch.unique(samples_B, return_inverse=True)
    rows = torch.arange(len(samples_B), device=samples_B.device)
    return torch.zeros_like(unique).scatter_reduce_(0, place_B, rows, "amax", include_self=False)


def _width(tap: str, shape: tuple[int, ...]) -> int:
    if len(shape) == 1:
        return shape[0]
    raise BadOption(
        f"tap '{tap}' is a map of {'x'.join(map(str, shape))}, and a memory keeps vectors",
        where="loss term 'crd'",
        fix="name a pooled vector: crd(tap=embedding)",
    )
