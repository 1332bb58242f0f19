"""--encoder-lr, --freeze and --inherit in whole runs: killed and resumed they give the same bits; what was
frozen is what the run began with."""

from pathlib import Path
from typing import Any

import pytest
import torch
from cache_scene import Scene, built_scene
from dying_step import dies_in_step
from safetensors.torch import load_file

from kdcache.cache.errors import BadOption
from kdcache.trainer.folder.checkpoint import list_checkpoints
from kdcache.trainer.run import train_run

OPTIONS: dict[str, Any] = {
    "student": "deeplabv3:test_resnet", "weights": "none", "aux": False, "loss": "kd", "steps": 5,
    "batch_size": 3, "save_every": 2, "device": "cpu", "log": "none", "lr": 0.05,
}  # fmt: skip
FROZEN = ("model.encoder.model.conv1", "model.encoder.model.bn1", "model.encoder.model.layer1")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return built_scene(tmp_path_factory.mktemp("encoder") / "scene", "zarr")


def trained(scene: Scene, run: str, **options: object) -> Path:
    train_run({**OPTIONS, "run": run, **options}, home=scene.root)
    return scene.root / "runs" / run


def results(run_dir: Path) -> tuple[str, bytes]:
    digests = (list_checkpoints(run_dir)[-1] / "digests.json").read_text()
    return digests, (run_dir / "student.safetensors").read_bytes()


def weights(run_dir: Path) -> dict[str, torch.Tensor]:
    return load_file(run_dir / "student.safetensors")


def test_a_share_of_the_rate_and_a_frozen_stage_outlive_a_kill(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"encoder_lr": 0.25, "freeze": "stem+stage1", "optimizer": "adamw"}
    whole = trained(scene, "whole", **options)
    dies_in_step(3, lambda: trained(scene, "killed", **options), monkeypatch)
    train_run({"run": "killed"}, home=scene.root, resume=True)
    assert results(scene.root / "runs" / "killed") == results(whole)
    free = weights(trained(scene, "free", encoder_lr=0.25, optimizer="adamw", steps=2))
    held, moved = weights(whole), weights(trained(scene, "short", **options, steps=2))
    for name, value in held.items():
        if name.startswith(FROZEN):
            assert torch.equal(value, moved[name]), name  # three steps more changed nothing
    assert any(not torch.equal(free[name], value) for name, value in held.items() if name.startswith(FROZEN))


def test_what_a_run_inherits_it_inherits_once(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = trained(scene, "teacher", seed=3, loss="none")
    options = {"inherit": "neck+head", "teacher": "teacher", "seed": 1}
    whole = trained(scene, "heir", **options)
    dies_in_step(3, lambda: trained(scene, "late", **options), monkeypatch)
    teacher.rename(teacher.parent / "away")  # a run that goes on needs it no more
    train_run({"run": "late"}, home=scene.root, resume=True)
    teacher.parent.joinpath("away").rename(teacher)
    assert results(scene.root / "runs" / "late") == results(whole)
    # At a rate of nearly 0 the student is what it began with.
    heir = weights(trained(scene, "begin", **options, steps=1, lr=1e-30, weight_decay=0.0))
    alone = weights(trained(scene, "alone", seed=1, steps=1, lr=1e-30, weight_decay=0.0))
    taught = weights(teacher)
    for name, value in heir.items():
        if "running" not in name and "num_batches" not in name and name.startswith("model."):
            source = alone if name.startswith("model.encoder.") else taught
            assert torch.allclose(value, source[name], rtol=0, atol=1e-25), name


def test_a_share_cannot_change_on_resume(scene: Scene) -> None:
    trained(scene, "shared", encoder_lr=0.5, steps=1)
    with pytest.raises(BadOption, match="--encoder-lr 0.25 differs from 0.5"):
        train_run({"run": "shared", "encoder_lr": 0.25}, home=scene.root, resume=True)
