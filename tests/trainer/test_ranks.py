"""What a machine can compute, and whether batch statistics span the ranks."""

import pytest
import torch

from kdcache.cache.errors import BadOption
from kdcache.trainer.config import MachineOptions
from kdcache.trainer.ranks import Ranks, check_device, uses_sync_bn


def ranks(device: str, world: int) -> Ranks:
    return Ranks(device=torch.device(device), rank=0, world=world, amp=None, reduce=None)


@pytest.mark.parametrize(
    ("device", "world", "asked", "spans"),
    [
        ("cuda", 2, None, True), ("cuda", 2, False, False), ("cuda", 1, True, False),
        ("cpu", 2, None, False), ("cpu", 2, False, False), ("cpu", 1, True, False),
    ],
)  # fmt: skip
def test_batch_statistics_span_several_gpus_unless_it_is_refused(
    device: str, world: int, asked: bool | None, spans: bool
) -> None:
    uses, note = uses_sync_bn(MachineOptions(sync_bn=asked), ranks(device, world))
    assert uses == spans
    assert bool(note) == (device == "cpu" and world > 1)


def test_batch_statistics_over_cpu_ranks_are_refused() -> None:
    with pytest.raises(BadOption, match="--sync-bn on CPU ranks"):
        uses_sync_bn(MachineOptions(sync_bn=True), ranks("cpu", 2))


def test_what_needs_a_gpu_is_refused_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for device in ("cpu", "auto", "cuda"):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        with pytest.raises(BadOption, match="--amp fp16 needs a CUDA device"):
            check_device(device, "fp16")
    with pytest.raises(BadOption, match="--device cuda, and torch sees no CUDA device"):
        check_device("cuda")
    check_device("auto", "bf16")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    check_device("cuda", "fp16")
    with pytest.raises(BadOption, match="--amp fp16"):
        check_device("cpu", "fp16")


def test_the_device_of_the_image_pipeline_is_that_of_the_rank() -> None:
    assert ranks("cpu", 1).device_id is None and ranks("cuda:3", 1).device_id == 3
    assert ranks("cuda", 1).device_id == 0
