"""The folder of a sweep: `<home>/sweeps/NAME/{sweep.toml, cells.json, failed/RUN.json, logs/RUN.log}`.

`cells.json` only grows: a definition that asks for more adds cells, and what is there keeps its name. How far
a cell is stands nowhere: its run says it (run_state.py), but for the errors of those that failed.
"""

import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec

from kdcache.cache.errors import BadCache, BadOption, Missing, Refused, nearest
from kdcache.cache.files.plain_json import read_json_object
from kdcache.cache.files.system import GONE, touching, user_path
from kdcache.cache.visible import shell_word
from kdcache.trainer.bench.definition import Definition, Value
from kdcache.trainer.bench.grid import Cell, Role
from kdcache.trainer.folder.atomic_file import write_text

SWEEPS, CELLS_NAME, DEFINITION_NAME = "sweeps", "cells.json", "sweep.toml"
FAILED, LOGS, CLAIMS = "failed", "logs", "claims"
_LOCK = ".lock"
_BEGINNING = {CELLS_NAME, DEFINITION_NAME, _LOCK}  # what is written before any cell
FORMAT = 1
_LONGEST_ERROR = 20_000  # characters

Text = Annotated[str, msgspec.Meta(max_length=4096)]
RunName = Annotated[str, msgspec.Meta(pattern=r"\A(?!\.)[^/\\\x00-\x1f]{1,200}\Z")]


@dataclass(frozen=True, slots=True)
class Sweep:
    """A sweep that was begun."""

    name: str
    folder: Path
    cells: tuple[Cell, ...]


class _CellBody(msgspec.Struct, forbid_unknown_fields=True):
    run: RunName
    student: Text
    loss: Text
    options: dict[Text, Value]
    seed: int
    cache: Text | None
    data: Text | None
    role: Role


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    format: Annotated[int, msgspec.Meta(ge=FORMAT, le=FORMAT)]
    name: RunName
    cells: list[_CellBody]


class _Failure(msgspec.Struct):
    error: str
    status: int


def sweeps_dir(home: Path) -> Path:
    return home / SWEEPS


def read_sweep(home: Path, name_or_path: str) -> Sweep:
    """A sweep by its name or its folder. Raises Missing naming the nearest, BadCache for a file that cannot
    be read."""
    sweeps = sweeps_dir(home)
    for folder in (sweeps / name_or_path, user_path(name_or_path)):
        if (folder / CELLS_NAME).is_file():
            return Sweep(folder.resolve().name, folder, _read_cells(folder))
    names = [one.name for one in list_sweeps(home)]
    close = nearest(name_or_path, names)
    hint = f"did you mean '{close}'? " if close else ""
    raise Missing(
        f"no sweep '{name_or_path}'",
        where=str(sweeps),
        fix=f"{hint}sweeps there: {', '.join(names) or 'none; kdtrain sweep begins one'}",
    )


def list_sweeps(home: Path) -> list[Path]:
    """Folders of sweeps."""
    folder = sweeps_dir(home)
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if (path / CELLS_NAME).is_file())


def failure_of(sweep: Sweep, cell: Cell) -> str | None:
    """The error that ended a cell; None for one that did not fail."""
    path = sweep.folder / FAILED / f"{cell.run}.json"
    try:
        return msgspec.convert(read_json_object(path), type=_Failure).error
    except GONE:
        return None
    except Refused:
        raise
    except ValueError as error:
        return f"its error cannot be read: {error}"


def note_failure(folder: Path, run: str, error: str, status: int) -> None:
    """Keep why a cell failed. Raises DiskFull, Refused."""
    path = folder / FAILED / f"{run}.json"
    with touching("the error of a run could not be kept", path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps({"error": error[-_LONGEST_ERROR:], "status": status}, indent=1) + "\n")


def forget_failure(folder: Path, run: str) -> None:
    """A cell is tried again, or finished after all."""
    with touching("the error of a run could not be removed", folder):
        (folder / FAILED / f"{run}.json").unlink(missing_ok=True)


def joined(definition: Definition, cells: Sequence[Cell], home: Path, *, write: bool) -> Sweep:
    """The sweep of this name with these cells: those that are there keep their names, the others are added.

    `cells` of the result are those of the definition, in its order; the file has the older ones too. Raises
    BadOption for a name that would stand for two different runs.
    """
    folder = sweeps_dir(home) / definition.name
    if not write:
        return Sweep(definition.name, folder, _joined(_older(folder), cells, definition.name)[0])
    with touching("the folder of the sweep cannot be written", folder):
        folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / _LOCK):
        mine, every = _joined(_older(folder), cells, definition.name)
        table = {"format": FORMAT, "name": definition.name, "cells": [asdict(cell) for cell in every]}
        write_text(folder / CELLS_NAME, json.dumps(table, indent=1) + "\n")
        write_text(folder / DEFINITION_NAME, definition.to_toml())
    return Sweep(definition.name, folder, mine)


@contextmanager
def claimed(folder: Path, run: str) -> Iterator[bool]:
    """Whether this process alone works on a cell from here on. A kill gives it back."""
    path = folder / CLAIMS / run
    with touching("the folder of the sweep cannot be written", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _older(folder: Path) -> tuple[Cell, ...]:
    return _read_cells(folder) if (folder / CELLS_NAME).is_file() else ()


@contextmanager
def taken_back(folder: Path) -> Iterator[None]:
    """Removes the folder of a sweep where an error inside ends it before any of its cells began: it would be
    listed as a sweep. One that an earlier command began stays."""
    begun = (folder / CELLS_NAME).is_file()
    try:
        yield
    except BaseException:
        if not begun and folder.is_dir() and {p.name for p in folder.iterdir()} <= _BEGINNING:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _joined(
    older: Sequence[Cell], cells: Sequence[Cell], name: str
) -> tuple[tuple[Cell, ...], tuple[Cell, ...]]:
    """(cells of the definition, all cells)."""
    by_key, by_run = {cell.key: cell for cell in older}, {cell.run: cell for cell in older}
    mine = []
    for cell in cells:
        before = by_key.get(cell.key)
        if before is None and cell.run in by_run:
            raise _contradiction(by_run[cell.run], cell, name)
        mine.append(Cell(**{**_fields(cell), "run": before.run}) if before else cell)
    renewed = {cell.key: cell for cell in mine}
    return tuple(mine), tuple({**by_key, **renewed}.values())


def _fields(cell: Cell) -> dict[str, Any]:
    return {name: getattr(cell, name) for name in Cell.__dataclass_fields__}


def _contradiction(then: Cell, now: Cell, name: str) -> BadOption:
    before, after = _flat(then.values), _flat(now.values)
    differing = sorted(key for key in {*before, *after} if before.get(key) != after.get(key))
    said = ", ".join(
        f"{k} {after.get(k, 'not given')} (then {before.get(k, 'not given')})" for k in differing
    )
    return BadOption(
        f"the sweep has a run '{then.run}' already, of other options: {said}",
        where=f"sweep {name}",
        fix=f"give these runs a sweep of their own: --name {shell_word(name + '-2')}; or list both values "
        "under [options] of a file, where they are an axis",
    )


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    return {**{k: v for k, v in values.items() if k != "options"}, **values["options"]}


def _read_cells(folder: Path) -> tuple[Cell, ...]:
    path = folder / CELLS_NAME
    try:
        body = msgspec.convert(read_json_object(path), type=_Body)
    except Refused:
        raise
    except ValueError as error:
        raise BadCache(
            f"the cells of the sweep cannot be read: {error}",
            where=str(path),
            fix=f"put the file back as it was; or remove it, and the command that began the sweep writes it "
            f"again: rm {shell_word(str(path))}",
        ) from error
    return tuple(
        Cell(**{name: getattr(one, name) for name in _CellBody.__struct_fields__}) for one in body.cells
    )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Wait for the other command that writes the cells of this sweep."""
    with touching("the sweep could not be locked", path), path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
