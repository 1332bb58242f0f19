"""`--data package.module:Class:DIR`: a source of somebody's own, a child of BaseSource or of a source here.

Its name is 'package.module:Class', in a cache's identity too; its label is its folder's own name, for of
one's own data there may be several. What its code raises becomes an error that points at the line.
"""

import functools
import inspect
import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kdcache.cache.errors import BadOption, KdError, unknown
from kdcache.cache.sources.contract import BaseSource
from kdcache.cache.tasks.table import task_of
from kdcache.cache.trust import import_named, module_of

_OWN = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*):(.*)", re.DOTALL)
# What is asked of a source from outside, so where code of somebody's own is entered.
_ASKED = (
    *("image_bytes", "label_bytes", "class_of", "files", "stamp", "content", "size", "num_bytes", "check"),
    *("describe", "notes", "leave_out_empty", "missing_folder"),
)
_DERIVE = "derive it from FileSource or BaseSource of kdcache.cache.sources.contract, as docs/own.md shows"


def own_parts(spec: str) -> tuple[str, str] | None:
    """'package.module:Class' and 'DIR' of a spec of that form. Whether its first word is the name of a
    dataset, and the rest a folder with a colon, the caller knows."""
    match = _OWN.fullmatch(spec)
    return (match[1], match[2]) if match else None


def own_source(path: str) -> type[BaseSource]:
    """The source class 'package.module:Class', for a caller that asked `require_trust` before.

    Raises BadOption for a module or class that is not there, and for one that is no source.
    """
    module_name, _, class_name = path.partition(":")
    try:
        module = import_named(path)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise BadOption(
                f"the module imports '{error.name}', which is not there", where=path, fix="install it"
            ) from error
        raise BadOption(
            f"there is no module '{error.name}' to import, and no dataset of that name",
            where=f"--data {path}:DIR",
            fix="install it, or set PYTHONPATH to its folder",
        ) from error
    except Exception as error:  # code of somebody's own may fail in any way
        raise _failed(f"importing '{module_name}'", error, module_name) from error
    kind = getattr(module, class_name, None)
    if kind is None:
        classes = [n for n, v in vars(module).items() if isinstance(v, type) and issubclass(v, BaseSource)]
        raise unknown(f"class of module '{module_name}'", class_name, classes, where=f"--data {path}:DIR")
    if not (isinstance(kind, type) and issubclass(kind, BaseSource)):
        raise BadOption(f"'{path}' is not a class of a source", where=f"--data {path}:DIR", fix=_DERIVE)
    if absent := [*sorted(kind.__abstractmethods__), *(() if hasattr(kind, "layout") else ("layout",))]:
        raise BadOption(
            f"'{class_name}' lacks {', '.join(absent)}", where=_line_of(kind), fix=f"add it: {_DERIVE}"
        )
    return _guarded(kind, path)


@functools.cache
def _guarded(kind: type[BaseSource], path: str) -> type[BaseSource]:
    """A child whose methods point at the code that failed."""
    members: dict[str, Any] = {"name": path, "__module__": kind.__module__, "__doc__": kind.__doc__}
    for name in _ASKED:
        member = inspect.getattr_static(kind, name, None)
        if isinstance(member, property) and member.fget is not None:
            members[name] = property(_pointing(member.fget, kind, name))
        elif isinstance(member, classmethod):
            members[name] = classmethod(_pointing(member.__func__, kind, name))
        elif inspect.isfunction(member):
            members[name] = _pointing(member, kind, name)
    split_reader = inspect.getattr_static(kind, "splits_in")
    members["splits_in"] = classmethod(_pointing(split_reader.__func__, kind, "splits_in"))
    if inspect.getattr_static(kind, "label") is inspect.getattr_static(BaseSource, "label"):
        members["label"] = property(lambda self: self.root.name or kind.__name__)

    def start(self: BaseSource, root: Path, split: str) -> None:
        with _pointed(kind, "__init__"):
            kind.__init__(self, root, split)
        _check(self, kind)

    members["__init__"] = start
    return type(kind.__name__, (kind,), members)


def _pointing(function: Callable[..., Any], kind: type, name: str) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        with _pointed(kind, name):
            return function(*arguments, **named)

    return call


@contextmanager
def _pointed(kind: type, name: str) -> Iterator[None]:
    try:
        yield
    except (KdError, MemoryError):
        raise
    except Exception as error:  # code of somebody's own may fail in any way
        raise _failed(f"{kind.__name__}.{name}", error, kind.__module__) from error


def _failed(what: str, error: Exception, module_name: str) -> BadOption:
    """The error that names the last line of that module which was run."""
    text = (str(error).splitlines() or [""])[0]
    frames = traceback.extract_tb(error.__traceback__)
    last = module_of(module_name).rpartition(".")[2]
    own = [frame for frame in frames if Path(frame.filename).stem == last] or list(frames)
    place = f"{own[-1].filename}:{own[-1].lineno}" if own else module_name
    if isinstance(error, SyntaxError) and error.filename:
        place = f"{error.filename}:{error.lineno}"
    return BadOption(
        f"{what} failed: {type(error).__name__}: {text}",
        where=place,
        fix="correct this line of the source, which is code of your own",
    )


def _check(source: BaseSource, kind: type[BaseSource]) -> None:
    """Raises BadOption for what a source must say of itself and this one does not."""
    where, names = _line_of(kind), getattr(source, "class_names", None)
    task_of(str(getattr(source, "task", None)), where=f"task of {where}")
    wrong = ""
    if not isinstance(names, tuple | list) or not names or not all(isinstance(n, str) for n in names):
        wrong = f"class_names is {_short(names)}; give a tuple of names, by train id"
    elif len(set(names)) != len(names):
        wrong = "class_names holds a name twice; give every class its own"
    crop = getattr(source, "default_crop", None)
    if not (isinstance(crop, tuple) and len(crop) == 2 and all(type(n) is int and n > 0 for n in crop)):
        wrong = wrong or f"default_crop is {_short(crop)}; give (height, width) in pixels"
    keys = getattr(source, "keys", None)
    if keys is None or not len(keys) or len(set(keys)) != len(keys):
        wrong = wrong or "keys are absent, or two are equal; give each sample a name of its own"
    if wrong:
        what, _, fix = wrong.partition("; ")
        raise BadOption(f"of a source {what}", where=where, fix=fix)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _line_of(kind: type) -> str:
    """'file.py:12', where the class begins."""
    try:
        return f"{inspect.getsourcefile(kind)}:{inspect.getsourcelines(kind)[1]}"
    except (OSError, TypeError):  # typed in, or made while running
        return f"{kind.__module__}:{kind.__name__}"
