"""What the benchmarks share: interleaved rounds, medians of ratios, one JSON file and one Markdown row each.

Every figure is a ratio of two things measured in the same process and in the same round, one right after the
other, and the order is turned round in every second round: a machine that is slower for a minute slows both.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

OUT = Path("bench-out")
WARM, TIMED = 2, 4  # steps of a turn; the pipeline prefetches 2


class Figure(NamedTuple):
    """One row of docs/benchmarks.md. `target` is a number after '>=', '<=' or '<'."""

    name: str
    target: str
    measured: float
    spread: tuple[float, float]  # smallest and largest round
    unit: str = ""

    @property
    def reached(self) -> bool:
        sign, _, number = self.target.partition(" ")
        bound = float(number.split()[0])
        return self.measured >= bound if sign == ">=" else self.measured <= bound

    def row(self, command: str) -> str:
        low, high = self.spread
        span = f" ({low:.3g} .. {high:.3g})" if low != high else ""
        verdict = "" if self.reached else " (missed)"
        return (
            f"| {self.name} | {self.target} | {self.measured:.3g}{self.unit}{span}{verdict} | `{command}` |"
        )


def interleave(contenders: Mapping[str, Callable[[], float]], num_rounds: int) -> dict[str, list[float]]:
    """Call every contender once per round; each returns what it measured (seconds, say), by name."""
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(num_rounds):
        names = list(contenders)
        for name in names if number % 2 == 0 else reversed(names):
            found[name].append(contenders[name]())
    return found


def ratio(
    over: Sequence[float], under: Sequence[float], *, skip: int = 1
) -> tuple[float, tuple[float, float]]:
    """Median of over/under round by round, and the smallest and largest; the first `skip` rounds warm up."""
    each = [a / b for a, b in zip(over, under, strict=True)]
    each = each[skip:] if len(each) > skip else each
    return statistics.median(each), (min(each), max(each))


def figure(name: str, target: str, over: Sequence[float], under: Sequence[float], *, skip: int = 1) -> Figure:
    middle, spread = ratio(over, under, skip=skip)
    return Figure(name, target, middle, spread)


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def turn(step: Callable[[], object], *, timed: int = TIMED) -> Callable[[], float]:
    """A contender that makes `WARM` steps, which use up what lies ready, and then gives the mean seconds of
    the next `timed`."""

    def measure() -> float:
        for _ in range(WARM):
            step()
        began = time.perf_counter()
        for _ in range(timed):
            step()
        return (time.perf_counter() - began) / timed

    return measure


def report(
    script: str, figures: Sequence[Figure], measured: Mapping[str, object], *, name: str | None = None
) -> None:
    """Write bench-out/<name, or script>.json and print the Markdown rows."""
    command = f"python benchmarks/{script}.py {' '.join(sys.argv[1:])}".strip()
    OUT.mkdir(exist_ok=True)
    result = {
        "command": command,
        "machine": machine(),
        "figures": [f._asdict() | {"reached": f.reached} for f in figures],
        "measured": measured,
    }
    (OUT / f"{name or script}.json").write_text(json.dumps(result, indent=1) + "\n")
    for one in figures:
        print(one.row(command))


def machine() -> dict[str, object]:
    """The processor, what else is running on it (load average), and the versions that matter."""
    import torch

    cpu = subprocess.run(["lscpu"], capture_output=True, text=True, check=False).stdout
    model = next((line.partition(":")[2].strip() for line in cpu.splitlines() if "Model name" in line), "?")
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "load_average": [round(x, 2) for x in os.getloadavg()],
        "python": platform.python_version(),
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
