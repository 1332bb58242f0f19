"""Cells of a sweep that one process trains: which of them may be, and what that process tells of each."""

import json
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from kdcache.cache.errors import KdError
from kdcache.cache.files.system import touching
from kdcache.trainer.bench.definition import read_option
from kdcache.trainer.bench.grid import Cell
from kdcache.trainer.folder.start import started
from kdcache.trainer.together.alike import alone_because, options_key


class Told(NamedTuple):
    """What a process said of a run that ended."""

    cell: Cell
    status: int  # with which the run's own process would have ended
    unjudged: int  # that of its judging


@dataclass(slots=True)
class CellSet:
    """Cells in work in one process. `left`: those of which it has not told."""

    left: dict[str, Cell]
    process: "subprocess.Popen[bytes]"
    log: Path  # of the process: a line of JSON for each run that ended
    read_from: int  # where that log began to be of this process, in bytes
    read_to: int
    log_starts: dict[str, int]  # run -> where its own log began to be of this process
    begun_s: float
    kept: ExitStack

    def told(self) -> Iterator[Told]:
        """Of the runs that ended since this was asked last."""
        with touching("the log of a run cannot be read", self.log), self.log.open("rb") as file:
            file.seek(self.read_to)
            whole = file.read().rpartition(b"\n")[0]
        self.read_to += len(whole) + bool(whole)
        for line in whole.splitlines():
            said = _said(line)
            cell = self.left.pop(str(said.get("run")), None)
            if cell is not None:
                yield Told(cell, int(said["status"]), int(said["unjudged"]))


def _said(line: bytes) -> "dict[str, int | str]":
    try:
        said = json.loads(line)
    except ValueError:
        return {}
    ours = isinstance(said, dict) and {"run", "status", "unjudged"} <= set(said)
    return said if ours else {}


class StreamKeys:
    """Which cells of a sweep may read the same batches: those of one key."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._known: dict[str, tuple[object, ...] | None] = {}

    def alike(self, cell: Cell, others: Iterable[Cell]) -> list[Cell]:
        """Those of `others` that may read the same batches as `cell`."""
        key = self._of(cell)
        return [] if key is None else [one for one in others if self._of(one) == key]

    def set_sizes(self, cells: Sequence[Cell], most: int) -> list[int]:
        """How many cells share each process, in the order in which they begin."""
        keys = [self._of(cell) or (cell.run,) for cell in cells]
        return [size for count in Counter(keys).values() for size in _cut(count, most)]

    def _of(self, cell: Cell) -> tuple[object, ...] | None:
        """None for a cell that is trained alone."""
        if cell.run not in self._known:
            self._known[cell.run] = _stream_key(cell, self._home)
        return self._known[cell.run]


def _stream_key(cell: Cell, home: Path) -> tuple[object, ...] | None:
    try:
        config = started({name: read_option(name, value) for name, value in cell.given.items()}, home)
    except KdError:  # which its own process says
        return None
    return None if alone_because(config) else options_key(config)


def _cut(count: int, most: int) -> list[int]:
    return [most] * (count // most) + ([count % most] if count % most else [])
