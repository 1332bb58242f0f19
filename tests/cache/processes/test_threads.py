"""Threads are planned within the cores that a process may use."""

import os
from pathlib import Path

import pytest
import torch

from kdcache.cache.processes import threads
from kdcache.cache.processes.threads import calm, computing, plan_threads, usable_cores


@pytest.fixture(autouse=True)
def nothing_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("cores", range(1, 9))
@pytest.mark.parametrize("images", [None, 1])
@pytest.mark.parametrize("on_gpu", [False, True])
def test_what_is_planned_fits_the_cores(cores: int, images: int | None, on_gpu: bool) -> None:
    plan = plan_threads(images, on_gpu=on_gpu, cores=cores)
    assert plan.torch >= 1 and plan.images >= 1
    if on_gpu:
        assert plan.torch + plan.images <= max(2, cores), "each has one thread, the rest are cores"
    else:
        assert plan.torch + plan.images == cores + 1, "the first decoder comes on top"
    assert plan.shared == (cores == 1 or not on_gpu)


def test_on_a_cpu_what_computes_has_every_core_and_shares_with_one_decoder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert plan_threads(1, cores=8)[1:3] == (8, 1) and plan_threads(3, cores=8)[1:3] == (6, 3)
    assert plan_threads(None, cores=1)[1:3] == (1, 1) and plan_threads(9, cores=2)[1:3] == (1, 9)
    assert plan_threads(None, on_gpu=True, cores=8)[1:3] == (1, 7)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert plan_threads(1, cores=8)[1:3] == (2, 1)
    assert plan_threads(1, cores=8).words == "2 compute (OMP_NUM_THREADS=2), 1 decodes images, of 8 cores"
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert plan_threads(1, cores=8).torch == 8


def test_processes_of_one_machine_share_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert plan_threads(1, cores=8)[:3] == (2, 2, 1)


@pytest.mark.parametrize(
    ("quota", "wanted"), [("max 100000", 8), ("250000 100000", 2), ("50000 100000", 1), ("", 8), ("x 0", 8)]
)
def test_a_control_group_bounds_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, wanted: int
) -> None:
    (tmp_path / "root" / "a" / "b").mkdir(parents=True)
    (tmp_path / "root" / "a" / "cpu.max").write_text(f"{quota}\n")
    (tmp_path / "cgroup").write_text("1:name=other:/x\n0::/a/b\n")
    monkeypatch.setattr(threads, "_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(threads, "_GROUP_ROOT", tmp_path / "root")
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(8)))
    assert usable_cores() == wanted
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {3})
    assert usable_cores() == 1


def test_idle_threads_sleep_after_a_moment_unless_somebody_said_otherwise() -> None:
    given: dict[str, str] = {}
    calm(given)
    assert given == {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "10000"}
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        decided = {name: "ACTIVE"}
        calm(decided)
        assert decided == {name: "ACTIVE"}


def test_torch_has_its_threads_back_afterwards() -> None:
    before = torch.get_num_threads()
    with pytest.raises(KeyError), computing(2):
        assert torch.get_num_threads() == 2
        raise KeyError
    assert torch.get_num_threads() == before and os.getpid()
