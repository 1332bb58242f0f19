"""Batches that are copied to a device ahead of the step: the same ones, in order, one under way."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from kdcache.cache.tasks.contract import Mixed
from kdcache.trainer.stream.ahead import CudaCopier, batches_on, moved_batch, one_ahead, tensors_of
from kdcache.trainer.stream.batch import Batch


def batch(number: int, device: str = "cpu") -> Batch:
    def made(shape: tuple[int, ...]) -> Tensor:
        return torch.full(shape, number, device=device)

    return Batch(
        images_BHWC=made((2, 4, 4, 3)).to(torch.uint8),
        truth=made((2,)),
        parts={"logits": {"values": made((2, 5)).float()}, "stage4": {"scale": made((2, 2, 3)).float()}},
        micro_step=number,
        epoch=0,
        samples_B=made((2,)),
        mixed=Mixed(made((2,)), made((2,)).float()),
    )


class Copying:
    """A device that says in which order it was used."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def start(self, one: Batch) -> tuple[Batch, int]:
        self.said.append(f"start {one.micro_step}")
        return one, one.micro_step

    def arrive(self, one: Batch, mark: int) -> None:
        assert one.micro_step == mark, "the mark of this very batch"
        self.said.append(f"arrive {one.micro_step}")


def test_one_batch_is_under_way_while_a_step_computes() -> None:
    copier = Copying()
    for one in one_ahead(iter([batch(0), batch(1), batch(2)]), copier):
        copier.said.append(f"step {one.micro_step}")
    assert copier.said == [
        "start 0", "start 1", "arrive 0", "step 0", "start 2", "arrive 1", "step 1", "arrive 2", "step 2",
    ]  # fmt: skip


def test_an_error_of_the_stream_comes_after_the_batches_before_it() -> None:
    def torn() -> Iterator[Batch]:
        yield batch(0)
        yield batch(1)
        raise OSError("torn")

    seen = []
    with pytest.raises(OSError, match="torn"):
        for one in one_ahead(torn(), Copying()):
            seen.append(one.micro_step)
    assert seen == [0, 1]


def test_on_a_cpu_it_is_the_stream_itself() -> None:
    stream = iter([batch(0)])
    assert batches_on(torch.device("cpu"), stream) is stream


def test_every_tensor_of_a_batch_moves_and_everything_else_stays() -> None:
    before = batch(3)
    moved = moved_batch(before, lambda value: value + 1)
    assert [int(value.flatten()[0]) for value in tensors_of(moved)] == [4] * 7
    assert (moved.micro_step, moved.epoch, moved.rows_per_sample) == (3, 0, 1)
    assert moved_batch(before._replace(mixed=None), torch.clone).mixed is None


@pytest.mark.gpu
def test_batches_arrive_on_a_gpu_as_they_were() -> None:
    device = torch.device("cuda")
    for number, one in enumerate(one_ahead(iter([batch(n) for n in range(5)]), CudaCopier(device))):
        for value in tensors_of(one):
            assert value.is_cuda and bool((value == number).all())
