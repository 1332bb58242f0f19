"""The folder of a sweep: which cells it has, and which of them failed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdcache.cache.errors import BadOption, Missing, nearest
from kdcache.cache.files.plain_json import read_json_object
from kdcache.cache.files.system import user_path

CELLS = "cells.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One run of a grid."""

    run: str
    student: str
    loss: str
    options: Mapping[str, Any]
    seed: int
    cache: str | None
    data: str | None
    role: str  # cell, none or none-fresh


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    name: str
    folder: Path
    cells: tuple[Cell, ...]


def read_sweep(home: Path, name_or_path: str) -> Sweep:
    """Raises Missing listing the sweeps that are there."""
    for folder in (user_path(name_or_path), home / "sweeps" / name_or_path):
        if (folder / CELLS).is_file():
            try:
                table = read_json_object(folder / CELLS)
                cells = tuple(Cell(**cell) for cell in table["cells"])
                return Sweep(name=str(table["name"]), folder=folder, cells=cells)
            except (KeyError, TypeError, ValueError) as error:
                raise BadOption(
                    f"the cells of the sweep cannot be read: {error}",
                    where=str(folder / CELLS),
                    fix="run the same 'kdtrain sweep' again",
                ) from error
    names = sorted(path.parent.name for path in (home / "sweeps").glob(f"*/{CELLS}"))
    close = nearest(name_or_path, names)
    hint = f"did you mean '{close}'? " if close else ""
    raise Missing(
        f"no sweep '{name_or_path}'",
        where=str(home / "sweeps"),
        fix=f"{hint}sweeps there: {', '.join(names) or 'none'}",
    )


def failure_of(sweep: Sweep, cell: Cell) -> str | None:
    """Why a cell failed, in one line or more; None where it did not."""
    path = sweep.folder / "failed" / f"{cell.run}.json"
    return str(read_json_object(path)["error"]) if path.is_file() else None
