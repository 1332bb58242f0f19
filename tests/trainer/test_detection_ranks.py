"""A detector trained from a cache on two processes: what one process comes to with the same global batch; and
killed and resumed, to the bit what they come to undisturbed."""

import math
from pathlib import Path
from typing import Any

import pytest
import rank_detection
import torch
from painted_objects import painted_set, write_coco
from rank_detection import BEGUN, DIES_IN, KILLED, NETWORK, OPTIONS, RESUMED, WHOLE, Watched
from rank_steps import launched, on_two_ranks
from safetensors.torch import load_file

from kdcache.cache.build.build import build_cache
from kdcache.cache.build.options import BuildOptions
from kdcache.trainer.folder.checkpoint import list_checkpoints
from kdcache.trainer.folder.metrics_log import read_metrics
from kdcache.trainer.run import evaluate_run, train_run

pytestmark = pytest.mark.slow  # three launches of two ranks for all of them: over 30 s
TOLERANCE = 1e-4  # of the loss; sums in another order, over four steps


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Painted data, a teacher's cache, and the run that every student begins with."""
    home = tmp_path_factory.mktemp("home")
    write_coco(home / "data", painted_set(8), "train")
    write_coco(home / "data", painted_set(3), "val")  # seen in training: there is an AP to compare
    spec = f"coco:{home / 'data'}"
    common = {
        "loss": "none", "data": spec, "crop": (64, 96), "student": NETWORK, "weights": "none",
        "batch_size": 4, "device": "cpu", "log": "none", "optimizer": "adamw", "lr": 4e-3,
    }  # fmt: skip
    train_run({**common, "run": "t", "steps": 6, "seed": 1}, home=home)
    train_run({**common, "run": BEGUN, "steps": 60}, home=home)
    build_cache(BuildOptions(teacher="t", runs_dir=home / "runs", caches_dir=home / "caches", device="cpu"))
    return home


@pytest.fixture(scope="module")
def alone(home: Path) -> dict[str, Any]:
    """The same run in this process, and its boxes as `kdtrain eval --json` writes them."""
    watched = Watched()
    with pytest.MonkeyPatch.context() as patch:
        for module, name in ((rank_detection.supervised, "match"), (rank_detection.judging, "metrics_of")):
            patch.setattr(module, name, getattr(module, name))  # undone at the end
        watched.watch(1)
        train_run({**OPTIONS, "run": "alone"}, home=home)
    return watched.left()


@pytest.fixture(scope="module")
def ranks(home: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    out = tmp_path_factory.mktemp("whole")
    return on_two_ranks("rank_detection", out, WHOLE, str(home), str(out))


def losses(home: Path, run: str) -> list[dict[str, float]]:
    return [line["unweighted"] for line in read_metrics(home / "runs" / run) if "loss" in line]


def test_two_ranks_divide_by_as_many_positives_as_one(
    alone: dict[str, Any], ranks: list[dict[str, Any]]
) -> None:
    assert len(alone["positives"]) == OPTIONS["steps"] and min(alone["positives"]) > 8
    assert [rank["positives"] for rank in ranks] == [alone["positives"]] * 2


def test_two_ranks_come_to_the_losses_and_the_student_of_one(
    home: Path, alone: dict[str, Any], ranks: list[dict[str, Any]]
) -> None:
    one, two = losses(home, "alone"), losses(home, WHOLE)
    assert len(one) == len(two) == OPTIONS["steps"] and set(one[0]) >= {"bckd.cls", "bckd.loc", "task.box"}
    assert one[0] != one[-1], "it learns"
    for mine, theirs in zip(one, two, strict=True):
        assert theirs == pytest.approx(mine, rel=TOLERANCE)
    begun, students = (
        [load_file(home / "runs" / run / "student.safetensors") for run in runs]
        for runs in ((BEGUN,), ("alone", WHOLE))
    )
    moved = {name: (students[0][name] - value).float() for name, value in begun[0].items()}
    assert sum(float(value.norm()) > 0 for value in moved.values()) > 20
    for name, value in moved.items():
        apart = (students[0][name] - students[1][name]).float().norm()
        assert float(apart) <= 1e-3 * float(value.norm()) + 1e-6, name


def test_what_two_ranks_judge_is_what_one_judges_of_the_same_student(
    home: Path, ranks: list[dict[str, Any]]
) -> None:
    """AP, every figure, and every box that `kdtrain eval --json` writes: equal to the bit."""
    judged = evaluate_run(WHOLE, home=home, data=None, split="val", with_records=True, device="cpu")
    (line,) = (line for line in read_metrics(home / "runs" / WHOLE) if "ap" in line)
    figures = judged.metrics.named()
    said = {name: math.nan if line[name] is None else line[name] for name in figures}
    assert said == pytest.approx(figures, abs=0, nan_ok=True)
    for rank in ranks:
        assert rank["figures"] == pytest.approx(figures, abs=0, nan_ok=True)
        assert rank["records"] == list(judged.records) and len(rank["records"]) > 20
        assert rank["figures"]["ap"] > 0
        assert sum(len(scores) for _, _, scores, _ in rank["boxes"]) == len(rank["records"])
    assert ranks[0]["boxes"] == ranks[1]["boxes"]


def test_two_ranks_killed_in_a_step_and_resumed_end_with_the_bits_of_two_that_were_not(
    home: Path, ranks: list[dict[str, Any]], tmp_path: Path
) -> None:
    assert launched("rank_detection", KILLED, str(home), str(tmp_path)).returncode != 0
    killed, whole = (home / "runs" / run for run in (KILLED, WHOLE))
    assert not (killed / "student.safetensors").exists() and list_checkpoints(killed)
    resumed = on_two_ranks("rank_detection", tmp_path, RESUMED, str(home), str(tmp_path))
    assert [len(rank["positives"]) for rank in resumed] in ([[2, 2], [3, 3]])
    assert resumed[0]["positives"] == ranks[0]["positives"][-len(resumed[0]["positives"]) :]
    for name in ("student.safetensors",):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    last = [(list_checkpoints(one)[-1] / "digests.json").read_text() for one in (killed, whole)]
    assert last[0] == last[1] and DIES_IN < OPTIONS["steps"]
    assert losses(home, KILLED) == losses(home, WHOLE)
    assert torch.tensor([rank["figures"]["ap"] for rank in resumed]).unique().numel() == 1
