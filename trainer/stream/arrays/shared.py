"""Memory that the ranks of one machine share: one of them fills it, the others read it.

An anonymous file of the kernel, which the others open through the process that made it: it has no name in any
folder, so nothing is left behind however the run ends. A rank that cannot open it fills memory of its own.
Every rank of a run takes part, also one that needs no memory: what all do together, all do equally often.
"""

import mmap
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch.distributed as dist

from kdcache.cache.errors import Refused
from kdcache.cache.processes.living import own_process
from kdcache.cache.processes.progress import arrived


class Handle(NamedTuple):
    """How another process of this machine finds the memory."""

    process: int
    descriptor: int


def together(world: int) -> bool:
    """Whether this process is one of `world` ranks that can speak to each other."""
    return world > 1 and dist.is_available() and dist.is_initialized() and dist.get_world_size() == world


@contextmanager
def shared_arrays(sizes: Sequence[int], world: int) -> Iterator[tuple[list[np.ndarray], bool]]:
    """Arrays of so many bytes each, and whether the body has to fill them: others wait until it is done.

    Called by all of `world` ranks, by those without sizes too.
    """
    if not together(world):
        yield [np.empty(size, dtype=np.uint8) for size in sizes], True
        return
    place = own_process().place if sizes else ""
    places = _gathered(place, world)
    leads = bool(place) and places.index(place) == dist.get_rank()
    if leads:
        descriptor = os.memfd_create("kdcache-pixels")
        try:
            os.ftruncate(descriptor, max(1, sum(sizes)))
            yield _mapped(descriptor, sizes), True
            _gathered(Handle(os.getpid(), descriptor), world)
            _gathered(None, world)  # all have opened it; what is mapped stays
        finally:
            os.close(descriptor)
        return
    handles = _gathered(None, world)
    opened = _opened(handles[places.index(place)], sizes) if place else None
    _gathered(None, world)
    yield opened or [np.empty(size, dtype=np.uint8) for size in sizes], opened is None


def _gathered(value: object, world: int) -> list[object]:
    """What every rank says, by rank."""
    said: list[object] = [None] * world
    arrived()
    dist.all_gather_object(said, value)
    return said


def _opened(handle: object, sizes: Sequence[int]) -> list[np.ndarray] | None:
    """The arrays of another process; None where the system does not let this one."""
    assert isinstance(handle, Handle)
    try:
        descriptor = os.open(f"/proc/{handle.process}/fd/{handle.descriptor}", os.O_RDWR)
    except Refused:
        raise
    except OSError:
        return None
    try:
        return _mapped(descriptor, sizes)
    finally:
        os.close(descriptor)


def _mapped(descriptor: int, sizes: Sequence[int]) -> list[np.ndarray]:
    memory = np.frombuffer(mmap.mmap(descriptor, max(1, sum(sizes))), dtype=np.uint8)
    ends = np.cumsum(sizes)
    return [memory[end - size : end] for size, end in zip(sizes, ends.tolist(), strict=True)]
