"""Two ranks of a run, one of which is killed, stands still, fails or is stopped: the other one says it."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from python_path import before
from rank_turn import alone

from kdcache.trainer.folder.checkpoint import list_checkpoints, load_latest

pytestmark = pytest.mark.slow  # two processes that load torch, for each of them
SUPPORT = Path(__file__).parents[1] / "support"
WITHIN_S = 30


class Ended(NamedTuple):
    status: int
    said: str


def two_ranks(fate: str, out: Path) -> tuple[list[Ended], float]:
    """How both ranks ended, and the seconds between the first and the last; a rank that stands still is
    killed then."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "rank_losing", fate, str(out)]
    with alone():
        ranks = [
            subprocess.Popen(
                command,
                env={
                    **os.environ, **launch, "RANK": str(rank), "LOCAL_RANK": str(rank),
                    "TORCH_CPP_LOG_LEVEL": "ERROR",
                    "PYTHONPATH": before(SUPPORT), "PYTHONWARNINGS": "ignore",
                },
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )
            for rank in range(2)
        ]  # fmt: skip
        try:
            ranks[0].wait(120)
            first_s = time.monotonic()
            if "SIGSTOP" in fate:
                ranks[1].kill()
            ranks[1].wait(WITHIN_S)
        finally:
            for rank in ranks:
                rank.kill()
        said = [rank.communicate()[0] for rank in ranks]
    return [
        Ended(r.returncode, text) for r, text in zip(ranks, said, strict=True)
    ], time.monotonic() - first_s


def checkpoint_of(out: Path) -> str:
    assert load_latest(out / "r") is not None, "it is whole"
    return list_checkpoints(out / "r")[-1].name


@pytest.mark.parametrize(
    ("fate", "why", "kept"),
    [
        ("1:step:SIGKILL", "is gone: its process was killed or broke down", "step-00000004"),
        ("1:judge:SIGKILL", "is gone: its process was killed or broke down", "step-00000003"),
        ("1:step:SIGSTOP", "gave no sign of life for", "step-00000004"),
        ("1:judge:error", "ended with an error of its own", "step-00000003"),
    ],
)
def test_the_rank_that_is_left_ends_and_names_the_other_one(
    tmp_path: Path, fate: str, why: str, kept: str
) -> None:
    (first, second), _ = two_ranks(fate, tmp_path)
    assert first.status in (1, 2), first.said  # sys.exit with a text gives 1
    assert f"error: rank 1 of 2 {why}" in first.said and first.said.count("rank 1 of 2") == 1
    assert "Traceback" not in first.said
    assert checkpoint_of(tmp_path) == kept
    assert f"the last checkpoint is that of step {int(kept[-8:])}, go on with: kdtrain" in first.said
    assert second.status == (-signal.SIGKILL if "error" not in fate else 1)


@pytest.mark.parametrize(
    ("fate", "kept"), [("1:step:hang", "step-00000004"), ("0:step:hang", "step-00000004"),
                       ("1:judge:hang", "step-00000003")],
)  # fmt: skip
def test_a_rank_that_lives_and_stands_still_is_named_and_all_end(
    tmp_path: Path, fate: str, kept: str
) -> None:
    """Its heartbeat goes on: the others wait for it in a collective, and it knows that as well."""
    ended, apart_s = two_ranks(fate, tmp_path)
    said = "".join(one.said for one in ended)
    # sys.exit with a text, here of the rank whose main thread heard of it, gives 1.
    assert {one.status for one in ended} <= {1, 2} and apart_s < WITHIN_S
    assert said.count(f"error: rank {fate[0]} of 2 stands still: the others have waited") == 1
    assert "Traceback" not in said and "go on with: kdtrain" in said
    assert checkpoint_of(tmp_path) == kept


@pytest.mark.parametrize("who", ["all", "1"])
def test_a_stop_ends_all_ranks_after_the_same_step_whoever_was_asked(tmp_path: Path, who: str) -> None:
    ended, _ = two_ranks(f"{who}:step:SIGTERM", tmp_path)
    assert [one.status for one in ended] == [143, 143], ended
    steps = {line for one in ended for line in one.said.splitlines() if line.startswith("stopped; ")}
    assert len(steps) == 1, "both stopped after the same step"
    assert checkpoint_of(tmp_path) in ("step-00000006", "step-00000007")
