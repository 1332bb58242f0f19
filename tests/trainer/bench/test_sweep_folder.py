"""The file of a sweep's cells: read by others, damaged by anybody."""

import json
from pathlib import Path

import pytest

from kdcache.cache.errors import BadCache, Missing
from kdcache.trainer.bench.definition import Definition
from kdcache.trainer.bench.grid import Cell
from kdcache.trainer.bench.sweep_folder import (
    claimed,
    failure_of,
    joined,
    note_failure,
    read_sweep,
    taken_back,
)

CELL = Cell(run="abl-r18-kd", student="r18", loss="kd", seed=0, cache="c", options={"lr": 0.1, "amp": "no"})
NONE = Cell(run="abl-r18-none", student="r18", loss="none", seed=0, cache="c", role="none")
DEFINITION = Definition(name="abl", losses=("kd",))


def test_cells_come_back_as_they_were_written_and_their_file_is_that_of_the_contract(tmp_path: Path) -> None:
    joined(DEFINITION, (CELL, NONE), tmp_path, write=True)
    assert read_sweep(tmp_path, "abl").cells == (CELL, NONE)
    plain = json.loads((tmp_path / "sweeps" / "abl" / "cells.json").read_text())
    assert (plain["format"], plain["name"]) == (1, "abl")
    assert plain["cells"][0] == {
        "run": "abl-r18-kd", "student": "r18", "loss": "kd", "options": {"lr": 0.1, "amp": "no"}, "seed": 0,
        "cache": "c", "data": None, "role": "cell",
    }  # fmt: skip


def test_looking_writes_nothing(tmp_path: Path) -> None:
    assert joined(DEFINITION, (CELL,), tmp_path, write=False).cells == (CELL,)
    assert list(tmp_path.iterdir()) == []


def test_a_cell_that_is_there_keeps_its_name_whatever_it_would_be_called_now(tmp_path: Path) -> None:
    joined(DEFINITION, (CELL,), tmp_path, write=True)
    renamed = Cell(**{**{n: getattr(CELL, n) for n in Cell.__dataclass_fields__}, "run": "abl-r18-kd-lr=0.1"})
    sweep = joined(DEFINITION, (NONE, renamed), tmp_path, write=True)
    assert [cell.run for cell in sweep.cells] == [NONE.run, CELL.run]
    assert [cell.run for cell in read_sweep(tmp_path, "abl").cells] == [CELL.run, NONE.run]


def test_one_process_at_a_time_works_on_a_cell(tmp_path: Path) -> None:
    with claimed(tmp_path, "a") as first, claimed(tmp_path, "a") as second, claimed(tmp_path, "b") as other:
        assert (first, second, other) == (True, False, True)
    with claimed(tmp_path, "a") as again:
        assert again


def test_a_sweep_that_is_not_there_is_answered_with_the_nearest(tmp_path: Path) -> None:
    joined(DEFINITION, (CELL,), tmp_path, write=True)
    with pytest.raises(Missing, match="did you mean 'abl'") as refused:
        read_sweep(tmp_path, "abla")
    assert "no sweep 'abla'" in str(refused.value)


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"format": 2, "name": "abl", "cells": []}', '{"format": 1, "name": "abl", "cells": [{}]}',
     '{"format": 1, "name": "abl", "cells": [{"run": "../x", "student": "a", "loss": "kd", "options": {}, '
     '"seed": 0, "cache": null, "data": null, "role": "cell"}]}'],
)  # fmt: skip
def test_a_file_that_is_not_of_cells_is_an_error_and_no_empty_sweep(tmp_path: Path, content: str) -> None:
    folder = tmp_path / "sweeps" / "abl"
    folder.mkdir(parents=True)
    (folder / "cells.json").write_text(content)
    with pytest.raises(BadCache, match="the cells of the sweep cannot be read"):
        read_sweep(tmp_path, "abl")


def test_an_error_is_kept_as_it_was_and_a_damaged_one_is_said(tmp_path: Path) -> None:
    sweep = joined(DEFINITION, (CELL, NONE), tmp_path, write=True)
    note_failure(sweep.folder, CELL.run, "no\n  where: x", 2)
    assert failure_of(sweep, CELL) == "no\n  where: x" and failure_of(sweep, NONE) is None
    (sweep.folder / "failed" / f"{NONE.run}.json").write_text("{")
    assert "its error cannot be read" in str(failure_of(sweep, NONE))


@pytest.mark.parametrize(
    ("before", "after", "left"),
    [
        ([], ["cells.json", "sweep.toml", ".lock"], []),
        (["cells.json"], ["sweep.toml"], ["cells.json", "sweep.toml"]),
        ([], ["cells.json", "claims"], ["cells.json", "claims"]),
    ],
)
def test_only_a_sweep_that_this_command_began_is_taken_back(
    tmp_path: Path, before: list[str], after: list[str], left: list[str]
) -> None:
    folder = tmp_path / "s"
    for name in before:
        folder.mkdir(exist_ok=True)
        (folder / name).touch()
    with pytest.raises(RuntimeError, match="the build"), taken_back(folder):
        folder.mkdir(exist_ok=True)
        for name in after:
            (folder / name).touch()
        raise RuntimeError("the build")
    there = folder.iterdir() if folder.exists() else ()
    assert sorted(path.name for path in there) == left and folder.exists() == bool(left)
