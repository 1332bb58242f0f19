"""Several processes on one build: CPU barriers when torchrun started them, nothing otherwise."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist

from kdcache.cache.processes.progress import arrived
from kdcache.cache.processes.stop import TIMEOUT_S
from kdcache.cache.processes.watch import watching

T = TypeVar("T")
_PATIENCE = timedelta(days=7)
_KEPT = "finished shards are kept, the same command continues"


@contextmanager
def group(timeout_s: float = TIMEOUT_S) -> Iterator[tuple[int, int]]:
    """(rank, world size), with a process group when there are several ranks. `timeout_s`: how long one may
    give no sign of life, or not get on while others wait for it."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield 0, 1
        return
    mine = not dist.is_initialized()
    if mine:
        # Shards take as long as they take; who waits for a rank that is gone is told by `watching`.
        dist.init_process_group("gloo", timeout=_PATIENCE)
    try:
        with watching(
            timeout_s=timeout_s, fix=lambda: "finished shards are kept, the same command continues"
        ):
            yield dist.get_rank(), world
    finally:
        if mine:
            dist.destroy_process_group()


def meet(world: int) -> None:
    arrived()
    if world > 1:
        dist.barrier()


def told(value: T | None, world: int) -> T:
    """What rank 0 decided, on every rank."""
    arrived()
    if world > 1:
        values = [value]
        dist.broadcast_object_list(values)
        value = values[0]
    assert value is not None, "rank 0 decides"
    return value


def over_ranks(world: int, *counts: int) -> list[int]:
    """Each count summed over the ranks; also where they meet at the end."""
    total = torch.tensor(counts)
    arrived()
    if world > 1:
        dist.all_reduce(total)
    return [int(n) for n in total]
