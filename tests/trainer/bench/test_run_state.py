"""How far a run is, read without torch, beside what the trainer itself writes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sweep_home import STUDENT, typed
from tiny_folder import draw_folder

from kdcache.cache.errors import BadWeights
from kdcache.cache.networks import run_card
from kdcache.trainer.bench import run_state
from kdcache.trainer.bench.run_state import RunState, state_of
from kdcache.trainer.config import TrainConfig, write_config
from kdcache.trainer.folder import checkpoint
from kdcache.trainer.folder.metrics_log import checked_line, read_metrics
from kdcache.trainer.folder.run_folder import held


def test_files_have_the_names_that_their_writers_give_them() -> None:
    assert (run_state.CARD, run_state.UNSEALED) == (run_card.CARD, run_card.UNSEALED)
    assert run_state.CHECKPOINTS == checkpoint.FOLDER


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "a"
    folder.mkdir(parents=True)
    return folder


def begun(run_dir: Path, *lines: dict[str, Any]) -> None:
    write_config(run_dir, TrainConfig(run="a", data="folder:x", steps=9), {})
    (run_dir / "metrics.jsonl").write_text("".join(map(checked_line, lines)))


def test_a_run_that_is_not_there_has_not_begun(run_dir: Path) -> None:
    assert state_of(run_dir) == RunState("not begun", 0, 0, None, "")


def test_a_run_without_an_end_is_stopped_where_its_figures_or_its_checkpoint_are(run_dir: Path) -> None:
    judged = [{"step": step, "split": "val", "miou": miou, "z": 1.0} for step, miou in ((2, 0.5), (4, 0.25))]
    begun(run_dir, {"step": 2, "loss": {"total": 1.0}}, *judged)
    assert state_of(run_dir) == RunState("stopped", 4, 9, 0.5, "miou")
    (run_dir / "checkpoints" / "step-00000006").mkdir(parents=True)
    (run_dir / "checkpoints" / ".tmp-step-00000008").mkdir()
    assert state_of(run_dir).step == 6
    with held(run_dir):
        assert state_of(run_dir).word == "running"
    assert state_of(run_dir).word == "stopped"


def test_a_score_that_is_no_number_is_no_best(run_dir: Path) -> None:
    begun(run_dir, {"step": 2, "split": "val", "miou": float("nan")})
    assert state_of(run_dir).best is None


def test_a_finished_run_is_what_its_card_and_its_judge_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KDCACHE_HOME", str(tmp_path))
    for split in ("train", "val"):
        draw_folder(tmp_path / "data", 2, split)
    words = ["--data", f"folder:{tmp_path / 'data'}", "--crop", "32,32", "--steps", "2", "--batch-size", "2"]
    words += ["--student", STUDENT, "--run", "a", "--log", "none", "--device", "cpu", "--eval-every", "1"]
    assert typed(*words).exit_code == 0
    run_dir = tmp_path / "runs" / "a"
    best = max(line["miou"] for line in read_metrics(run_dir) if line.get("split") == "val")
    assert state_of(run_dir) == RunState("finished", 2, 2, best, "miou")
    write_config(run_dir, TrainConfig(run="a", data="folder:x", steps=3), {})
    assert state_of(run_dir).word == "stopped", "it was exported, and its last step is still to come"


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("{", "Expecting"),
        ('{"format": 2, "metrics": {}}', "does not end in a seal"),
        ('{"format": 1, "metrics": [1]}', "its metrics are no table"),  # of before there were seals
    ],
)
def test_a_description_that_cannot_be_read_is_an_error_and_no_run_that_is_unfinished(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, written: str, why: str
) -> None:
    """A sweep would train it again, over the student that is there."""
    monkeypatch.setenv("KDCACHE_HOME", str(run_dir.parents[1]))
    begun(run_dir)
    (run_dir / "network.json").write_text(written)
    with pytest.raises(BadWeights) as caught:
        state_of(run_dir)
    what, rest = str(caught.value).split("\n", 1)
    assert what.startswith("the run's description cannot be read: ") and why in what
    assert rest == (
        f"  where: {run_dir}/network.json\n"
        "  fix:   put the file back as it was, or train the run again under another name (--run NAME)"
    )
    listed = json.loads(typed("ls", "--json").output)
    assert [(row["run"], row["state"], row["problem"]) for row in listed] == [("a", "unreadable", what)]


def test_asking_never_refuses_a_run_that_begins_meanwhile(run_dir: Path) -> None:
    """A list of runs takes each lock for a moment."""
    begun(run_dir)
    (run_dir / ".lock").touch()
    asking = (
        "import sys, time\nfrom pathlib import Path\nfrom kdcache.trainer.bench.run_state import is_held\n"
        "print('on', flush=True)\nend = time.monotonic() + 3\n"
        "while time.monotonic() < end: is_held(Path(sys.argv[1]))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", asking, str(run_dir)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "on\n"
        for _ in range(300):
            with held(run_dir):
                pass
        process.kill()


LISTS = """
import json, sys
from kdcache.cli.{program} import {main} as main
try:
    main({words})
except SystemExit as end:
    heavy = [m for m in ("torch", "timm", "accelerate", "nvidia.dali", "zarr") if m in sys.modules]
    print(json.dumps([end.code, heavy]))
"""


@pytest.mark.parametrize(
    ("program", "main", "words"),
    [
        ("kdtrain", "kdtrain", ["ls"]),
        ("kdcache", "main", ["ls"]),
        ("kdtrain", "kdtrain", ["rm", "a", "--yes"]),
        ("kdcache", "main", ["why", "a", "b"]),
        ("kdtrain", "kdtrain", ["sweep", "--loss", "kdd"]),
    ],
)
def test_looking_and_removing_load_nothing_heavy(
    run_dir: Path, program: str, main: str, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KDCACHE_HOME", str(run_dir.parents[1]))
    begun(run_dir)
    code = LISTS.format(program=program, main=main, words=words)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    status, heavy = json.loads(done.stdout.splitlines()[-1])
    assert heavy == [] and status == (0 if words[0] in ("ls", "rm") else 2), done.stdout
