"""--seed decides the first weights of a student, and nothing else does."""

from pathlib import Path
from typing import Any

import pytest
import torch
from class_data import draw_npz
from torch import nn

from kdcache.trainer import run
from kdcache.trainer.run import train_run


def first_weights(home: Path, monkeypatch: pytest.MonkeyPatch, name: str, seed: int) -> torch.Tensor:
    """Of the student that `assemble` makes; no step is made."""
    made: list[nn.Module] = []

    def assembled_only(config: Any, run_dir: Path, build: Any, **rest: object) -> dict[str, float]:
        from kdcache.trainer.ranks import start_accelerator

        made.append(build(start_accelerator(config, run_dir, start=0)).student)
        return {}

    monkeypatch.setattr(run, "train", assembled_only)
    data = f"npz:{draw_npz(home / 'drawn', (16, 16, 3))}"
    train_run(
        {"data": data, "run": name, "student": "resnet8x4", "seed": seed, "device": "cpu", "log": "none"},
        home=home,
    )
    return torch.cat([weight.detach().flatten() for weight in made[0].parameters()])


def test_two_runs_of_one_seed_begin_alike_and_another_seed_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(11)
    first, again, other = (
        first_weights(tmp_path, monkeypatch, name, seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
