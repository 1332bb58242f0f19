"""How many threads a process starts, planned together from the cores that it may use.

What computes (torch, by OpenMP), what decodes images (DALI) and what packs and writes share the cores. On a
CPU what computes has all of them and the first decoder is let in between: it works for a small part of a
step, and a core of its own would be idle for the rest (two cores, ResNet-8 at 32x32: 1.2 to 1.6 times as
many steps, a build 1.5 times as many rows).
Cores are those of the affinity mask, less where a control group bounds the processor's time, shared by the
processes of one machine. `OMP_NUM_THREADS` and `--threads`, where somebody gave them, are taken as they are.

Threads of OpenMP that have nothing to do spin by default, for milliseconds: beside another job on the same
cores every layer of a network then waits for a thread that is not running (5 rows/s against 119 and 504,
ResNet-20 on two threads, two cores and eight other jobs). Where they sleep at once, a virtual machine may
take longer to wake them than a layer takes. `calm` lets them spin for the moment between two layers and
sleep then; it works before torch is loaded only.
"""

import math
import os
import sys
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import NamedTuple

OMP_THREADS = "OMP_NUM_THREADS"
OMP_WAITING = "OMP_WAIT_POLICY"
SPINS = "GOMP_SPINCOUNT"  # of GNU's OpenMP, which is torch's; there it comes before the policy
_SPINNING = (OMP_WAITING, SPINS)  # where somebody has decided already
MOMENT = 10_000  # turns, a tenth of a millisecond or a few of them; by default 300,000
_GROUPS = Path("/proc/self/cgroup")
_GROUP_ROOT = Path("/sys/fs/cgroup")


class ThreadPlan(NamedTuple):
    """Threads of one process by what they do."""

    cores: int  # that this process may use, its share of them where several work on one machine
    torch: int
    images: int  # threads that decode
    said: str = ""  # where the number that computes was given, by what

    @property
    def shared(self) -> bool:
        """Whether decoding and computing have to share cores."""
        return self.torch + self.images > self.cores

    @property
    def words(self) -> str:
        """'1 computes, 1 decodes images, of 2 cores'."""
        given = f" ({self.said})" if self.said else ""
        of = f"of {self.cores} core{'s' if self.cores > 1 else ''}"
        return f"{_many(self.torch, 'compute')}{given}, {_many(self.images, 'decode')} images, {of}"


def _many(number: int, does: str) -> str:
    return f"{number} {does}{'s' if number == 1 else ''}"


def calm(environment: MutableMapping[str, str] = os.environ) -> None:
    """Idle threads of OpenMP sleep after a moment, those of other makers than GNU at once, unless somebody
    said otherwise. Before torch is loaded."""
    if not any(name in environment for name in _SPINNING):
        environment[OMP_WAITING], environment[SPINS] = "PASSIVE", str(MOMENT)


def usable_cores() -> int:
    """Cores that this process may use, at least one."""
    allowed = len(os.sched_getaffinity(0))
    return max(1, min([allowed, *(max(1, math.floor(quota)) for quota in _quotas())]))


def plan_threads(images: int | None, *, on_gpu: bool = False, cores: int | None = None) -> ThreadPlan:
    """The threads of this process. `images`: as they were asked for; None: as many as fit.

    On a CPU the teacher or student has every core and the first decoder shares them, because an image costs
    much less than its forward; each further decoder, asked for by number, takes a core. Beside a GPU one core
    launches and the others decode.
    """
    processes = _number("LOCAL_WORLD_SIZE") or 1
    mine = max(1, (usable_cores() if cores is None else cores) // processes)
    given = _number(OMP_THREADS)
    room = max(1, mine - 1) if on_gpu else 1
    decoding = room if images is None else images
    computing = given or max(1, 1 if on_gpu else mine - (decoding - 1))
    return ThreadPlan(mine, computing, decoding, f"{OMP_THREADS}={given}" if given else "")


@contextmanager
def computing(threads: int) -> Iterator[None]:
    """Within it torch computes with so many threads."""
    import torch  # here: threads are planned and said without it

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def begun_alone(work: Callable[[], None], name: str) -> Thread:
    """A thread that has begun on `work` and computes by itself, however many threads the others have.

    Every thread of Python that uses torch brings helpers of its own otherwise. They have little to do, but
    once a process has more of them than cores OpenMP lets none spin, and every layer of a network in the main
    thread waits to be woken (two cores, ResNet-56 at 32x32: a fifth of a build).
    """
    torch = sys.modules.get("torch")
    mine, ready = torch.get_num_threads() if torch else 1, Event()

    def run() -> None:
        if torch:
            torch.set_num_threads(1)
            torch.get_num_threads()  # a thread takes the number that was set last when it first asks for it
        ready.set()
        work()

    thread = Thread(target=run, name=name, daemon=True)
    thread.start()
    ready.wait()
    if torch:
        torch.set_num_threads(mine)  # the number that was set last is what any later thread begins with
    return thread


def _number(variable: str) -> int:
    """Of the environment; 0 where it is not there or no number."""
    text = os.environ.get(variable, "").split(",")[0]
    return int(text) if text.isdecimal() else 0


def _quotas() -> Iterator[float]:
    """Cores' worth of time that each control group around this process gives, cgroup v2."""
    for folder in _group_folders():
        quota, _, period = _read(folder / "cpu.max").partition(" ")
        if quota.isdecimal() and period.strip().isdecimal() and int(period):
            yield int(quota) / int(period)


def _group_folders() -> Iterator[Path]:
    """This process's group and those above it."""
    entry = next((line for line in _read(_GROUPS).splitlines() if line.startswith("0::")), "")
    group = _GROUP_ROOT / entry.removeprefix("0::").strip("/")
    while group != _GROUP_ROOT and _GROUP_ROOT in group.parents:
        yield group
        group = group.parent
    yield _GROUP_ROOT


def _read(path: Path) -> str:
    """'' for what is not there."""
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
