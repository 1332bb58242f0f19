"""Working off the cells of a sweep: each in a process of its own, several at a time, stopped together.

A cell's process is the command that a person would type; what it prints goes into the sweep's `logs/RUN.log`.
It judges the student too, and where it could not, a second process does so and says why. A signal is handed
on to every child, which saves and ends as it would alone. Several cells that read the same batches may share
a process (trainer/together), which trains them, judges them, and tells of each what became of it.
"""

import os
import shlex
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
from kdcache.cache.fingerprint import digest_of
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
from kdcache.trainer.together.cells import CellSet, StreamKeys

POLL_S = 0.1
THREADS_VARIABLE = "OMP_NUM_THREADS"
JUDGES_VARIABLE = "KDCACHE_JUDGES"  # asks a process that trains to judge its student before it ends
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
    together: int = 1  # cells that read the same batches, in one process
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
                work.start(waiting.popleft(), waiting)
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
        self.running: list[_Running | CellSet] = []
        self.outcomes: list[Outcome] = []
        self._keys = StreamKeys(home)

    def start(self, cell: Cell, waiting: "deque[Cell]") -> None:
        """Begin, continue or judge a cell, or say why not; and begin with it those of `waiting` that its
        process takes along."""
        with ExitStack() as stack:
            stage = self._ready(cell, stack)
            if stage is None:
                return
            others = self._others(cell, waiting, stack) if stage == "training" else []
            if others:
                self._launch_set([cell, *others], stack.pop_all())
            else:
                self._launch(cell, finished=stage == "judging", kept=stack.pop_all())

    def _ready(self, cell: Cell, stack: ExitStack) -> Literal["training", "judging"] | None:
        """What is to be done of a cell, which `stack` claims; None where it was said why nothing is."""
        mine = stack.enter_context(claimed(self.sweep.folder, cell.run))
        run_dir = runs_dir(self.home) / cell.run
        if not mine or is_held(run_dir):
            self._say(Outcome(cell, "held", "another process trains it"))
            return None
        finished = state_of(run_dir).word == "finished"
        if finished and not _lacks_scores(run_dir):
            forget_failure(self.sweep.folder, cell.run)
            self._say(Outcome(cell, "kept"))
            return None
        error = None if self.machine.retry or finished else failure_of(self.sweep, cell)
        if error is not None:
            self._say(Outcome(cell, "failed", error))
            return None
        forget_failure(self.sweep.folder, cell.run)
        return "judging" if finished else "training"

    def _others(self, cell: Cell, waiting: "deque[Cell]", stack: ExitStack) -> list[Cell]:
        """Cells that are trained beside `cell`, taken out of `waiting` and claimed by `stack`."""
        others: list[Cell] = []
        for one in self._keys.alike(cell, list(waiting)) if self.machine.together > 1 else ():
            if len(others) + 1 == self.machine.together:
                break
            with ExitStack() as own:
                stage = self._ready(one, own)
                if stage == "judging":  # which waits for its turn
                    continue
                waiting.remove(one)
                if stage == "training":
                    others.append(one)
                    stack.enter_context(own.pop_all())
        return others

    def _launch_set(self, cells: Sequence[Cell], kept: ExitStack) -> None:
        logs = self.sweep.folder / LOGS
        path = logs / f"together-{digest_of([cell.run for cell in cells], 8)}.log"
        log = kept.enter_context(_log(path))
        resumes = {cell.run: self._begun_before(cell) for cell in cells}
        command = ["kdtrain", "train-together", "--logs", str(logs)]
        command += [shlex.join(self.machine.command(cell, resume=resumes[cell.run])) for cell in cells]
        starts = {cell.run: _size(logs / f"{cell.run}.log") for cell in cells}
        for cell in cells:
            how = "continued" if resumes[cell.run] else "begun"
            self._begun(cell, f"{how}, {len(cells)} together")
        begin = _size(path)
        process = self._process(self.machine.trusting(command), log)
        left = {cell.run: cell for cell in cells}
        self.running.append(CellSet(left, process, path, begin, begin, starts, time.monotonic(), kept))

    def _begun_before(self, cell: Cell) -> bool:
        return (runs_dir(self.home) / cell.run / CONFIG_NAME).is_file()

    def _launch(self, cell: Cell, *, finished: bool, kept: ExitStack) -> None:
        log = kept.enter_context(_log(self.sweep.folder / LOGS / f"{cell.run}.log"))
        resume = self._begun_before(cell)
        self._begun(cell, "judged" if finished else "continued" if resume else "begun")
        command = self._judging(cell) if finished else self.machine.command(cell, resume=resume)
        start = log.tell()
        process = self._process(command, log)
        stage: Literal["training", "judging"] = "judging" if finished else "training"
        self.running.append(_Running(cell, process, stage, log, time.monotonic(), start, kept))

    def _process(self, command: list[str], log: IO[bytes]) -> "subprocess.Popen[bytes]":
        log.write(f"$ {shell_line(command)}\n".encode(errors="backslashreplace"))
        log.flush()
        asked = {FORWARDED: "1", JUDGES_VARIABLE: "1"}
        return launch(command, log, {**os.environ, **self.machine.environment, **asked})

    def _judging(self, cell: Cell) -> list[str]:
        given = {name: cell.options[name] for name in ("device", "threads") if name in cell.options}
        words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
        own = names_in([cell.student]) and not is_library(cell.student)
        foreign = [OPTION, cell.student] if own else []
        return self.machine.trusting(["kdtrain", "judge-run", cell.run, *words, *foreign])

    def look(self) -> None:
        """Take note of every child that ended."""
        for one in list(self.running):
            if isinstance(one, CellSet):
                self._look_at_set(one)
                continue
            status = one.process.poll()
            if status is None:
                continue
            if status == 0 and one.stage == "training" and self._judges(one):
                continue
            self.running.remove(one)
            with one.kept:
                self._say(self._outcome(one, status))

    def _judges(self, one: _Running) -> bool:
        """Whether the cell's training is followed by judging in a process of its own, which then runs."""
        if not _lacks_scores(runs_dir(self.home) / one.cell.run):
            return False
        one.process, one.stage = self._process(self._judging(one.cell), one.log), "judging"
        return True

    def _look_at_set(self, one: CellSet) -> None:
        status = one.process.poll()
        for told in one.told():
            self._say(self._outcome_of(one, told.cell, told.status, told.unjudged))
        if status is None:
            return
        self.running.remove(one)
        with one.kept:
            for cell in one.left.values():  # it ended before it could tell of them
                self._say(self._outcome_of(one, cell, status or 1, 0))

    def _outcome_of(self, one: CellSet, cell: Cell, status: int, unjudged: int) -> Outcome:
        """Of a cell of a set: its error stands in its own log, or in that of the process."""
        log = self.sweep.folder / LOGS / f"{cell.run}.log"
        path, start = (one.log, one.read_from) if cell.run in one.left else (log, one.log_starts[cell.run])
        stage: Literal["training", "judging"] = "judging" if unjudged else "training"
        return self._ended_as(cell, status or unjudged, stage, one.begun_s, path, start)

    def _outcome(self, one: _Running, status: int) -> Outcome:
        return self._ended_as(one.cell, status, one.stage, one.begun_s, Path(one.log.name), one.log_start)

    def _ended_as(
        self,
        cell: Cell,
        status: int,
        stage: Literal["training", "judging"],
        begun_s: float,
        log: Path,
        log_start: int,
    ) -> Outcome:
        run_dir, seconds = runs_dir(self.home) / cell.run, time.monotonic() - begun_s
        if status == 0:
            return Outcome(cell, "finished", "", seconds)
        number = -status if status < 0 else _SIGNALLED.get(status, 0)
        if number:
            return Outcome(cell, "stopped", f"ended by {signal.Signals(number).name}", seconds)
        error = _error_in(log, log_start)
        if stage == "judging":
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


def _log(path: Path) -> IO[bytes]:
    with touching("the log of a run cannot be written", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("ab")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


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
