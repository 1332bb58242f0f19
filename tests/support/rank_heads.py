"""The loss of every dense head on this rank's image of a batch of two; N and the gradients of the maps, over
the whole batch as DDP would average them, to `<out>/rank<r>.pt`.

python -m torch.distributed.run --nproc-per-node 2 -m -- rank_heads OUT
"""

import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from dense_heads import GRIDS, head_inputs, head_losses, head_taps, random_truth, supervised
from torch import Tensor

SEED = 1


def slopes_of(name: str, own: slice) -> tuple[Tensor, dict[str, Tensor]]:
    """N, and the gradient of the maps' rows `own` under the loss of those rows."""
    grid, truth = GRIDS[name], random_truth(SEED)[own]
    maps = {tap: one.detach()[own].requires_grad_() for tap, one in head_taps(grid).items()}
    number = supervised(grid, maps).prepare(head_inputs(maps, truth)).num_positives
    slopes = torch.autograd.grad(head_losses(grid, maps, truth).total, list(maps.values()))
    return number, dict(zip(maps, slopes, strict=True))


def main(out: Path) -> None:
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    left: dict[str, Any] = {"world": world}
    for name in GRIDS:
        number, slopes = slopes_of(name, slice(rank, rank + 1))
        # DDP averages over the ranks; a row of the batch is on one of them.
        left[name] = {"number": number, "slopes": {tap: one / world for tap, one in slopes.items()}}
    torch.save(left, out / f"rank{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
