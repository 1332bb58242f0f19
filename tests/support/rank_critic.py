"""Some steps of `CurvedCritic` on this rank: its weights at first and after each step, and what it was shown
in between, to `<out>/rank<r>.pt`.

python -m torch.distributed.run --nproc-per-node 2 -m -- rank_critic OUT
"""

import sys
from pathlib import Path

import torch
from critic_by_hand import weights_of
from fake_run import CONFIG, parts

from kdcache.trainer.ranks import reset_accelerate, start_accelerator
from kdcache.trainer.steps.choose import make_stepper

STEPS = 2


def main(out: Path) -> None:
    accelerator = start_accelerator(CONFIG, out, start=0)
    made = parts(CONFIG, loss="fake_methods:CurvedCritic")(accelerator)
    stepper = make_stepper(CONFIG, made, accelerator, sync_bn=False)
    term = stepper.module.losses.terms["CurvedCritic"]
    batches = made.stream.run()
    weights, shown = [weights_of(term.critic)], []
    for step in range(STEPS):
        stepper.step(step, batches, made.stream)
        weights.append(weights_of(term.critic))
        shown.append([list(pair) for pair in term.shown])
        term.shown.clear()
    rank, world = int(accelerator.process_index), int(accelerator.num_processes)
    torch.save({"world": world, "weights": weights, "shown": shown}, out / f"rank{rank}.pt")
    accelerator.end_training()
    reset_accelerate()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
