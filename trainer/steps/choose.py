"""Which stepper a run takes: the plain one, or one for networks in turn or for generated images."""

from accelerate import Accelerator, DistributedDataParallelKwargs

from kdcache.trainer.config import TrainConfig
from kdcache.trainer.steps.contract import RunParts
from kdcache.trainer.steps.generator import GeneratorStepper, Inventor
from kdcache.trainer.steps.in_turn import InTurnStepper
from kdcache.trainer.steps.step import Distiller, Stepper


def make_stepper(config: TrainConfig, parts: RunParts, accelerator: Accelerator, *, sync_bn: bool) -> Stepper:
    """The stepper of `parts.step_form`, its student, losses and optimizers prepared."""
    if parts.step_form == "generator":
        assert parts.teacher is not None
        inventor = Inventor(parts.student, parts.losses, parts.teacher)
        return GeneratorStepper(config, inventor, accelerator, sync_bn=sync_bn)
    if "logits" not in parts.taps and parts.step_form == "joint":
        # A first stage trains a part of the student, or none of it: DDP must not wait for the rest.
        accelerator.ddp_handler = DistributedDataParallelKwargs(find_unused_parameters=True)
    distiller = Distiller(parts.student, parts.losses, parts.taps)
    stepper = InTurnStepper if parts.step_form == "in_turn" else Stepper
    return stepper(config, distiller, accelerator, sync_bn=sync_bn)
