"""Encoded targets on their way from a device to main memory, while the next batch is computed.

A lane of its own beside the one that computes: it waits for the batch's answer, encodes it and copies the
parts into pinned memory. There are two sets of pinned buffers: one is being filled while what is in the other
is taken out. On a CPU nothing departs.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

BUFFERS = 2


class Mark(Protocol):
    """A place in a lane."""

    def synchronize(self) -> None:
        """Wait until the lane has come here."""
        ...


class Lane(Protocol):
    """Where copies are queued, in order, beside the computing."""

    def after(self, ready: Any) -> "Any":
        """A context in which work is queued behind `ready`, a mark of the lane that computes."""
        ...

    def buffer(self, num_bytes: int) -> Tensor:
        """(num_bytes,) uint8 of main memory that a device can write into by itself."""
        ...

    def mark(self) -> Mark: ...


class CudaLane:
    """A stream of a GPU."""

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    @contextmanager
    def after(self, ready: Any) -> Iterator[None]:
        self.stream.wait_event(ready)
        with torch.cuda.stream(self.stream):
            yield

    def buffer(self, num_bytes: int) -> Tensor:
        return torch.empty(num_bytes, dtype=torch.uint8, pin_memory=True)

    def mark(self) -> torch.cuda.Event:
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(self.stream)
        return event


class Leaving(NamedTuple):
    """The parts of one batch under way."""

    parts: Mapping[str, Tensor]  # in pinned memory, complete behind the mark
    mark: Mark
    arrived: Callable[[], None]

    def arrive(self) -> dict[str, np.ndarray]:
        """The parts in memory of their own; the buffers are free again."""
        self.mark.synchronize()
        arrays = {name: part.numpy().copy() for name, part in self.parts.items()}
        self.arrived()
        return arrays


class Departure:
    """Sends parts off. At most `BUFFERS` batches are under way at once."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self._buffers: list[dict[str, Tensor]] = [{} for _ in range(BUFFERS)]
        self._free = list(range(BUFFERS))

    def leave(self, parts: Mapping[str, Tensor]) -> Leaving:
        """Begin to copy; call it within the lane. `arrive` of the batch before the last one comes first."""
        assert self._free, f"more than {BUFFERS} batches under way: one would be overwritten"
        place = self._free.pop(0)
        kept = {name: self._room(place, name, part) for name, part in parts.items()}
        for name, part in parts.items():
            kept[name].copy_(part, non_blocking=True)
        return Leaving(kept, self.lane.mark(), lambda: self._free.append(place))

    def _room(self, place: int, name: str, part: Tensor) -> Tensor:
        """Of a part's shape and type, in a buffer that is kept and only grows."""
        num_bytes, buffers = part.numel() * part.element_size(), self._buffers[place]
        if name not in buffers or len(buffers[name]) < num_bytes:
            buffers[name] = self.lane.buffer(num_bytes)
        return buffers[name][:num_bytes].view(part.dtype).view(part.shape)
