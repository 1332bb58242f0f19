"""How long a command takes to answer, and what of that it computes: a typo, a look at a cache, help.

    .venv/bin/python benchmarks/starting.py [--rounds 5] [--before FOLDER]

Each line is a process of its own, in a home with one small cache; `--before` is the import folder of another
checkout (the folder that holds `kdcache`), whose processes run between ours, in turn, on the same cache.
Printed are medians over the rounds in seconds: wall clock, and time on the processor (user and system), which
says the same on a machine that others use too.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
SUPPORT = ROOT / "tests" / "support"
LINES = (
    "kdtrain --loss kdd",
    "kdtrain --student r81",
    "kdtrain --data camvd:DIR",
    "kdcache build --for kdd",
    "kdcache show nope",
    "kdcache show",
    "kdcache verify",
    "kdtrain --help",
)


class Spent(NamedTuple):
    wall_s: float
    cpu_s: float


def spent(line: str, imports: str, home: Path) -> Spent:
    """The seconds of one process; whatever it answers counts."""
    command, *words = line.split()
    path = os.pathsep.join([imports, str(SUPPORT)])
    environment = {**os.environ, "PYTHONPATH": path, "KDCACHE_HOME": str(home), "OMP_NUM_THREADS": "1"}
    environment["XDG_CACHE_HOME"] = str(home / "own")
    before, began_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", f"kdcache.cli.{command}", *words],
        cwd=home, env=environment, capture_output=True, check=False, timeout=900,
    )  # fmt: skip
    wall_s, after = time.perf_counter() - began_s, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return Spent(wall_s, cpu_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--before", help="import folder of another checkout")
    options = parser.parse_args()
    ours = os.environ.get("PYTHONPATH", "").partition(os.pathsep)[0]
    sides = {"now": ours, **({"before": options.before} if options.before else {})}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        sys.path.append(str(SUPPORT))
        from tiny_folder import draw_folder

        draw_folder(home / "data", count=4)
        spent(
            "kdcache build --teacher tiny_teacher:make --data folder:data --crop 24,32 --device cpu",
            ours,
            home,
        )
        assert list((home / "caches").iterdir()), "the cache was not built"
        rounds: dict[tuple[str, str], list[Spent]] = {}
        for _ in range(options.rounds):
            for line in LINES:
                for side, imports in sides.items():
                    rounds.setdefault((line, side), []).append(spent(line, imports, home))
    print(f"| command | {' | '.join(f'{side}: wall s | cpu s' for side in sides)} |")
    print("|---|" + "---|---|" * len(sides))
    for line in LINES:
        medians = [map(statistics.median, zip(*rounds[line, side], strict=True)) for side in sides]
        cells = [" | ".join(f"{seconds:.2f}" for seconds in median) for median in medians]
        print(f"| `{line}` | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
