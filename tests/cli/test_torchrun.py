"""The launcher itself: two ranks of kdtrain under torchrun, one of them killed, or all interrupted."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from python_path import before
from rank_turn import alone
from tiny_folder import draw_folder

from kdcache.trainer.folder.checkpoint import list_checkpoints, load_latest
from kdcache.trainer.folder.metrics_log import read_metrics

pytestmark = pytest.mark.slow  # a launcher and two processes that load torch, several times
SUPPORT = Path(__file__).parents[1] / "support"
LAUNCH = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "--")
TRAIN = (
    "kdcache.cli.kdtrain --student tiny_teacher:make --trust tiny_teacher:make --data folder:data --crop 32 "
    "--batch-size 4 --device cpu --threads 1 --log none --run r --save-every 2 --loss none --steps"
)
STARTS_S, WITHIN_S = 200, 30

STEPS = 100_000  # nobody waits for the last


@pytest.fixture
def room(tmp_path: Path) -> Path:
    draw_folder(tmp_path / "data", 8)
    draw_folder(tmp_path / "data", 2, "val")
    return tmp_path


@contextmanager
def launched(room: Path, steps: int, *more: str) -> Iterator["subprocess.Popen[str]"]:
    """The launcher, which is killed in the end with its ranks. What they say goes to `said`."""
    words = [*TRAIN.split(" "), str(steps), *more]
    environment = {
        **os.environ,
        "KDCACHE_HOME": str(room),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": before(SUPPORT),
        "PYTHONWARNINGS": "ignore",
    }
    with alone(), (room / "said").open("w") as out:
        process = subprocess.Popen(
            [sys.executable, *LAUNCH, *words],
            cwd=room, env=environment, stdout=out, stderr=out, text=True, start_new_session=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            for pid in (*ranks_of(process.pid).values(), process.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()


def ranks_of(launcher: int) -> dict[int, int]:
    """Rank -> process, of the launcher's children."""
    made = {}
    with suppress(OSError):
        for pid in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split():
            words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            made |= {int(word[5:]): int(pid) for word in words if word.startswith(b"RANK=")}
    return made


def until(true: Callable[[], object], process: "subprocess.Popen[str]", seconds: float) -> None:
    """Raises AssertionError when it is not true in time, or never can be."""
    end_s = time.monotonic() + seconds
    while not true():
        assert process.poll() is None, "the launcher has ended"
        assert time.monotonic() < end_s, "not in time"
        time.sleep(0.05)


def steps_in(run: Path) -> list[int]:
    lines = read_metrics(run) if (run / "metrics.jsonl").is_file() else []
    return [int(str(line["step"])) for line in lines if "loss" in line]


def ended(room: Path, process: "subprocess.Popen[str]", number: int, *, rank: int | None) -> str:
    """What was said after a signal to one rank, or to the launcher and all ranks as a terminal sends it."""
    run = room / "runs" / "r"
    until(lambda: len(steps_in(run)) >= 3, process, STARTS_S)
    ranks = ranks_of(process.pid)
    assert sorted(ranks) == [0, 1]
    if rank is None:
        os.killpg(process.pid, number)  # the launcher starts ranks in sessions of their own
    else:
        os.kill(ranks[rank], number)
    process.wait(WITHIN_S)
    assert not any(Path(f"/proc/{pid}").exists() for pid in ranks.values()), "no rank is left"
    return (room / "said").read_text()


@pytest.mark.parametrize("rank", [1, 0])
def test_a_rank_that_is_killed_ends_the_other_one_which_names_it_and_the_run_goes_on(
    room: Path, rank: int
) -> None:
    with launched(room, STEPS) as process:
        said = ended(room, process, signal.SIGKILL, rank=rank)
    assert process.returncode
    run = room / "runs" / "r"
    kept = list_checkpoints(run)[-1]
    assert load_latest(run) is not None, "it is whole"
    assert said.count(f"error: rank {rank} of 2 is gone: its process was killed or broke down") == 1
    resumed(room, int(kept.name[-8:]) + 3)


def test_ctrl_c_ends_the_step_of_all_ranks_and_the_run_goes_on(room: Path) -> None:
    with launched(room, STEPS) as process:
        said = ended(room, process, signal.SIGINT, rank=None)
    run = room / "runs" / "r"
    done = steps_in(run)
    assert list_checkpoints(run)[-1].name == f"step-{done[-1]:08d}", "no step is lost"
    assert said.count("stopped; ") == 1 and "--resume" in said
    resumed(room, done[-1] + 3)


def resumed(room: Path, beyond: int) -> None:
    """The same command with --resume goes on behind the checkpoint, and makes each step once."""
    run = room / "runs" / "r"
    with launched(room, STEPS, "--resume") as process:
        until(lambda: steps_in(run)[-1:] >= [beyond], process, STARTS_S)
    done = steps_in(run)
    assert done == list(range(1, done[-1] + 1))
