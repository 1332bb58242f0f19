"""Images from a generator that learns against a frozen teacher; no image is read.

    latent -> generator -> x -> teacher(x) -> what the generator minimises      (gradient through the teacher)
                              -> student(x, constant) -> what the student minimises

One backward, two optimizers: the first sum reaches the generator alone, the second the student alone. As in
DAFL (Chen et al. 2019, https://arxiv.org/abs/1904.01186). x is network input already: neither network
normalises it. Axes: B rows, C channels, H W pixels, K classes, D width of the embedding.
"""

from collections.abc import Mapping
from typing import Protocol, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from kdcache.cache.errors import BadOption
from kdcache.cache.networks.network import Network
from kdcache.losses.contract import Rival, Weighted
from kdcache.losses.loss_set import LossSet
from kdcache.losses.step_inputs import LossValues, StepInputs
from kdcache.trainer.config import TrainConfig
from kdcache.trainer.steps.rivals import Rivals
from kdcache.trainer.steps.step import Distiller, Stepper

LOGITS, EMBEDDING = "logits", "embedding"


class Inventing(Protocol):
    """What a loss term of this form offers beside its `LossTerm` side."""

    generator: nn.Module  # latent -> (B, 3, H, W) network input

    @property
    def generator_optimizer(self) -> Rival: ...
    def draw(self, num: int, generator: torch.Generator) -> Tensor:
        """`num` latent vectors on the device of `generator`."""
        ...

    def generator_loss(self, teacher_logits: Tensor, teacher_embedding: Tensor) -> Mapping[str, Weighted]: ...
    def student_loss(self, teacher_logits: Tensor, student_logits: Tensor) -> Tensor:
        """`teacher_logits` are detached."""
        ...


class Inventor(Distiller):
    """Student, generator and the teacher that judges both. The teacher is no part of the module: it is in no
    checkpoint and no optimizer.
    """

    def __init__(self, student: nn.Module, losses: LossSet, teacher: Network) -> None:
        super().__init__(student, losses, (LOGITS,))
        self.label, self.term = inventing_term(losses)
        missing = [tap for tap in (LOGITS, EMBEDDING) if tap not in teacher.taps]
        if missing:
            raise BadOption(
                f"the generator learns from one teacher's logits and embedding; {teacher.name} has no "
                f"{' and no '.join(missing)}",
                where=f"--loss {self.label} --teacher",
                fix="name one teacher, no ensemble, whose embedding is a tap",
            )
        self._beside = [teacher.eval().requires_grad_(False)]  # a list hides it from torch's registration

    def forward(self, inputs: StepInputs) -> LossValues:
        """Both sums of one micro batch; as many images as the batch has rows."""
        teacher = self._beside[0].to(inputs.truth.device)
        student = cast(Network, self.student)
        images_BCHW = self.term.generator(self.term.draw(len(inputs.truth), inputs.generator))
        said = teacher.read_normalised(images_BCHW, (LOGITS, EMBEDDING))
        teacher_BK, features_BD = said[LOGITS].float(), said[EMBEDDING].float()
        student_BK = student.read_normalised(images_BCHW.detach(), (LOGITS,))[LOGITS].float()
        weighted = dict(self.term.generator_loss(teacher_BK, features_BD))
        weighted["student"] = Weighted(self.term.student_loss(teacher_BK.detach(), student_BK), 1.0)
        factor = self.losses.weight_at(self.label, inputs.epoch)
        bare = {f"{self.label}.{name}": value.value.detach() for name, value in weighted.items()}
        terms = {
            f"{self.label}.{name}": value.value * value.weight * factor for name, value in weighted.items()
        }
        total = torch.stack(list(terms.values())).sum()
        return LossValues(total, {name: value.detach() for name, value in terms.items()}, bare)


class GeneratorStepper(Stepper):
    """The student's optimizer is the run's, the generator's is the method's own."""

    def __init__(
        self, config: TrainConfig, inventor: Inventor, accelerator: Accelerator, *, sync_bn: bool = False
    ) -> None:
        if accelerator.scaler is not None:
            raise BadOption(
                "--amp fp16 with a generator: two optimizers would share one loss scale",
                where=f"--amp fp16 --loss {config.loss}",
                fix="use --amp bf16 or --amp no",
            )
        self.label, self.term = inventor.label, inventor.term
        super().__init__(config, inventor, accelerator, sync_bn=sync_bn)

    def find_rivals(self, distiller: Distiller) -> Rivals:
        rivals = {self.label: self.term.generator_optimizer}
        return Rivals(rivals, distiller.losses, steps=self.config.steps)

    def make_optimizers(self, distiller: Distiller) -> list[torch.optim.Optimizer]:
        self.rivals.freeze()  # the student's optimizer takes what is trainable; DDP then sees both
        optimizers = super().make_optimizers(distiller)
        self.rivals.freeze(False)
        return optimizers

    def _move_rivals(self, step: int) -> None:
        """Its gradients came with the student's backward."""
        if self.accelerator.sync_gradients:
            self._rival_left_out = self.rivals.step(step, self.accelerator, skips=self._watch.skips)


def inventing_term(losses: LossSet) -> tuple[str, Inventing]:
    """The term that brings the generator, and its label. Raises BadOption for further terms: they would have
    no images and no labels to read.
    """
    labels = list(losses.terms)
    inventing = [label for label in labels if hasattr(losses.terms[label], "generator_loss")]
    if len(labels) > 1 or not inventing:
        raise BadOption(
            f"{', '.join(labels)}: a method that invents its images stands alone, without labels to learn",
            where="--loss",
            fix=f"leave out everything but '{(inventing or labels)[0]}'",
        )
    return inventing[0], cast(Inventing, losses.terms[inventing[0]])
