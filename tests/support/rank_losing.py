"""A run of the tiny student on this rank, in which one rank meets a fate: python -m rank_losing FATE OUT.

FATE is WHO:WHEN:WHAT, such as '1:step:SIGKILL': the rank or 'all', in a step or in a validation ('judge'),
and the signal that it sends to itself, 'hang' or 'error'. Prints what a command would.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from accelerate import Accelerator
from fake_run import CONFIG, FakeStream, judge, parts
from torch import nn

from kdcache.cache.errors import BadSample, KdError
from kdcache.cache.processes.stop import Stopped, signals
from kdcache.trainer.judge.segmentation import SegmentationMetrics
from kdcache.trainer.loop import train
from kdcache.trainer.steps.contract import RunParts
from kdcache.trainer.stream.batch import Batch

LOST = replace(CONFIG, steps=40, save_every=4, eval_every=3, rank_timeout=3.0)


def meets(what: str) -> None:
    if what == "hang":  # the process lives, its main thread does not come back
        threading.Event().wait()
    if what == "error":
        raise BadSample("a bad image", where="here", fix="mend it")
    os.kill(os.getpid(), getattr(signal, what))


class Fated(FakeStream):
    fate = ""

    def run(self, start_micro_step: int = 0) -> Iterator[Batch]:
        for batch in super().run(start_micro_step):
            if batch.micro_step == 2 * 5 and self.fate:
                meets(self.fate)
            yield batch


def main(fate: str, out: Path) -> None:
    who, when, what = fate.split(":")
    mine = who in (os.environ["RANK"], "all")

    def judging(network: nn.Module) -> SegmentationMetrics:
        if mine and when == "judge":
            meets(what)
        return judge(network)

    def assemble(accelerator: Accelerator) -> RunParts:
        made = parts(LOST)(accelerator)
        stream = Fated(made.stream.layout)
        stream.fate = what if mine and when == "step" else ""
        return replace(made, stream=stream, evaluate=judging)

    try:
        with signals():
            train(LOST, out / "r", assemble)
    except KdError as error:
        sys.exit(f"error: {error}")
    except Stopped as stop:
        print(f"stopped; {stop.said}", flush=True)
        sys.exit(stop.status)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
