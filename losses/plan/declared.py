"""What a loss declares, read from its source: the options of an expression are checked before anybody waits
for torch.

Steps: path of the class -> its module's source (nothing of it runs) -> the class, or the base that it takes
a part from -> each annotation and default, whose names are looked up in the module: literals and aliases
there, the words of `losses/options.py`, further modules of this project in the same way. A test compares
every loss with its class.
"""

import ast
import builtins
import importlib.util
import inspect
import math
import typing
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

from kdcache.cache import grid
from kdcache.cache.tasks import table
from kdcache.losses import options
from kdcache.losses.options import OptionSpec, declared

# Modules without torch, whose own objects are taken: what annotations are made of.
_LIGHT = {one.__name__: one for one in (typing, math, options, grid, table)}
_BASE = "LossTerm"  # declares nothing itself


class Declared(NamedTuple):
    """What an expression may say of a loss. `companions` are the names that it brings."""

    options: Mapping[str, OptionSpec]
    aliases: Mapping[str, str]
    companions: tuple[str, ...]


@cache
def declared_by(path: str) -> Declared:
    """Of a class of this project, 'kdcache.losses.dense.cwd:ChannelWise'."""
    module_name, _, class_name = path.partition(":")
    module = _Module(module_name)
    lines = list(_line(module, class_name))
    init = next((one for one in lines if (one.function("__init__")) is not None), None)
    return Declared(
        {} if init is None else dict(init.declared_options()),
        next((one.value("aliases") for one in lines if one.has("aliases")), {}),
        tuple(next((one.value("companions") for one in lines if one.has("companions")), {})),
    )


class _Module:
    """The names of a module that was parsed and never run."""

    def __init__(self, name: str) -> None:
        self._name = name
        spec = importlib.util.find_spec(name)
        assert spec is not None and spec.loader is not None, name
        source = spec.loader.get_source(name)  # type: ignore[attr-defined]
        self._bound: dict[str, ast.stmt] = {}
        self._imported: dict[str, tuple[str, str]] = {}
        for statement in ast.parse(source).body:
            self._bind(statement)

    def _bind(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.ImportFrom):
            for one in statement.names:
                self._imported[one.asname or one.name] = (str(statement.module), one.name)
        elif isinstance(statement, ast.ClassDef):
            self._bound[statement.name] = statement
        for name in _assigned(statement):
            self._bound[name] = statement

    def value(self, name: str) -> Any:
        """What a name of the module stands for."""
        if name in self._imported:
            module, there = self._imported[name]
            if module in _LIGHT:
                return getattr(_LIGHT[module], there)
            return _module(module).value(there)
        if name not in self._bound:
            return getattr(builtins, name)
        return _assigned_value(self._bound[name], name, self)

    def evaluated(self, expression: ast.expr) -> Any:
        """An annotation or a default: names, literals and what is made of them."""
        names = {node.id for node in ast.walk(expression) if isinstance(node, ast.Name)}
        namespace = {name: self.value(name) for name in sorted(names)}
        return eval(compile(ast.Expression(expression), self._name, "eval"), namespace)

    def owner(self, class_name: str) -> tuple["_Module", ast.ClassDef]:
        """The module that holds a class, and its definition."""
        if class_name in self._imported:
            module, there = self._imported[class_name]
            return _module(module).owner(there)
        definition = self._bound[class_name]
        assert isinstance(definition, ast.ClassDef), class_name
        return self, definition


_module = cache(_Module)


class _Class(NamedTuple):
    """A class as its source says it."""

    module: _Module
    definition: ast.ClassDef

    def function(self, name: str) -> ast.FunctionDef | None:
        functions = (one for one in self.definition.body if isinstance(one, ast.FunctionDef))
        return next((one for one in functions if one.name == name), None)

    def has(self, name: str) -> bool:
        return any(name in _assigned(one) for one in self.definition.body)

    def value(self, name: str) -> Any:
        statement = next(one for one in self.definition.body if name in _assigned(one))
        return _assigned_value(statement, name, self.module)

    def declared_options(self) -> Iterator[tuple[str, OptionSpec]]:
        """The keyword-only parameters of `__init__`, as `option_specs` reads them of a class."""
        init = self.function("__init__")
        assert init is not None
        for parameter, default in zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True):
            hint = None if parameter.annotation is None else self.module.evaluated(parameter.annotation)
            value = inspect.Parameter.empty if default is None else self.module.evaluated(default)
            yield parameter.arg, declared(parameter.arg, hint, value, where=self.definition.name)


def _line(module: _Module, class_name: str) -> Iterator[_Class]:
    """A class and its bases up to the one of all losses, the nearest first."""
    if class_name == _BASE:
        return
    owner, definition = module.owner(class_name)
    yield _Class(owner, definition)
    for base in definition.bases:
        if isinstance(base, ast.Name):
            yield from _line(owner, base.id)


def _assigned(statement: ast.stmt) -> tuple[str, ...]:
    """The names that a statement assigns to, also 'A, B = 1, 2'."""
    targets: list[ast.expr] = []
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign):
        targets = [statement.target]
    parts = (part for one in targets for part in (one.elts if isinstance(one, ast.Tuple) else (one,)))
    return tuple(part.id for part in parts if isinstance(part, ast.Name))


def _assigned_value(statement: ast.stmt, name: str, module: _Module) -> Any:
    assert isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None, name
    value = module.evaluated(statement.value)
    several = isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Tuple)
    return value[_assigned(statement).index(name)] if several else value
