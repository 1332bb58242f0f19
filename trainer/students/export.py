"""Exporting a run's student in any form: the deployed network as always, the exits beside it."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from torch import nn

from kdcache.trainer.steps.contract import Export
from kdcache.trainer.students.contract import deployed_of
from kdcache.trainer.students.exit_file import exits_beside
from kdcache.trainer.students.exits import Exits


def in_any_form(export: Export) -> Export:
    """`export` of a plain network, for students of any form."""

    def run(run_dir: Path, student: nn.Module | None, metrics: Mapping[str, float]) -> None:
        exits: AbstractContextManager[None] = nullcontext()
        if isinstance(student, Exits):
            state, count = student.exits.state_dict(), len(student.exits)
            exits = exits_beside(run_dir, student.deployed, state, form=student.form, count=count)
        with exits:
            export(run_dir, None if student is None else deployed_of(student), metrics)

    return run
