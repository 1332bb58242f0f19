"""Checkpoints: whole or not there, checked on load, unable to run code."""

import os
from pathlib import Path

import pytest
import torch

from kdcache.cache.errors import BadWeights, DiskFull
from kdcache.trainer.folder import checkpoint
from kdcache.trainer.folder.checkpoint import list_checkpoints, load_latest, save_checkpoint, sweep
from kdcache.trainer.folder.run_folder import began_only


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the code under test may catch it."""


def save(run_dir: Path, step: int) -> Path:
    states = {"distiller": {"w": torch.full((3,), float(step))}, "optimizer": {"state": {}, "lr": 0.1}}
    return save_checkpoint(run_dir, step=step, states=states, progress={"best": {"miou": 0.5}})


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    save(tmp_path, 3)
    latest = load_latest(tmp_path)
    assert latest is not None
    assert latest.step == 3 and latest.progress == {"best": {"miou": 0.5}}
    assert torch.equal(latest.states["distiller"]["w"], torch.full((3,), 3.0))
    assert latest.states["optimizer"] == {"state": {}, "lr": 0.1}


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 10):
        save(tmp_path, step)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000002", "step-00000010"]


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert load_latest(tmp_path) is None


@pytest.mark.parametrize("name", ["distiller.pt", "optimizer.pt", "progress.json"])
def test_one_flipped_byte_is_found_and_the_file_named(tmp_path: Path, name: str) -> None:
    save(tmp_path, 1)
    path = save(tmp_path, 2) / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(BadWeights, match=f"'{name}' has another digest") as error:
        load_latest(tmp_path)
    assert error.value.where == str(path)
    assert f"delete {path.parent}" in error.value.fix and "before it" in error.value.fix


@pytest.mark.parametrize("name", ["distiller.pt", "digests.json"])
def test_a_missing_file_is_found_and_named(tmp_path: Path, name: str) -> None:
    path = save(tmp_path, 1) / name
    path.unlink()
    with pytest.raises(BadWeights, match=name):
        load_latest(tmp_path)


def test_deleting_the_damaged_one_goes_back_to_the_one_before(tmp_path: Path) -> None:
    save(tmp_path, 1)
    damaged = save(tmp_path, 2)
    for path in damaged.iterdir():
        path.unlink()
    damaged.rmdir()
    latest = load_latest(tmp_path)
    assert latest is not None and latest.step == 1


def test_a_save_killed_anywhere_leaves_the_checkpoint_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 1)
    calls = 0
    real = checkpoint.sync

    def killed_at(count: int) -> None:
        def sync(path: Path) -> None:
            nonlocal calls
            calls += 1
            if calls == count:
                raise Killed
            real(path)

        monkeypatch.setattr(checkpoint, "sync", sync)

    for count in range(1, 6):  # four files and their folder; the rename comes after
        calls = 0
        killed_at(count)
        with pytest.raises(Killed):
            save(tmp_path, 2)
        latest = load_latest(tmp_path)
        assert latest is not None and latest.step == 1
    monkeypatch.setattr(checkpoint, "sync", real)
    sweep(tmp_path)
    assert os.listdir(tmp_path / "checkpoints") == ["step-00000001"]
    save(tmp_path, 2)


def test_a_full_disk_keeps_the_last_checkpoint_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 1)

    def full(state: object, path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(DiskFull, match="the disk is full") as error:
        save(tmp_path, 2)
    command = f"kdtrain --run {tmp_path.name} --resume"
    assert error.value.fix == f"free some space, then go on from step 1 with: {command}"
    assert os.listdir(tmp_path / "checkpoints") == ["step-00000001"]


@pytest.mark.parametrize("logged", [True, False])
def test_a_full_disk_before_the_first_checkpoint_says_what_will_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: bool
) -> None:
    (tmp_path / "config.toml").touch()
    (tmp_path / "metrics.jsonl").write_text("{}\n" if logged else "")

    def full(state: object, path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(DiskFull) as error:
        save(tmp_path, 2)
    resumed = f"begin again with: kdtrain --run {tmp_path.name} --resume"
    then = resumed if logged else "run the same command again"
    assert error.value.fix == f"free some space, then {then}"
    assert began_only(tmp_path) is not logged, "the same command is taken where it is advised"


def test_a_checkpoint_cannot_run_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "ran"),)

    states = {"distiller": {"w": Evil()}}
    save_checkpoint(tmp_path, step=1, states=states, progress={})
    with pytest.raises(BadWeights, match="'distiller.pt' holds more than tensors"):
        load_latest(tmp_path)
    assert not (tmp_path / "ran").exists()
