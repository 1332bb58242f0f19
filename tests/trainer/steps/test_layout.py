"""A run goes on in the memory format that it began in; a live teacher answers as the cache's did."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from kdcache.cache.networks.build import build_network
from kdcache.cache.networks.layout import CHANNELS_LAST, CONTIGUOUS
from kdcache.cache.networks.network import Network
from kdcache.trainer import ranks
from kdcache.trainer.config import TrainConfig
from kdcache.trainer.folder.environment import describe_environment, write_environment
from kdcache.trainer.steps import layout
from kdcache.trainer.students.branches import Branches
from kdcache.trainer.students.peers import Peers


def network() -> Network:
    return build_network("resnet8", task="classification", num_classes=4, role="student")


def begun(run_dir: Path, monkeypatch: pytest.MonkeyPatch, **environment: object) -> Path:
    """A run with a checkpoint and what its environment says."""
    run_dir.mkdir()
    write_environment(run_dir, environment, {})
    monkeypatch.setattr(layout, "list_checkpoints", lambda folder: [folder])
    return run_dir


def cache_of(memory_format: str) -> Any:
    return SimpleNamespace(manifest=SimpleNamespace(memory_format=memory_format))


def test_a_new_run_computes_in_the_networks_own_format(tmp_path: Path) -> None:
    student, teacher = network(), network()
    assert layout.lay_out(tmp_path / "new", None, student, teacher) == CHANNELS_LAST
    assert student.memory_format == teacher.memory_format == CHANNELS_LAST


def test_a_run_of_before_goes_on_contiguous_with_its_live_teacher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student, teacher = network(), network()
    run_dir = begun(tmp_path / "old", monkeypatch, torch_threads=1)
    assert layout.lay_out(run_dir, None, student, teacher) == CONTIGUOUS
    assert student.memory_format == teacher.memory_format == CONTIGUOUS
    assert all(parameter.is_contiguous() for parameter in student.parameters())


@pytest.mark.parametrize("kept", [CONTIGUOUS, CHANNELS_LAST])
def test_a_run_keeps_what_it_wrote_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: str) -> None:
    run_dir = begun(tmp_path / "r", monkeypatch, memory_format=kept)
    student = network()
    assert layout.lay_out(run_dir, None, student, None) == student.memory_format == kept


def test_a_live_teacher_answers_as_the_teacher_of_its_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = begun(tmp_path / "r", monkeypatch, torch_threads=1)
    for kept in (CONTIGUOUS, CHANNELS_LAST):
        teacher = network()
        layout.lay_out(run_dir, cache_of(kept), network(), teacher)
        assert teacher.memory_format == kept


def test_peers_and_branches_lie_as_their_run_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir = begun(tmp_path / "r", monkeypatch, torch_threads=1)
    for student in (Peers(network, count=2, deployed=0), Branches(network(), count=2, deployed=0)):
        assert layout.lay_out(run_dir, None, student, None) == CONTIGUOUS
        assert all(parameter.is_contiguous() for parameter in student.parameters())


def test_the_environment_says_format_and_threads(tmp_path: Path) -> None:
    described = describe_environment(torch.device("cpu"), world=1, memory_format=CHANNELS_LAST)
    write_environment(tmp_path, described, {})
    kept = json.loads((tmp_path / "environment.json").read_text())["environment"]
    assert kept["memory_format"] == CHANNELS_LAST and kept["torch_threads"] == torch.get_num_threads()


@pytest.mark.parametrize(("began", "wanted"), [(3, 3), (9, 8), (None, 8)])
def test_a_run_goes_on_with_its_threads_where_there_are_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, began: int | None, wanted: int
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("kdcache.cache.processes.threads.usable_cores", lambda: 8)
    if began is not None:
        write_environment(tmp_path, {"torch_threads": began}, {})
    config = TrainConfig(run="r", device="cpu", steps=1)
    assert ranks.training_threads(config, tmp_path).torch == wanted
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert ranks.training_threads(config, tmp_path).torch == 2
