"""Which stepper a run takes: the plain one, or one for networks in turn or for generated images."""

from accelerate import Accelerator, DistributedDataParallelKwargs

from kdcache.cache.grid import BOX, CLS, CTR
from kdcache.trainer.config import TrainConfig
from kdcache.trainer.steps.contract import RunParts
from kdcache.trainer.steps.generator import GeneratorStepper, Inventor
from kdcache.trainer.steps.in_turn import InTurnStepper
from kdcache.trainer.steps.step import Distiller, Stepper

HEADS = (CLS, BOX, CTR)  # of a detector; boxes are made of bins where there are any


def make_stepper(config: TrainConfig, parts: RunParts, accelerator: Accelerator, *, sync_bn: bool) -> Stepper:
    """The stepper of `parts.step_form`, its student, losses and optimizers prepared."""
    if parts.step_form == "generator":
        assert parts.teacher is not None
        inventor = Inventor(parts.student, parts.losses, parts.teacher)
        return GeneratorStepper(config, inventor, accelerator, sync_bn=sync_bn)
    if not _reads_all_heads(parts) and parts.step_form == "joint":
        # A first stage trains a part of the student, or none of it: DDP must not wait for the rest.
        accelerator.ddp_handler = DistributedDataParallelKwargs(find_unused_parameters=True)
    distiller = Distiller(parts.student, parts.losses, parts.taps)
    stepper = InTurnStepper if parts.step_form == "in_turn" else Stepper
    return stepper(config, distiller, accelerator, sync_bn=sync_bn)


def _reads_all_heads(parts: RunParts) -> bool:
    """Whether the losses read what every part of the student answers."""
    grid = getattr(parts.student, "grid", None)
    heads = ("logits",) if grid is None else [tap for kind in HEADS for tap in grid.groups.get(kind, ())]
    return set(heads) <= set(parts.taps)
