"""One step of the plain run on this rank, from `train` to its metrics; writes what moved and what was drawn
here to `<out>/rank<r>.pt`.

python -m torch.distributed.run --nproc-per-node 2 -m -- rank_arithmetic OUT
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator
from plain_run import BARE, copy_of, plain_parts

from kdcache.trainer.loop import train
from kdcache.trainer.steps.contract import RunParts

CONFIG = replace(BARE, steps=1, accumulate=2)
LOSS = "plain_run:Draws+plain_run:Duel"


def main(out: Path) -> None:
    made: list[RunParts] = []
    before: dict[str, torch.Tensor] = {}
    world = {"rank": -1, "world": -1}

    def assemble(accelerator: Accelerator) -> RunParts:
        made.append(plain_parts(CONFIG, LOSS)(accelerator))
        before.update(copy_of(made[0].student))
        world.update(rank=int(accelerator.process_index), world=int(accelerator.num_processes))
        return made[0]

    train(CONFIG, out / "r", assemble)
    terms = made[0].losses.terms
    left = {
        "before": before,
        "after": copy_of(made[0].student),
        "critic": terms["Duel"].critic.weight.detach(),
        "masks": terms["Draws"].masks,
        "dropped": terms["Draws"].dropped,
    }
    torch.save({**left, "world": world["world"]}, out / f"rank{world['rank']}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
