"""A process keeps what it freed, unless its user told the allocator otherwise."""

import os
import subprocess
import sys

import pytest

# Blocks of 8 MiB, taken and freed: the default gives each back to the system, some 2,000 pages at a time.
STEPS = """
import resource, sys
import numpy as np
from kdcache.cache.processes.heap import keep_freed

kept = keep_freed()
def step():
    blocks = [np.ones(1 << 20) for _ in range(4)]
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _ran(**environment: str) -> tuple[bool, int]:
    """Whether freed memory is kept, and the pages that ten steps faulted in."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", STEPS], env=plain | environment, capture_output=True, text=True, check=True
    )
    kept, faults = done.stdout.split()
    return kept == "True", int(faults)


def test_what_a_step_freed_is_there_for_the_next() -> None:
    kept, faults = _ran()
    assert kept and faults < 1000, faults


@pytest.mark.parametrize(
    "said",
    [
        {"MALLOC_TRIM_THRESHOLD_": "100000", "MALLOC_MMAP_THRESHOLD_": "100000"},
        {"MALLOC_TOP_PAD_": "131072"},
        {"MALLOC_MMAP_MAX_": "65536"},
        {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=100000:glibc.malloc.mmap_threshold=100000"},
    ],
)
def test_what_a_user_told_the_allocator_stays(said: dict[str, str]) -> None:
    kept, faults = _ran(**said)
    assert not kept and faults > 10_000, faults


def test_both_commands_keep_what_they_free() -> None:
    code = (
        "import kdcache.cli.shared as shared\n"
        "asked = []\n"
        "shared.keep_freed = lambda: asked.append(1)\n"
        "import kdcache.cli.kdtrain as train, kdcache.cli.kdcache as cache\n"
        "for main in (train.main, lambda: cache.main(prog_name='kdcache')):\n"
        "    try:\n"
        "        main()\n"
        "    except SystemExit:\n"
        "        pass\n"
        "assert asked == [1, 1], asked\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-1000:]
