"""Networks that learn in turn: step n moves network n % K alone, by an optimizer of its own.

As the official code of deep mutual learning (Zhang et al. 2018, https://arxiv.org/abs/1706.00384) does: the
other networks' answers to the batch are constants, and each update draws the next batch.
"""

from collections.abc import Iterator

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs

from kdcache.cache.errors import BadOption
from kdcache.trainer.config import TrainConfig
from kdcache.trainer.steps.schedule import make_optimizer
from kdcache.trainer.steps.step import Distiller, Stepper, StepResult
from kdcache.trainer.stream.batch import Batch, Stream
from kdcache.trainer.students.encoder import encoder_parameters
from kdcache.trainer.students.peers import Peers


class InTurnStepper(Stepper):
    """One optimizer per network; only the one whose turn it is moves. The schedule is that of all steps."""

    learner: int

    def __init__(
        self, config: TrainConfig, distiller: Distiller, accelerator: Accelerator, *, sync_bn: bool = False
    ) -> None:
        assert isinstance(distiller.student, Peers), "networks in turn are peers"
        self.peers = distiller.student
        self.learner = 0
        if next(distiller.losses.parameters(), None) is not None:
            raise BadOption(
                "a loss with learned parts beside networks that learn in turn: they would have no optimizer",
                where=f"--loss {config.loss}",
                fix="leave that term out, or let the networks learn together",
            )
        # The networks whose turn it is not take no part in a backward, and DDP must not wait for them.
        accelerator.ddp_handler = DistributedDataParallelKwargs(find_unused_parameters=True)
        super().__init__(config, distiller, accelerator, sync_bn=sync_bn)

    def make_optimizers(self, distiller: Distiller) -> list[torch.optim.Optimizer]:
        return [
            make_optimizer(peer.parameters(), self.config, encoder=encoder_parameters(peer))
            for peer in self.peers.networks
        ]

    def step(self, step: int, batches: Iterator[Batch], stream: Stream) -> StepResult:
        self.learner = self.peers.learner = step % len(self.optimizers)
        return super().step(step, batches, stream)
