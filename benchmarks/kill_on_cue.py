"""When to kill, and what a kill left half-written. Used by kill.py.

Phases: array (a shard of a target), tar (samples), record, checkpoint, other (everything else: descriptions,
indexes of tars, exports, and all moments between two files).
"""

import os
import re
import signal
import statistics
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from folder_events import Event, FolderEvents
from warm_process import WarmProcess

Process = subprocess.Popen[bytes] | WarmProcess

_TEMPORARY = re.compile(r"(^|/)(\.kdtmp-\d+-\d+-|\.tmp-)")
_LIMIT_S = 300.0


class Cue(NamedTuple):
    """Kill `after_s` seconds after: the first byte written (no phase), or the creation of temporary file
    number `number` (from 0) of `phase`."""

    after_s: float
    phase: str = ""
    number: int = 0


def phase_of(path: str | None) -> str:
    """Which phase a file belongs to, by its final or temporary name relative to the home; None: 'other'."""
    if path is None:
        return "other"
    name = _TEMPORARY.sub(r"\1", path)
    if "checkpoints/step-" in name:
        return "checkpoint"
    if "/records/" in name:
        return "record"
    if name.endswith(".tar"):
        return "tar"
    return "array" if "/targets.zarr/" in name and not name.endswith("zarr.json") else "other"


def is_temporary(path: str) -> bool:
    return bool(_TEMPORARY.search(path))


def temporary_in(home: Path) -> str | None:
    """The temporary file or folder that a kill left, relative to `home`: every start sweeps older litter."""
    for folder, folders, names in os.walk(home):
        for name in (*folders, *names):
            path = os.path.relpath(os.path.join(folder, name), home)
            if is_temporary(path):
                return path
    return None


class Lifetimes:
    """How long a job writes and how long its temporary files live, learned from a run that is not killed."""

    def __init__(self) -> None:
        self.span_s = 0.0  # first byte written to last commit
        self._lives: dict[str, list[float]] = {}

    def learn(self, process: Process, home: Path) -> None:
        born: dict[str, float] = {}
        times: list[float] = []
        with FolderEvents(home) as events:
            while process.poll() is None:
                for event in events.wait(0.2):
                    times.append(event.time_s)
                    self._note(event, born)
        if process.returncode:
            raise SystemExit(f"the unkilled run failed with status {process.returncode}")
        self.span_s = times[-1] - times[0]

    def _note(self, event: Event, born: dict[str, float]) -> None:
        if event.kind == "create" and is_temporary(event.path):
            born.setdefault(event.path, event.time_s)
        elif event.kind == "leave" and event.path in born:
            life_s = event.time_s - born.pop(event.path)
            self._lives.setdefault(phase_of(event.path), []).append(life_s)

    def median_s(self, phase: str) -> float:
        return statistics.median(self._lives.get(phase, [0.0]))


def kill_on_cue(process: Process, home: Path, cue: Cue | None) -> bool:
    """Watch the process work in `home` and kill it on its cue; False when it ended before that."""
    limit_s = time.perf_counter() + _LIMIT_S
    seen: set[str] = set()
    with FolderEvents(home) as events:
        began = False
        while process.poll() is None and time.perf_counter() < limit_s:
            for event in events.wait(0.2):
                began = began or cue is not None and not cue.phase
                if cue and cue.phase and _is_birth(event, cue.phase):
                    seen.add(event.path)
                    began = began or len(seen) > cue.number
                if began:
                    break
            if cue and began:
                _wait_until(event.time_s + cue.after_s, process)
                return _kill(process)
    if process.poll() is None:
        _kill(process)
        raise SystemExit(f"process {process.args!r} did not end within {_LIMIT_S:.0f} s")
    return False


def _is_birth(event: Event, phase: str) -> bool:
    """A temporary file or folder of the phase; files inside a temporary folder are not born apart."""
    return (
        event.kind == "create"
        and is_temporary(os.path.basename(event.path))
        and phase_of(event.path) == phase
    )


def _wait_until(moment_s: float, process: Process) -> None:
    """Sleeps all but the last millisecond, which it spins: a sleep may overshoot the life of a file."""
    while (left_s := moment_s - time.perf_counter()) > 0 and process.poll() is None:
        if left_s > 2e-3:
            time.sleep(min(0.05, left_s - 1e-3))


def _kill(process: Process) -> bool:
    """True when our signal ended it, False when it had ended by itself."""
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL
