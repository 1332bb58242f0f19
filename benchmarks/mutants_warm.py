"""Trials without a new collection: one process collects the tests of all changes, a fork of it tries each.

A change inside a function is made by giving the running function the changed code, a change of a constant by
giving its new value to every module that has it by name: nothing is imported or collected again. What cannot
be made that way (classes, decorators, imports), and whatever is not red here, is tried on a changed copy by
`mutants`, whose word counts: tests that start processes see only files.
"""

import importlib
import os
import signal
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

UNCHANGED = "unchanged"
LIMIT_S = 1500
TRIAL_LIMIT_S = 120  # limits that tests set themselves do not hold here; a hang is tried again where they do


def functions_in(owner: Any, module: str, prefix: str = "") -> Iterator[tuple[str, types.FunctionType]]:
    """(dotted name, innermost function) of what a module or class defines itself."""
    for name, value in list(vars(owner).items()):
        while isinstance(value, staticmethod | classmethod):
            value = value.__func__
        if isinstance(value, property):
            value = value.fget
        if getattr(value, "__module__", None) != module:
            continue
        if isinstance(value, type):
            yield from functions_in(value, module, f"{prefix}{name}.")
        while hasattr(value, "__wrapped__"):
            value = value.__wrapped__
        if isinstance(value, types.FunctionType):
            yield prefix + name, value


def swap(file: Path, module: str, changed: str, symbol: str) -> bool:
    """Give the loaded module what the changed text says; False where that cannot be done this way."""
    loaded = importlib.import_module(module)
    fresh = types.ModuleType(module)
    fresh.__file__ = loaded.__file__
    sys.modules[module] = fresh  # classes and dataclasses look their module up
    exec(compile(changed, str(file), "exec"), fresh.__dict__)
    sys.modules[module] = loaded
    new = dict(functions_in(fresh, module))
    done = 0
    for name, function in functions_in(loaded, module):
        other = new.get(name)
        if other is None or not _differ(function, other):
            continue
        function.__code__ = other.__code__
        function.__defaults__, function.__kwdefaults__ = other.__defaults__, other.__kwdefaults__
        done += 1
    return bool(done) or _swap_constant(loaded, fresh, symbol)


def _differ(one: types.FunctionType, other: types.FunctionType) -> bool:
    """Positions in the file apart."""
    parts = ("co_code", "co_consts", "co_names", "co_varnames")
    codes = any(getattr(one.__code__, part) != getattr(other.__code__, part) for part in parts)
    return codes or (one.__defaults__, one.__kwdefaults__) != (other.__defaults__, other.__kwdefaults__)


def _swap_constant(loaded: types.ModuleType, fresh: types.ModuleType, symbol: str) -> bool:
    """Only plain values: what was computed from them when modules were loaded keeps the old one."""
    old, new = getattr(loaded, symbol, None), getattr(fresh, symbol, None)
    if not isinstance(old, int | float | str | tuple) or type(old) is not type(new) or old == new:
        return False
    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").startswith("kdcache") and vars(module).get(symbol) is old:
            setattr(module, symbol, new)
    return True


class Trials:
    """A plugin that tries changes instead of running what was collected.

    `trials` are (room, mutant) pairs; `changed_text(mutant)` gives (file, dotted module, text) or None.
    Lines of `out`: 'unchanged' when all tests pass as the code is, then the number of each red trial.
    """

    def __init__(self, trials: Sequence[tuple[str, Any]], changed_text: Any, jobs: int, out: Path) -> None:
        self.trials, self.changed_text, self.jobs, self.out = trials, changed_text, jobs, out
        self._running: dict[int, str] = {}  # process -> what its success means

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self._fork(UNCHANGED, lambda: not self._fails(session.items))
        self._wait()
        if not self.out.is_file():
            return True
        for number, (_, mutant) in enumerate(self.trials):
            if len(self._running) >= self.jobs:
                self._wait()
            named = [item for test in mutant.tests.split() for item in session.items if _is_of(item, test)]
            self._fork(str(number), partial(self._red, mutant, named))
        while self._running:
            self._wait()
        return True

    def _fork(self, line: str, work: Callable[[], bool]) -> None:
        """A child that says by its exit status whether `line` may be written. A hang ends in SIGALRM."""
        pid = os.fork()
        if pid == 0:
            verdict = False
            try:
                signal.alarm(LIMIT_S)
                verdict = work()
            finally:
                os._exit(0 if verdict else 3)
        self._running[pid] = line

    def _wait(self) -> None:
        pid, status = os.wait()
        line = self._running.pop(pid)
        if os.waitstatus_to_exitcode(status) == 0:
            with self.out.open("a") as file:
                file.write(f"{line}\n")

    def _red(self, mutant: Any, items: Sequence[pytest.Item]) -> bool:
        made = self.changed_text(mutant)
        if made is None or not items or not swap(*made, mutant.symbol.rpartition(":")[2]):
            return False
        signal.alarm(TRIAL_LIMIT_S)
        return self._fails(items)

    def _fails(self, items: Sequence[pytest.Item]) -> bool:
        """In a child: whether a test fails."""
        for item, following in zip(items, [*items[1:], None], strict=True):
            reports = runtestprotocol(item, log=False, nextitem=following)
            for report in reports:
                if report.failed:
                    print(item.nodeid, report.longreprtext[-2000:], flush=True)
                    return True
        return False


def _is_of(item: pytest.Item, test: str) -> bool:
    return item.nodeid == test or item.nodeid.startswith((f"{test}[", f"{test}::"))
