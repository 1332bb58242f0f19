"""SSKD: beside its answers, a teacher's similarities between turned and plain views of a batch are learned.

4 B rows: row 4 i is the plain view of sample i, the next three are its quarter turns. h = SSP head of an
embedding, Linear-ReLU-Linear of its own width; S_rj = cosine of turned view r and plain view j.
    stage=head     the teacher's head alone: cross-entropy of S with column r // 3, T 1
    stage=student  0.1 CE of the plain rows (the task loss) + 0.9 KD of the plain rows (T 4) + 2.7 KD of the
                   kept turned rows (T 4) + 10 KD of the kept rows of S (T 0.5)
Kept are the rows on which the teacher is right, and of the others the share (1 of the logits, 0.75 of S) on
which the truth ranks best; equal ranks are taken in the order of rows (published: in no order). The teacher's
head is frozen in the second stage: it comes from a run of the first one, `--init RUN`.
Xu et al. 2020, https://arxiv.org/abs/2006.07114; xuguodong03/SSKD 661b972. Needs turned views
(`kdcache build --views turns:K`); the crop of each turn is its own. The batch is that of one rank.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdcache.cache.spec import BadOption, Need
from kdcache.cache.tasks.table import CLASSIFICATION
from kdcache.losses.contract import LossOutput, LossTerm, Maps, Method, Reads, Weighted
from kdcache.losses.features.rotations import TURNS, kept_kl, kept_rows, similarity, true_rank
from kdcache.losses.formulas.divergence import kl
from kdcache.losses.formulas.precision import in_float32
from kdcache.losses.formulas.shapes import check_same_channels
from kdcache.losses.options import About, NotNegative, OptionValue, Positive, Share
from kdcache.losses.step_inputs import StepInputs, plain_rows


@in_float32
def head_loss(similarity_RB: Tensor) -> Tensor:
    """Cross-entropy of every turned view with the plain view of its own sample."""
    return functional.cross_entropy(similarity_RB, own_columns(similarity_RB))


def own_columns(similarity_RB: Tensor) -> Tensor:
    """(R,): r // 3."""
    return torch.arange(len(similarity_RB), device=similarity_RB.device) // TURNS


class SelfSupervision(LossTerm):
    """`head_steps` counts the steps in which the teacher's head was trained; 0 in the second stage is
    an error, because a random head teaches nothing. Defined per micro batch: similarities and ranks are
    those between its images.
    """

    method = Method(
        title="Self-supervision KD",
        source="Xu et al. 2020, https://arxiv.org/abs/2006.07114",
        code="xuguodong03/SSKD 661b972 student.py, teacher.py",
        cacheable="yes",
        modules="an SSP head per side",
        defaults="turned views (--views turns:K); stage=head 60 epochs, then --init RUN; weights 0.1, 0.9, "
        "2.7, 10; T 4, 4, 0.5",
        published="CIFAR-100 resnet32x4 -> resnet8x4 76.20, wrn-40-2 -> wrn-16-2 76.04",
    )
    per_micro_batch = "similarities and ranks are those between its images"
    tasks = (CLASSIFICATION,)
    turns = True
    head_steps: Tensor

    def __init__(
        self,
        maps: Maps,
        *,
        stage: Annotated[
            Literal["head", "student"], About("what is trained: the teacher's SSP head, or the student")
        ] = "student",
        kd: Annotated[NotNegative, About("weight of the plain rows' KD")] = 0.9,
        tf: Annotated[NotNegative, About("weight of the turned rows' KD")] = 2.7,
        ss: Annotated[NotNegative, About("weight of the similarities' KD")] = 10.0,
        T: Annotated[Positive, About("temperature of the logits")] = 4.0,
        ss_T: Annotated[Positive, About("temperature of the similarities")] = 0.5,
        ratio_tf: Annotated[Share, About("share of the teacher's wrong turned rows that is kept")] = 1.0,
        ratio_ss: Annotated[Share, About("share of the teacher's wrong similarity rows that is kept")] = 0.75,
    ) -> None:
        super().__init__()
        self.stage = stage
        self.weights = {"kd": kd, "tf": tf, "ss": ss}
        self.T, self.ss_T = T, ss_T
        self.ratio_tf, self.ratio_ss = ratio_tf, ratio_ss
        self.teacher_head: nn.Module = _head(maps.teacher["embedding"].channels)
        self.register_buffer("head_steps", torch.zeros((), dtype=torch.int64))
        self._checked = stage == "head"
        if stage == "student":
            check_same_channels("sskd", "logits", maps.student["logits"], maps.teacher["logits"])
            self.teacher_head.requires_grad_(False)
            self.student_head: nn.Module = _head(maps.student["embedding"].channels)

    @classmethod
    def reads(cls, options: Mapping[str, OptionValue]) -> Reads:
        if options["stage"] == "head":
            return Reads((), (Need(tap="embedding"),))
        return Reads(("embedding", "logits"), (Need(tap="embedding"), Need(tap="logits")))

    @classmethod
    def task_weight(cls, options: Mapping[str, OptionValue]) -> float:
        return 0.0 if options["stage"] == "head" else 0.1

    def forward(self, inputs: StepInputs) -> LossOutput:
        if inputs.rows_per_sample != 1 + TURNS:
            raise BadOption(
                f"{inputs.rows_per_sample} view per sample, and SSKD compares 4 quarter turns",
                where="loss term 'sskd'",
                fix="build the cache with --views turns:K, or train on fresh views",
            )
        if self.stage == "head":
            loss = head_loss(similarity(self.teacher_head(inputs.teacher["embedding"])))
            self.head_steps += 1
            return loss
        self._check_head()
        values = self.terms(
            inputs.student["logits"],
            inputs.teacher["logits"],
            similarity(self.student_head(inputs.student["embedding"])),
            similarity(self.teacher_head(inputs.teacher["embedding"])),
            plain_rows(inputs, inputs.truth),
        )
        return {name: Weighted(value, self.weights[name]) for name, value in values.items()}

    def terms(
        self,
        student_4BxK: Tensor,
        teacher_4BxK: Tensor,
        student_RB: Tensor,
        teacher_RB: Tensor,
        labels_B: Tensor,
    ) -> dict[str, Tensor]:
        """The three terms from both sides' logits and similarities."""
        plain, turned = _split(student_4BxK)
        plain_teacher, turned_teacher = _split(teacher_4BxK)
        kept_tf, kept_ss = self.kept(turned_teacher, teacher_RB, labels_B)
        return {
            "kd": plain_kd(plain, plain_teacher, temperature=self.T),
            "tf": kept_kl(turned, turned_teacher, kept_tf, temperature=self.T),
            "ss": kept_kl(student_RB, teacher_RB, kept_ss, temperature=self.ss_T),
        }

    def kept(self, turned_RK: Tensor, similarity_RB: Tensor, labels_B: Tensor) -> tuple[Tensor, Tensor]:
        """(R,) bool twice: the rows on which a teacher of these answers is trusted."""
        rank_tf = true_rank(turned_RK, labels_B.repeat_interleave(TURNS))
        rank_ss = true_rank(similarity_RB, own_columns(similarity_RB))
        return kept_rows(rank_tf, self.ratio_tf), kept_rows(rank_ss, self.ratio_ss)

    def _check_head(self) -> None:
        """Once: reading the number waits for the device."""
        if not self._checked and not self.head_steps.item():
            raise BadOption(
                "the teacher's SSP head was never trained",
                where="loss term 'sskd', stage=student",
                fix="run kdtrain with sskd(stage=head) first, then start this run with --init RUN",
            )
        self._checked = True


@in_float32
def plain_kd(student_BK: Tensor, teacher_BK: Tensor, *, temperature: float) -> Tensor:
    """T^2 * mean over rows of KL(teacher || student)."""
    return temperature**2 * kl(student_BK, teacher_BK, temperature=temperature, dim=1).mean()


def _head(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))


def _split(values_4BxK: Tensor) -> tuple[Tensor, Tensor]:
    """Plain rows (B, K) and turned ones (3 B, K)."""
    per_sample = values_4BxK.reshape(-1, 1 + TURNS, values_4BxK.shape[1])
    return per_sample[:, 0], per_sample[:, 1:].flatten(0, 1)
