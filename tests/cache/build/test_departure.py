"""Encoded targets leave a device through two sets of buffers, none of which is written before it was read."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import Tensor

from kdcache.cache.build.stages.departure import BUFFERS, CudaLane, Departure
from kdcache.cache.codecs.table import make_codec


class Late:
    """A lane whose copies happen when somebody waits for them, and not before."""

    def __init__(self) -> None:
        self.queued: list[tuple[Tensor, Tensor]] = []
        self.buffers: list[Tensor] = []

    @contextmanager
    def after(self, ready: object) -> Iterator[None]:
        del ready
        yield

    def buffer(self, num_bytes: int) -> Tensor:
        self.buffers.append(torch.full((num_bytes,), 255, dtype=torch.uint8))
        return self.buffers[-1]

    def mark(self) -> "Late":
        return self

    def synchronize(self) -> None:
        """Everything that was queued is copied now, in order."""
        for to, value in self.queued:
            to[...] = value
        self.queued.clear()


@pytest.fixture
def lane(monkeypatch: pytest.MonkeyPatch) -> Late:
    late, copy = Late(), Tensor.copy_

    def queued(to: Tensor, value: Tensor, non_blocking: bool = False) -> Tensor:
        if not non_blocking:
            return copy(to, value)
        late.queued.append((to, value))
        return to

    monkeypatch.setattr(Tensor, "copy_", queued)
    return late


def test_every_batch_arrives_as_it_left_whatever_comes_behind_it(lane: Late) -> None:
    departure = Departure(lane)
    batches = [{"values": torch.full((n + 1, 3), float(n)), "scale": torch.tensor([n])} for n in range(6)]
    under_way = [departure.leave(batches[0])]
    arrived = []
    for batch in batches[1:]:
        under_way.append(departure.leave(batch))
        arrived.append(under_way.pop(0).arrive())
    arrived.append(under_way.pop(0).arrive())
    for batch, arrays in zip(batches, arrived, strict=True):
        for name, value in batch.items():
            np.testing.assert_array_equal(arrays[name], value.numpy())
            assert arrays[name].dtype == value.numpy().dtype


def test_a_third_batch_under_way_would_write_over_the_first(lane: Late) -> None:
    departure = Departure(lane)
    for _ in range(BUFFERS):
        departure.leave({"values": torch.ones(2)})
    with pytest.raises(AssertionError, match="more than 2 batches under way"):
        departure.leave({"values": torch.ones(2)})


def test_buffers_are_kept_and_what_arrived_is_memory_of_its_own(lane: Late) -> None:
    departure = Departure(lane)
    first = departure.leave({"values": torch.zeros(4)}).arrive()["values"]
    for _ in range(5):
        departure.leave({"values": torch.ones(4)}).arrive()
    assert (first == 0).all() and len(lane.buffers) <= BUFFERS


@pytest.mark.parametrize("name", ["fp16", "fp32", "int8"])
def test_parts_on_a_device_are_what_a_codec_encodes(name: str) -> None:
    codec, value = make_codec(name), torch.randn(3, 5, 4, 2)
    on_device = codec.on_device(value)  # type: ignore[attr-defined]
    for part, array in codec.encode(value).items():
        np.testing.assert_array_equal(on_device[part].numpy(), array)


@pytest.mark.gpu
def test_parts_leave_a_gpu_while_it_computes() -> None:
    device = torch.device("cuda")
    lane, codec = CudaLane(device), make_codec("int8")
    departure = Departure(lane)
    values = [torch.randn(4, 8, 6, 6, device=device) for _ in range(5)]
    for value in values:
        ready = torch.cuda.current_stream().record_event()
        with lane.after(ready):
            leaving = departure.leave(codec.on_device(value))  # type: ignore[attr-defined]
        arrived = leaving.arrive()
        for part, array in codec.encode(value).items():
            np.testing.assert_array_equal(arrived[part], array)
