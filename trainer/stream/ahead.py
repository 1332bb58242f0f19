"""Batches on the device that trains, copied there while the step before is computed.

A stream whose batches lie in main memory would make every step wait for its own copy. Here one batch is
under way ahead: out of pinned memory, on a lane of its own, and the step waits for it on the device alone. On
a CPU, and for what lies on the device already, nothing is done.
"""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

from kdcache.cache.tasks.contract import Mixed
from kdcache.trainer.stream.batch import Batch


class Copier(Protocol):
    """How tensors come to a device, in order, beside what computes there."""

    def start(self, batch: Batch) -> tuple[Batch, Any]:
        """The batch as it will be on the device, and a mark behind which it is complete."""
        ...

    def arrive(self, batch: Batch, mark: Any) -> None:
        """What computes waits for the mark from here on; nobody else does."""
        ...


class CudaCopier:
    """Copies on a stream of their own."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._lane = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def start(self, batch: Batch) -> tuple[Batch, Any]:
        with torch.cuda.stream(self._lane):
            moved = moved_batch(batch, self._copy)
        return moved, self._lane.record_event()

    def _copy(self, value: Tensor) -> Tensor:
        if value.device == self._device:
            return value
        # torch keeps pinned memory for the next batches, and gives none of it away before it was copied.
        return value.pin_memory().to(self._device, non_blocking=True)

    def arrive(self, batch: Batch, mark: Any) -> None:
        here = torch.cuda.current_stream(self._device)
        here.wait_event(mark)
        for value in tensors_of(batch):  # made on the lane, used here: its memory is not free before
            value.record_stream(here)


def batches_on(device: torch.device, batches: Iterator[Batch]) -> Iterator[Batch]:
    """The same batches on `device`; on a CPU the very iterator."""
    return batches if device.type == "cpu" else one_ahead(batches, CudaCopier(device))


def one_ahead(batches: Iterator[Batch], copier: Copier) -> Iterator[Batch]:
    """Each batch, the one behind it under way. An error of the stream comes after the batches before it."""
    under_way: list[tuple[Batch, Any]] = []
    failure: Exception | None = None
    while True:
        while failure is None and len(under_way) < 2:
            try:
                under_way.append(copier.start(next(batches)))
            except Exception as error:  # StopIteration too: the batches that are under way come first
                failure = error
        if not under_way:
            if isinstance(failure, StopIteration) or failure is None:
                return
            raise failure
        batch, mark = under_way.pop(0)
        copier.arrive(batch, mark)
        yield batch


def moved_batch(batch: Batch, move: Callable[[Tensor], Tensor]) -> Batch:
    """Every tensor of the batch moved."""
    return batch._replace(
        images_BHWC=move(batch.images_BHWC),
        truth=move(batch.truth),
        parts={tap: {name: move(part) for name, part in parts.items()} for tap, parts in batch.parts.items()},
        samples_B=move(batch.samples_B),
        mixed=None if batch.mixed is None else Mixed(*(move(value) for value in batch.mixed)),
    )


def tensors_of(batch: Batch) -> Iterator[Tensor]:
    """Every tensor of the batch."""
    yield from (batch.images_BHWC, batch.truth, batch.samples_B, *(batch.mixed or ()))
    for parts in batch.parts.values():
        yield from parts.values()
