"""Several ranks write one cache: each makes whole shards, and the bytes are those of one rank."""

import os
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
