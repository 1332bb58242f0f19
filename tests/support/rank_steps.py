"""Some steps of a tiny student on this rank; writes its weights, those of its losses and all buffers to
`<out>/rank<r>.pt`. A method for segmentation (`segmentation_run`) with the word 'maps' behind.

python -m torch.distributed.run --nproc-per-node 2 -m -- rank_steps LOSS OUT [maps]
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from fake_run import CONFIG, parts
from python_path import before
from rank_turn import alone
from segmentation_run import method_parts

from kdcache.trainer.ranks import reset_accelerate, start_accelerator
from kdcache.trainer.steps.choose import make_stepper


def main(loss: str, out: Path, *, maps: bool) -> None:
    accelerator = start_accelerator(CONFIG, out, start=0)
    made = (method_parts(CONFIG, loss) if maps else parts(CONFIG, loss=loss))(accelerator)
    stepper = make_stepper(CONFIG, made, accelerator, sync_bn=False)
    batches = made.stream.run()
    for step in range(4):
        stepper.step(step, batches, made.stream)
    rank, world = int(accelerator.process_index), int(accelerator.num_processes)
    weights = {name: p.detach() for name, p in stepper.module.named_parameters()}
    buffers = dict(stepper.module.named_buffers())
    torch.save({"world": world, "weights": weights, "buffers": buffers}, out / f"rank{rank}.pt")
    accelerator.end_training()
    reset_accelerate()


def launched(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a module of this folder on two CPU ranks of one thread each, to whatever end."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": before(Path(__file__).parent),
        "PYTHONWARNINGS": "default",
    }
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launch, "-m", "--", module, *arguments]
    with alone():
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def on_two_ranks(module: str, out: Path, *arguments: str) -> list[dict[str, Any]]:
    """Run a module of this folder on two ranks; what each left in `<out>/rank<r>.pt`, of which 'world' says
    that there were two."""
    done = launched(module, *arguments)
    assert done.returncode == 0, done.stderr
    left = [torch.load(out / f"rank{rank}.pt", weights_only=True) for rank in range(2)]
    assert [one["world"] for one in left] == [2, 2]
    return left


def two_ranks(
    loss: str, out: Path, *, maps: bool = False, kept: str = "weights"
) -> list[dict[str, torch.Tensor]]:
    """Run this file on two CPU ranks; the weights of each, and with `kept='buffers'` these too."""
    left = on_two_ranks("rank_steps", out, loss, str(out), *(["maps"] if maps else []))
    return [{**one["weights"], **(one["buffers"] if kept == "buffers" else {})} for one in left]


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), maps=sys.argv[3:] == ["maps"])
