"""Rows of all ranks, for memories and queues that must be equal everywhere; a number's mean over them.

DDP copies the buffers of rank 0 over all others before each forward; a memory that every rank filled with its
own rows would lose those of the others. So every rank enqueues the rows of all, in rank order.
"""

import torch
import torch.distributed as dist
from torch import Tensor


def gather_rows(rows: Tensor) -> Tensor:
    """(B, ...) of this rank -> (ranks x B, ...), without gradient. All ranks give the same shape."""
    rows = rows.detach()
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return rows
    of_ranks = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
    dist.all_gather(of_ranks, rows.contiguous())
    return torch.cat(of_ranks)


def mean_over_ranks(value: Tensor) -> Tensor:
    """A number's mean over the ranks, without gradient: what a sum over all ranks is divided by."""
    value = value.detach()
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return value
    total = value.clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()
