"""Working off the cells of a sweep: each in a process of its own, several at a time, stopped together.

A cell's process is the command that a person would type; what it prints goes into the sweep's `logs/RUN.log`.
After it has ended well, a second process judges the student. A signal is handed on to every child, which
saves and ends as it would alone.
"""

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, NamedTuple

from kdcache.cache.errors import KdError
from kdcache.cache.files.system import touching
from kdcache.cache.networks.names import is_library
from kdcache.cache.processes.stop import FORWARDED, Stopped
from kdcache.cache.record.find import runs_dir
from kdcache.cache.sources.table import splits
from kdcache.cache.trust import OPTION, names_in
from kdcache.cache.visible import shell_line
from kdcache.trainer.bench.grid import Cell, command_of
from kdcache.trainer.bench.run_state import card_of, is_held, state_of
from kdcache.trainer.bench.sweep_folder import (
    LOGS,
    Sweep,
    claimed,
    failure_of,
    forget_failure,
    note_failure,
)
from kdcache.trainer.folder.run_folder import CONFIG_NAME

POLL_S = 0.1
THREADS_VARIABLE = "OMP_NUM_THREADS"
JUDGED_SPLITS = ("val", "test")
_TAIL_BYTES = 20_000  # of a log, for an error
_LAST_LINES = 15
_SIGNALLED = {128 + number: number for number in (signal.SIGINT, signal.SIGTERM)}

# kept: finished before. held: another process works on it. unjudged: trained, and its scores are not there.
Word = Literal["kept", "finished", "failed", "stopped", "held", "unjudged"]


class Outcome(NamedTuple):
    """What became of a cell."""

    cell: Cell
    word: Word
    text: str = ""  # the error, or why
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """How cells are run on this machine."""

    jobs: int = 1
    trust: tuple[str, ...] = ()  # whose code may run: handed on to every command
    retry: bool = False  # whether failed cells are tried again

    @property
    def threads(self) -> int | None:
        """Threads of each job; None where one job has the machine to itself."""
        return None if self.jobs == 1 else max(1, len(os.sched_getaffinity(0)) // self.jobs)

    @property
    def environment(self) -> dict[str, str]:
        """What a cell's process has beyond this one's environment."""
        if self.threads is None:
            return {}
        before = os.environ.get(THREADS_VARIABLE, "")
        most = min(self.threads, int(before)) if before.isdecimal() and int(before) else self.threads
        return {THREADS_VARIABLE: str(most)}

    def command(self, cell: Cell, *, resume: bool) -> list[str]:
        return self.trusting(command_of(cell, resume=resume, threads=self.threads))

    def trusting(self, command: list[str]) -> list[str]:
        named = names_in(command)
        return [*command, *(word for name in self.trust if name not in named for word in (OPTION, name))]

    def line(self, cell: Cell, *, resume: bool = False) -> str:
        """The command to type."""
        words = shell_line(self.command(cell, resume=resume))
        return " ".join([*(f"{name}={value}" for name, value in self.environment.items()), words])


@dataclass(slots=True)
class _Running:
    """A cell in work."""

    cell: Cell
    process: "subprocess.Popen[bytes]"
    stage: Literal["training", "judging"]
    log: IO[bytes]
    begun_s: float
    log_start: int
    kept: ExitStack


def work_off(
    sweep: Sweep,
    cells: Sequence[Cell],
    *,
    home: Path,
    machine: Machine,
    begun: Callable[[Cell, str], None] = lambda cell, how: None,
    ended: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Train and judge what is to be done of `cells`; goes on after a failure.

    Raises Stopped when every child has ended after a signal, Refused where the sweep's folder cannot be
    written.
    """
    work = _Work(sweep, home, machine, begun, ended)
    waiting = deque(cells)
    try:
        while waiting or work.running:
            while waiting and len(work.running) < machine.jobs:
                work.start(waiting.popleft())
            if work.running:
                work.look()
                time.sleep(POLL_S)
    except BaseException as stop:
        work.stop(stop.number if isinstance(stop, Stopped) else signal.SIGINT)
        raise
    return work.outcomes


def launch(command: list[str], log: IO[bytes], environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    """Begin 'kdtrain ...' as a process of its own."""
    module = [sys.executable, "-m", f"kdcache.cli.{command[0]}", *command[1:]]
    return subprocess.Popen(
        module, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
    )


class _Work:
    """Cells in work, and what became of the others."""

    def __init__(
        self,
        sweep: Sweep,
        home: Path,
        machine: Machine,
        begun: Callable[[Cell, str], None],
        ended: Callable[[Outcome], None],
    ) -> None:
        self.sweep, self.home, self.machine, self._begun, self._ended = sweep, home, machine, begun, ended
        self.running: list[_Running] = []
        self.outcomes: list[Outcome] = []

    def start(self, cell: Cell) -> None:
        """Begin, continue or judge a cell, or say why not."""
        with ExitStack() as stack:
            mine = stack.enter_context(claimed(self.sweep.folder, cell.run))
            run_dir = runs_dir(self.home) / cell.run
            if not mine or is_held(run_dir):
                self._say(Outcome(cell, "held", "another process trains it"))
                return
            finished = state_of(run_dir).word == "finished"
            if finished and not _lacks_scores(run_dir):
                forget_failure(self.sweep.folder, cell.run)
                self._say(Outcome(cell, "kept"))
                return
            error = None if self.machine.retry or finished else failure_of(self.sweep, cell)
            if error is not None:
                self._say(Outcome(cell, "failed", error))
                return
            forget_failure(self.sweep.folder, cell.run)
            self._launch(cell, finished=finished, kept=stack.pop_all())

    def _launch(self, cell: Cell, *, finished: bool, kept: ExitStack) -> None:
        path = self.sweep.folder / LOGS / f"{cell.run}.log"
        with touching("the log of a run cannot be written", path):
            path.parent.mkdir(parents=True, exist_ok=True)
            log = kept.enter_context(path.open("ab"))
        resume = (runs_dir(self.home) / cell.run / CONFIG_NAME).is_file()
        self._begun(cell, "judged" if finished else "continued" if resume else "begun")
        command = self._judging(cell) if finished else self.machine.command(cell, resume=resume)
        start = log.tell()
        process = self._process(command, log)
        stage: Literal["training", "judging"] = "judging" if finished else "training"
        self.running.append(_Running(cell, process, stage, log, time.monotonic(), start, kept))

    def _process(self, command: list[str], log: IO[bytes]) -> "subprocess.Popen[bytes]":
        log.write(f"$ {shell_line(command)}\n".encode(errors="backslashreplace"))
        log.flush()
        return launch(command, log, {**os.environ, **self.machine.environment, FORWARDED: "1"})

    def _judging(self, cell: Cell) -> list[str]:
        given = {name: cell.options[name] for name in ("device", "threads") if name in cell.options}
        words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
        own = names_in([cell.student]) and not is_library(cell.student)
        foreign = [OPTION, cell.student] if own else []
        return self.machine.trusting(["kdtrain", "judge-run", cell.run, *words, *foreign])

    def look(self) -> None:
        """Take note of every child that ended."""
        for one in list(self.running):
            status = one.process.poll()
            if status is None:
                continue
            if status == 0 and one.stage == "training" and self._judges(one):
                continue
            self.running.remove(one)
            with one.kept:
                self._say(self._outcome(one, status))

    def _judges(self, one: _Running) -> bool:
        """Whether the cell's training is followed by judging, which then runs."""
        if not _lacks_scores(runs_dir(self.home) / one.cell.run):
            return False
        one.process, one.stage = self._process(self._judging(one.cell), one.log), "judging"
        return True

    def _outcome(self, one: _Running, status: int) -> Outcome:
        cell, run_dir, seconds = one.cell, runs_dir(self.home) / one.cell.run, time.monotonic() - one.begun_s
        if status == 0:
            return Outcome(cell, "finished", "", seconds)
        number = -status if status < 0 else _SIGNALLED.get(status, 0)
        if number:
            return Outcome(cell, "stopped", f"ended by {signal.Signals(number).name}", seconds)
        error = _error_in(Path(one.log.name), one.log_start)
        if one.stage == "judging":
            return Outcome(cell, "unjudged", error, seconds)
        if is_held(run_dir):
            return Outcome(cell, "held", "another process trains it", seconds)
        note_failure(self.sweep.folder, cell.run, error, status)
        return Outcome(cell, "failed", error, seconds)

    def stop(self, number: int) -> None:
        """End every child as it would end alone, and wait for it."""
        for one in self.running:
            one.process.send_signal(number)
        for one in self.running:
            one.process.wait()
            one.kept.close()

    def _say(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self._ended(outcome)


def judged_splits(spec: str) -> tuple[str, ...]:
    """The splits on which a finished student is judged. Raises KdError for data that are not there."""
    there = splits(spec)
    return tuple(split for split in JUDGED_SPLITS if split in there)


def _lacks_scores(run_dir: Path) -> bool:
    """Whether scores of a finished run are still to be made; where nobody can say, they are."""
    from kdcache.trainer.folder.scores import read_scores  # takes torch, which a mistyped sweep should not

    try:
        card = card_of(run_dir)
        named = judged_splits(str(card.get("data", ""))) if card else ()
        return any(read_scores(run_dir, split) is None for split in named)
    except KdError:
        return True


def _error_in(path: Path, start: int) -> str:
    """The error that ended a process, from its log: a KdError's three parts, else the last lines."""
    with touching("the log of a run cannot be read", path), path.open("rb") as log:
        log.seek(0, os.SEEK_END)
        log.seek(max(start, log.tell() - _TAIL_BYTES))
        lines = log.read().decode(errors="backslashreplace").splitlines()
    first = next((i for i in reversed(range(len(lines))) if lines[i].startswith("error: ")), None)
    chosen = lines[-_LAST_LINES:] if first is None else lines[first:]
    return "\n".join(chosen).removeprefix("error: ").strip() or "it said nothing"
