"""Every task by name, one line each: where its three files are. Text, so that listing names imports nothing.

`Task` is a name; `task_of` gives what the cache's side knows of it, and raises for a name that is not here.
Nothing has a default task.
"""

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from kdcache.cache.errors import BadOption, unknown
from kdcache.cache.spec import Task

if TYPE_CHECKING:
    from kdcache.cache.tasks.contract import TaskKind

SEGMENTATION: Task = "segmentation"
CLASSIFICATION: Task = "classification"
DETECTION: Task = "detection"


class TaskRow(NamedTuple):
    """Three things by 'package.module:NAME'."""

    kind: str  # a `TaskKind`
    supervised: str  # a loss class: the term that every run of the task has
    judge: str  # a judge class


def _row(name: Task) -> TaskRow:
    return TaskRow(
        f"kdcache.cache.tasks.{name}:KIND",
        f"kdcache.losses.supervised.{name}:Supervised",
        f"kdcache.trainer.judge.{name}:Judge",
    )


TASKS: dict[Task, TaskRow] = {name: _row(name) for name in (SEGMENTATION, CLASSIFICATION, DETECTION)}
# Identities and cards are digested, so the records of the first task still do not name it.
_UNNAMED = SEGMENTATION
_FIELD = "task"


def task_names() -> tuple[Task, ...]:
    return tuple(TASKS)


def task_row(name: Task, *, where: str = "task") -> TaskRow:
    """The line of a task. Raises BadOption for a name that is not in the table."""
    if name not in TASKS:
        raise unknown("task", str(name), TASKS, where=where)
    return TASKS[name]


def task_of(name: Task, *, where: str = "task") -> "TaskKind":
    """What the cache's side knows of a task. Raises BadOption for a name that is not in the table."""
    kind: TaskKind = load(task_row(name, where=where).kind)
    assert kind.name == name, f"the table calls '{kind.name}' '{name}'"
    return kind


def load(path: str) -> Any:
    """What 'package.module:NAME' of the table names."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def written(task: Task) -> dict[str, str]:
    """The field of a record that names its task; none for the task whose records do not say it."""
    return {} if task == _UNNAMED else {_FIELD: task}


def read_task(record: Mapping[str, Any], *, where: str) -> Task:
    """The task that a record of `written` names. Raises BadOption for one that is not in the table."""
    name = record.get(_FIELD, _UNNAMED)
    if not isinstance(name, str):
        raise BadOption(f"'{name}' is no task", where=where, fix=f"legal: {', '.join(TASKS)}")
    task_row(name, where=where)
    return name
