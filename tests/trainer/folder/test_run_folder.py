"""Which folders a new run may take, and options that contradict each other before one is made."""

from pathlib import Path

import pytest

from kdcache.cache.errors import BadOption
from kdcache.trainer.folder.run_folder import check_free, held
from kdcache.trainer.folder.start import started


def test_a_run_that_failed_before_its_first_step_does_not_block_its_name(tmp_path: Path) -> None:
    run = tmp_path / "r"
    run.mkdir()
    for name in ("config.toml", "environment.json", "metrics.jsonl", ".lock"):
        (run / name).write_text("" if name == "metrics.jsonl" else "x")
    check_free(run)


@pytest.mark.parametrize("left", ["metrics.jsonl", "network.json", "checkpoints", "my_notes.txt"])
def test_a_run_that_got_anywhere_is_never_overwritten(tmp_path: Path, left: str) -> None:
    (tmp_path / "config.toml").write_text("x")
    (tmp_path / left).write_text("{}\n")
    with pytest.raises(BadOption, match="exists\n.*\n.*--resume"):
        check_free(tmp_path)


def test_two_lengths_for_one_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadOption, match="--steps and --epochs together.*\n.*--steps 3 --epochs 1.0\n"):
        started({"steps": 3, "epochs": 1.0}, tmp_path)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_run_that_ends_before_its_first_step_leaves_no_folder(
    tmp_path: Path, error: type[BaseException]
) -> None:
    with pytest.raises(error), held(tmp_path / "r"):
        for name in ("config.toml", "environment.json", "metrics.jsonl"):
            (tmp_path / "r" / name).write_text("" if name == "metrics.jsonl" else "x")
        (tmp_path / "r" / "kdcache").mkdir()
        raise error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("left", ["metrics.jsonl", "network.json", "checkpoints", "my_notes.txt"])
def test_what_got_anywhere_stays_when_it_ends_in_an_error(tmp_path: Path, left: str) -> None:
    (tmp_path / "config.toml").write_text("x")
    (tmp_path / left).write_text("{}\n")
    with pytest.raises(RuntimeError), held(tmp_path):
        raise RuntimeError
    assert {path.name for path in tmp_path.iterdir()} == {"config.toml", left, ".lock"}
