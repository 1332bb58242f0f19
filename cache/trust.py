"""Whose code may run: what this command line names, what `--trust` names, and kdcache's own.

A factory, loss, codec or reduction may be named in a file that was read: a manifest, a run's card or
configuration. Files come from strangers, so such a name is imported only with consent. Consent is given for
modules: `--teacher my.nets:make` is consent for all of `my.nets`.
"""

import importlib
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from kdcache.cache.errors import BadOption
from kdcache.cache.visible import shell_line

OPTION = "--trust"
# Rooms whose own functions and classes a file may name: they compute on tensors. Not all of kdcache: other
# rooms write files and start processes.
_OWN = ("kdcache.losses.", "kdcache.cache.codecs.")
_NAMED = re.compile(r"(?<![\w.:/])([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):[A-Za-z_]\w*")
_trusted: set[str] = set()  # modules, for the whole process
_commands: list[tuple[str, ...]] = []  # what was typed, for an error to repeat


def trust(name: str) -> None:
    """Let files that are read name code of the module `name`, or of the module of 'module:attribute'."""
    _trusted.add(module_of(name))


def module_of(path: str) -> str:
    """'my.nets' of 'my.nets:make'."""
    return path.partition(":")[0]


def names_in(words: Iterable[str]) -> list[str]:
    """Every 'package.module:attribute' in what somebody typed."""
    return [match[0] for word in words for match in _NAMED.finditer(word)]


@contextmanager
def consent(names: Iterable[str], command: Sequence[str] = ()) -> Iterator[None]:
    """Within it, the modules of `names` are trusted; `command` is what was typed, for errors to repeat."""
    added = {module_of(name) for name in names} - _trusted
    _trusted.update(added)
    _commands.append(tuple(command) or current_command())  # a call inside a command is of that command
    try:
        yield
    finally:
        _trusted.difference_update(added)
        _commands.pop()


def current_command() -> tuple[str, ...]:
    """What was typed; () for a call from Python."""
    return _commands[-1] if _commands else ()


def command_with(*options: str) -> str:
    """What was typed with `options` behind it, to be typed; '' for a call from Python."""
    typed = current_command()
    return shell_line([*typed, *options]) if typed else ""


def typed_option(flag: str) -> bool:
    """Whether the command line has this option."""
    return any(flag in (word, word.partition("=")[0]) for word in current_command())


def is_trusted(path: str) -> bool:
    module = module_of(path)
    return module in _trusted or module.startswith(_OWN)


def require_trust(paths: Iterable[str], *, where: str) -> None:
    """Raises BadOption, naming all of these that nobody trusts and the line to type, before any is
    imported."""
    strange = sorted({path for path in paths if not is_trusted(path)})
    if not strange:
        return
    named = ", ".join(f"'{path}'" for path in strange)
    raise BadOption(
        f"{named}: code of somebody's own, named in a file and not on this command line",
        where=where,
        fix=f"if you trust it: {_line(strange)}",
    )


def import_named(path: str) -> Any:
    """The module of 'package.module:attribute'. Whoever read the name from a file asked `require_trust`
    before.

    Raises what importing raises.
    """
    return importlib.import_module(module_of(path))


def _line(strange: Sequence[str]) -> str:
    options = [word for path in strange for word in (OPTION, path)]
    if line := command_with(*options):
        return line
    calls = "; ".join(f"trust({path!r})" for path in strange)
    return f"{calls} of kdcache.cache.trust, or on a command line {shell_line(options)}"
