"""Several ranks write one cache: each makes whole shards, and the bytes are those of one rank."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from python_path import before
from rank_turn import alone
from tiny_folder import draw_folder

SUPPORT = Path(__file__).parents[2] / "support"
LIMIT_S = 120


def files(root: Path) -> dict[str, bytes]:
    paths = [p for p in sorted(root.rglob("*")) if p.is_file() and p.name != "build.lock"]
    return {str(p.relative_to(root)): p.read_bytes() for p in paths}


def build(home: Path, data: Path, launcher: list[str]) -> Path:
    environment = os.environ | {
        "KDCACHE_HOME": str(home),
        "PYTHONPATH": before(SUPPORT),
        "OMP_NUM_THREADS": "1",  # one and two threads give different bits
    }
    command = [sys.executable, *launcher, "kdcache.cli.kdcache", "build", "--teacher", "tiny_teacher:make"]
    command += ["--data", f"folder:{data}", "--views", "crops:3", "--crop", "40,48", "--shard-rows", "2"]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "wrote 18 rows" in done.stdout
    return next((home / "caches").iterdir())


@pytest.mark.slow
def test_two_ranks_write_what_one_rank_writes(tmp_path: Path) -> None:
    data = draw_folder(tmp_path / "data")
    one = build(tmp_path / "one", data, ["-m"])
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "--"]
    with alone():
        two = build(tmp_path / "two", data, launch)
    assert files(one) == files(two)


KILLED = """
import os, signal, sys
from kdcache.cache.build.ranks import group, meet
from kdcache.cache.errors import KdError
try:
    with group() as (rank, world):
        meet(world)
        if rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        meet(world)
except KdError as error:
    sys.exit(f"error: {error}")
"""


@pytest.mark.slow
def test_a_rank_that_is_killed_ends_the_others_and_is_named() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    with alone():
        ranks = [
            subprocess.Popen(
                [sys.executable, "-c", KILLED],
                env=os.environ | launch | {"RANK": str(rank)},
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(2)
        ]
        said = [rank.communicate(timeout=LIMIT_S)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [1, -9]
    assert "error: rank 1 of 2 is gone: its process was killed or broke down; the others end too" in said[0]
    assert "fix:   finished shards are kept, the same command continues" in said[0]
    assert "Traceback" not in said[0]
