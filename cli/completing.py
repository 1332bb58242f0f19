"""What TAB offers behind options and commands: the runs, caches, sweeps and losses that there are.

A shell asks with every press of TAB, so nothing here opens a file or loads a library: names of folders are
enough. What cannot be listed is not offered; an error would be written into the line that is being typed.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem
from click.types import StringParamType

from kdcache.cache.errors import KdError
from kdcache.cache.record.find import caches_dir, home_dir, list_begun, runs_dir
from kdcache.cache.visible import shell_word

Names = Callable[[Path], Iterable[str]]


class Named(StringParamType):
    """A text of which the names that it may be are known; a path may stand for most of them."""

    def __init__(self, names: Names | None, *, between: str = "", path: str = "") -> None:
        """`names` of what lies in a home. `between`: letters that divide several of them in one word.
        `path`: 'dir' or 'file', what a shell offers in place of names where none begins so."""
        self._names, self._between, self._path = names, between, path

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        cut = 1 + max((incomplete.rfind(mark) for mark in self._between), default=-1)
        before, begun = incomplete[:cut], incomplete[cut:]
        if before.count("(") > before.count(")"):  # inside the options of a loss
            return []
        taken = ctx.params.get(param.name or "") if param.nargs == -1 else ()
        offered = [name for name in self._listed() if name.startswith(begun) and name not in (taken or ())]
        if offered or not self._path:
            return [CompletionItem(f"{before}{name}") for name in offered]
        return [CompletionItem(incomplete, type=self._path)]

    def _listed(self) -> list[str]:
        """Those that can be typed as they are: a shell would break others."""
        if self._names is None:
            return []
        try:
            return sorted(name for name in set(self._names(home_dir())) if shell_word(name) == name)
        except (KdError, OSError):
            return []


def _runs(home: Path) -> Iterable[str]:
    from kdcache.trainer.folder.run_folder import CONFIG_NAME

    return (path.parent.name for path in runs_dir(home).glob(f"*/{CONFIG_NAME}"))


def _students(home: Path) -> Iterable[str]:
    """Runs that have exported one."""
    from kdcache.trainer.bench.run_state import CARD

    return (path.parent.name for path in runs_dir(home).glob(f"*/{CARD}"))


def _caches(home: Path) -> Iterable[str]:
    return (path.name for path in list_begun(caches_dir(home)))


def _sweeps(home: Path) -> Iterable[str]:
    from kdcache.trainer.bench.sweep_folder import list_sweeps

    return (path.name for path in list_sweeps(home))


def _losses(home: Path) -> Iterable[str]:
    from kdcache.losses.plan.table import loss_names

    del home
    return loss_names()


_RUN, _STUDENT = Named(_runs, path="dir"), Named(_students, path="dir")
_CACHE, _LOSSES = Named(_caches, path="dir"), Named(_losses, between="+,")
# Parameter -> what it names, in every command where it is a plain text.
_OFFERED = {
    "run": _RUN, "runs": _RUN, "teacher": Named(_students, between=","), "images": Named(None, path="file"),
    "cache": _CACHE, "caches": _CACHE, "named": _CACHE, "first": _CACHE, "second": _CACHE,
    "sweep": Named(_sweeps, path="dir"), "loss": _LOSSES, "losses": _LOSSES,
}  # fmt: skip
# Command, parameter -> what it names there.
_OFFERED_BY = {
    **{(command, "run"): _STUDENT for command in ("eval", "export", "judge-run", "predict")},
    ("chain", "run"): None,  # the beginning of names that are new
    ("methods", "name"): Named(_losses),
    ("sweep", "cache"): Named(_caches, between=","),
}


def offer_names(command: click.Command, name: str | None) -> None:
    """Let a shell complete what the options and arguments of a command name."""
    for one in command.params:
        offered = _OFFERED_BY.get((name or "", one.name or ""), _OFFERED.get(one.name or ""))
        if offered is not None and type(one.type) is StringParamType:
            one.type = offered
