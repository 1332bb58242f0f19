"""A run on a cache and the builders beside it: it keeps the generation that it began on, killed or not."""

import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cache_scene import Scene, add, built_scene, damage, images, living_rows, relabel, remove, repaint
from click.testing import CliRunner
from dying_step import dies_in_step
from resealed import reseal_text

from kdcache.cache.build.build import build_cache
from kdcache.cache.build.options import parse_tap
from kdcache.cache.errors import BadCache, LostGeneration
from kdcache.cache.reader.cache import open_cache
from kdcache.cli.kdtrain import kdtrain
from kdcache.trainer.config import read_config
from kdcache.trainer.folder.checkpoint import list_checkpoints
from kdcache.trainer.run import train_run
from kdcache.trainer.steps.step import Stepper, StepResult

OPTIONS: dict[str, Any] = {
    "student": "tiny_teacher:make", "loss": "kd", "steps": 6, "batch_size": 3, "save_every": 2,
    "device": "cpu", "log": "none", "lr": 0.05,
}  # fmt: skip


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return built_scene(tmp_path_factory.mktemp("resumed") / "scene", "zarr")


@pytest.fixture
def scene(first: Scene, tmp_path: Path) -> Scene:
    return first.copy(tmp_path / "home")


def trained(scene: Scene, run: str, **options: object) -> Path:
    train_run({**OPTIONS, "run": run, **options}, home=scene.root)
    return scene.root / "runs" / run


def killed_in_step_3(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    dies_in_step(3, lambda: trained(scene, "killed"), monkeypatch)


def renewed(scene: Scene) -> None:
    """Everything that may happen to a cache: growth, another image, another label, a deletion, a tap."""
    add(scene, "aaa", 1)
    repaint(images(scene)[2], 2)
    relabel(images(scene)[4])
    remove(images(scene)[6])
    build_cache(scene.options(update=True))
    build_cache(scene.options(taps=(parse_tap("stage1"),)))


def results(run_dir: Path) -> tuple[str, bytes]:
    digests = (list_checkpoints(run_dir)[-1] / "digests.json").read_text()
    return digests, (run_dir / "student.safetensors").read_bytes()


def generation_of(run_dir: Path) -> int:
    number: int = json.loads((run_dir / "environment.json").read_text())["stream"]["generation"]
    return number


def test_a_run_that_is_resumed_after_the_cache_was_renewed_ends_bit_identical(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(scene, "whole")
    killed_in_step_3(scene, monkeypatch)
    before = living_rows(scene.cache)
    renewed(scene)
    assert open_cache(scene.cache).generation.number == 3 and living_rows(scene.cache) != before
    train_run({"run": "killed"}, home=scene.root, resume=True)
    killed = scene.root / "runs" / "killed"
    assert results(killed) == results(whole) and generation_of(killed) == 1
    later = trained(scene, "later")
    assert generation_of(later) == 3 and results(later) != results(whole), "a new run reads the new rows"


def test_a_run_goes_on_over_a_renewal_in_the_middle_of_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was not opened yet is read from the old rows too: nothing live is ever replaced."""
    whole = trained(scene, "whole")
    real = Stepper.step

    def beside(self: Stepper, step: int, *rest: Any) -> StepResult:
        if step == 1:
            renewed(scene)
        return real(self, step, *rest)

    monkeypatch.setattr(Stepper, "step", beside)
    assert results(trained(scene, "disturbed")) == results(whole)


def test_a_run_whose_generation_is_gone_does_not_go_on_with_another(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_in_step_3(scene, monkeypatch)
    renewed(scene)
    (scene.cache / "generations" / "00001.json").unlink()
    with pytest.raises(BadCache, match="generation 1 of the cache is missing"):
        train_run({"run": "killed"}, home=scene.root, resume=True)


@pytest.mark.parametrize("harm", [Path.unlink, damage])
def test_a_run_whose_generation_is_lost_is_started_anew_by_the_line_that_is_printed(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, harm: Callable[[Path], None]
) -> None:
    more = {"crop": (32, 32), "nesterov": False, "milestones": (0.5, 0.75), "lr_schedule": "multistep"}
    dies_in_step(3, lambda: trained(scene, "killed", **more), monkeypatch)
    renewed(scene)
    harm(scene.cache / "generations" / "00001.json")
    (scene.root / "runs" / "killed-2").mkdir()
    with pytest.raises(LostGeneration) as caught:
        train_run({"run": "killed"}, home=scene.root, resume=True)
    assert "--repair" not in caught.value.fix, "which would do nothing"
    program, *words = shlex.split(caught.value.fix.partition("counts now: ")[2])
    monkeypatch.setenv("KDCACHE_HOME", str(scene.root))
    result = CliRunner().invoke(kdtrain, words)
    assert program == "kdtrain" and result.exit_code == 0, result.output
    old, new = (read_config(scene.root / "runs" / name) for name in ("killed", "killed-3"))
    assert new == replace(old, run="killed-3") and generation_of(scene.root / "runs" / "killed-3") == 3


def test_a_run_that_notes_another_generation_is_refused_and_reads_no_other_rows(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_in_step_3(scene, monkeypatch)
    renewed(scene)
    path = scene.root / "runs" / "killed" / "environment.json"
    reseal_text(path, lambda noted: noted["stream"].update(generation=3))
    with pytest.raises(BadCache, match="began on other targets or views"):
        train_run({"run": "killed"}, home=scene.root, resume=True)
