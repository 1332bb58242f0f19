"""The story of every method for segmentation: two steps, killed after the first and resumed, end bit for bit
the same; the student that is kept has nothing of the losses.
"""

import math
from pathlib import Path

import pytest
import torch
from fake_run import Killed, results
from rank_steps import two_ranks
from segmentation_run import METHODS, AllTaps, method_parts

from kdcache.trainer.config import TrainConfig
from kdcache.trainer.folder.checkpoint import list_checkpoints
from kdcache.trainer.folder.metrics_log import read_metrics
from kdcache.trainer.loop import train

CONFIG = TrainConfig(run="r", steps=2, batch_size=4, lr=0.05, save_every=1, device="cpu", log="none")


@pytest.mark.slow
@pytest.mark.parametrize("loss", METHODS)
def test_a_method_trains_resumes_bit_identical_and_leaves_a_plain_student(loss: str, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(CONFIG, whole, method_parts(CONFIG, loss))
    with pytest.raises(Killed):
        train(CONFIG, cut, method_parts(CONFIG, loss, kill_at=1))
    train(CONFIG, cut, method_parts(CONFIG, loss), resume=True)
    assert results(cut) == results(whole)
    lines = [line["loss"] for line in read_metrics(whole)]
    assert [math.isfinite(value) for line in lines for value in line.values()].count(False) == 0
    assert lines[0] != lines[1]
    student = torch.load(whole / "student.pt", weights_only=True)
    assert set(student) == set(AllTaps().state_dict())
    first, last = (
        torch.load(path / "distiller.pt", weights_only=True) for path in list_checkpoints(whole)[-2:]
    )
    assert all(torch.isfinite(value).all() for value in last.values())
    assert _moved(first, last) == _learns(last, loss)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss", "alike"),
    [
        (
            "cirkd(contrast_pixels=64,contrast_regions=16,pixel_memory=40,region_memory=10)",
            ("memory.pixels_KPD", "memory.regions_KRD", "memory.next_pixel_K", "memory.next_region_K"),
        ),
        ("skds+skds-holistic(levels=1)", ("critic.last.weight", "critic.levels.0.u", "critic.levels.0.v")),
        ("afdcd(groups=4)", ("align.weight", "generator.0.weight")),
    ],
)
def test_two_ranks_end_with_the_same_student_losses_and_memories(
    loss: str, alike: tuple[str, ...], tmp_path: Path
) -> None:
    mine, theirs = two_ranks(loss, tmp_path, maps=True, kept="buffers")
    own = [name for name in mine if name.startswith("losses.") and name.endswith(alike)]
    assert len(own) == len(alike)
    batch_norm = ("running_mean", "running_var")  # each rank's own between two forwards
    for name in mine:
        if not name.endswith(batch_norm):
            assert torch.equal(mine[name], theirs[name]), name


def _moved(first: dict[str, torch.Tensor], last: dict[str, torch.Tensor]) -> set[str]:
    """Terms whose parts changed in the second step."""
    return {_term(n) for n, value in last.items() if _term(n) and not torch.equal(value, first[n])}


def _learns(last: dict[str, torch.Tensor], loss: str) -> set[str]:
    """Terms that have parts at all; FitNet's random regressors are never trained."""
    return {_term(name) for name in last} - {""} - ({"fitnet"} if "lenscloth" in loss else set())


def _term(name: str) -> str:
    """The term whose part it is: 'losses.terms.mgd.generator.0.weight' -> 'mgd'; '' for the student's."""
    return name.split(".")[2] if name.startswith("losses.terms.") else ""
