"""What a sweep is asked to do: losses x students x options x seeds over caches, from a file or typed.

    loss = ["kd", "cwd(tau=4)", "afdcd"]
    student = ["r18", "mbv2"]
    seeds = 3                      # 0, 1, 2; or a list
    cache = ["camvid-r50-1a2b3c4d"]   # left out: the only one
    name = "ablation"
    [options]                      # of kdtrain; a list is an axis of the grid
    steps = 2000
    lr = [0.01, 0.02]

What is typed wins over the file. Nothing here is slow: names and types are checked before torch is loaded.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import msgspec
import tomli_w

from kdcache.cache.errors import BadOption, Missing, Refused, unknown
from kdcache.cache.files.regular import read_text
from kdcache.cache.files.system import touching, user_path
from kdcache.cache.networks.names import is_library
from kdcache.cache.sources.table import SOURCES
from kdcache.cache.trust import names_in, require_trust
from kdcache.losses.plan.expression import parse_expression, where_in
from kdcache.losses.plan.table import loss_names
from kdcache.trainer.config import TrainConfig
from kdcache.trainer.folder.option_field import about

KEYS = ("name", "loss", "student", "seeds", "cache", "fresh", "options")
OWN = ("run", "loss", "student", "seed", "cache")  # options of kdtrain that the sweep gives each cell itself
DEFAULT_NAME = "sweep"
MOST_CELLS, MOST_SEEDS = 10_000, 1_000
_NAME = re.compile(r"(?![.])[A-Za-z0-9_.+=@-]{1,80}")
_OPTIONS = {one.name: one for one in fields(TrainConfig)}
Value = str | int | float | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A sweep as it was asked for. `options` holds values as they are typed behind a flag."""

    name: str = DEFAULT_NAME
    losses: tuple[str, ...] = ()
    students: tuple[str, ...] = (TrainConfig.student,)
    seeds: tuple[int, ...] = (TrainConfig.seed,)
    caches: tuple[str, ...] = ()  # none: the only one, or no cache where `options` names data
    fresh: bool = True  # whether `none` on fresh views is a cell too
    options: Mapping[str, Value] = field(default_factory=dict)
    axes: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)

    def to_toml(self) -> str:
        """As `read_definition` reads it."""
        table: dict[str, Any] = {"name": self.name, "loss": list(self.losses), "student": list(self.students)}
        table |= {"seeds": list(self.seeds), "fresh": self.fresh}
        table |= {"cache": list(self.caches)} if self.caches else {}
        axes = {name: list(values) for name, values in self.axes.items()}
        return tomli_w.dumps(table | {"options": {**self.options, **axes}})


def read_definition(path: Path | None, typed: Mapping[str, Any]) -> Definition:
    """The definition of a file, or none, with what was typed in place of what the file says.

    `typed` has the keys of a file; its table `options` only what was written. Raises BadOption and Missing.
    """
    table: dict[str, Any] = {} if path is None else _of_file(path)
    where = "kdtrain sweep" if path is None else str(path)
    options = {**_table(table.pop("options", {}), where), **typed.get("options", {})}
    merged = {**table, **{name: value for name, value in typed.items() if name != "options"}}
    if path is not None and "name" not in merged:
        merged["name"] = re.sub(r"[^A-Za-z0-9_.+=@-]+", "_", path.stem).strip("._") or DEFAULT_NAME
    for name in merged:
        if name not in KEYS:
            raise _unknown_key(name, where)
    axes = {name: tuple(value) for name, value in options.items() if isinstance(value, list)}
    made = Definition(
        **_values(merged, where),
        options={name: value for name, value in options.items() if name not in axes},
        axes=axes,
    )
    _check(made, where)
    if path is not None:
        _require_consent(made, where)
    return made


def split_list(text: str, where: str) -> tuple[str, ...]:
    """'kd,cwd(tau=4,weight=3)' -> ('kd', 'cwd(tau=4,weight=3)'). Raises BadOption for an empty part."""
    parts = [part.strip() for part in re.split(r",(?![^(]*\))", text)]
    if not all(parts):
        raise BadOption(f"'{text}' has an empty name", where=where, fix="write names with single commas")
    return tuple(parts)


def read_seeds(value: object, where: str) -> tuple[int, ...]:
    """3 -> 0, 1, 2; [0, 5] and '0,5' as they are, '5,' is the seed 5 alone. Raises BadOption."""
    if isinstance(value, str):
        words = [word.strip() for word in value.removesuffix(",").split(",")]
        numbers: list[Any] = [int(word) if re.fullmatch(r"[0-9]{1,18}", word) else word for word in words]
        value = numbers[0] if len(numbers) == 1 and not value.endswith(",") else numbers
    if type(value) is int and 1 <= value <= MOST_SEEDS:
        return tuple(range(value))
    listed = value if isinstance(value, list) else []
    if not listed or any(type(one) is not int for one in listed) or len(set(listed)) < len(listed):
        raise BadOption(
            f"'{value}' says no seeds",
            where=where,
            fix=f"give how many, 1 to {MOST_SEEDS}, as 3; or different ones, as 0,1,5",
        )
    return tuple(listed)


def read_option(name: str, value: Value) -> Any:
    """The value of an option as `TrainConfig` has it. Raises BadOption."""
    read = about(_OPTIONS[name]).read
    return read(value) if read is not None and isinstance(value, str) else value


def check_options(values: Mapping[str, Value], where: str) -> TrainConfig:
    """The options of one cell, of which each alone and all together can work. Raises BadOption."""
    ready = {"run": "unnamed", **{name: read_option(name, value) for name, value in values.items()}}
    try:
        msgspec.convert(ready, type=TrainConfig)
    except msgspec.ValidationError as error:
        if isinstance(error.__cause__, BadOption):
            raise error.__cause__ from None
        raise BadOption(
            f"an option is of another type: {error}", where=where, fix="write the value as behind its flag"
        ) from error
    return TrainConfig(**ready)


def _of_file(path: Path) -> dict[str, Any]:
    path = user_path(path)
    if not path.is_file():
        raise Missing(
            f"there is no sweep file '{path}'",
            where=str(path),
            fix="write one (docs/sweeps.md), or name the grid: kdtrain sweep --loss kd,cwd --seeds 3",
        )
    try:
        with touching(f"'{path.name}' cannot be read", path):
            return tomllib.loads(read_text(path))
    except Refused:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise BadOption(
            f"the sweep's file cannot be read: {error}", where=str(path), fix="correct it; it is TOML"
        ) from error


def _unknown_key(name: str, where: str) -> BadOption:
    error = unknown("key", name, KEYS, where=where)
    if name.replace("-", "_") in _OPTIONS:
        return BadOption(error.what, where=where, fix="options of kdtrain stand below the line [options]")
    return error


def _table(value: object, where: str) -> dict[str, Any]:
    """The options by field name."""
    if not isinstance(value, dict):
        raise BadOption("'options' is no table", where=where, fix="write [options], and an option on a line")
    return {name.replace("-", "_"): one for name, one in value.items()}


def _values(merged: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Fields of `Definition` from the keys of a file."""
    values: dict[str, Any] = {}
    for key, name in (("loss", "losses"), ("student", "students"), ("cache", "caches")):
        if key in merged:
            values[name] = _words(merged[key], key, where)
    if "seeds" in merged:
        values["seeds"] = read_seeds(merged["seeds"], where)
    for key, kind in (("name", str), ("fresh", bool)):
        if key in merged and type(merged[key]) is not kind:
            raise BadOption(
                f"'{key}' is {merged[key]!r}",
                where=where,
                fix=f"give {'a text' if kind is str else 'true or false'}",
            )
        values |= {key: merged[key]} if key in merged else {}
    return values


def _words(value: object, key: str, where: str) -> tuple[str, ...]:
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not listed or not all(isinstance(one, str) for one in listed):
        raise BadOption(f"'{key}' is {value!r}", where=where, fix=f'give names: {key} = ["A", "B"]')
    words = [word for one in listed for word in split_list(one, where)]
    return tuple(dict.fromkeys(words))


def _check(made: Definition, where: str) -> None:
    if not _NAME.fullmatch(made.name):
        raise BadOption(
            f"a sweep cannot be called '{made.name}'",
            where=where,
            fix="give a name of letters, digits and -_.+=@, at most 80; it begins the name of each run",
        )
    if not made.losses:
        raise BadOption(
            "a sweep without a loss",
            where=where,
            fix="name losses: --loss kd,cwd; 'kdtrain methods' lists all",
        )
    for name in (*made.options, *made.axes):
        _check_name(name, where)
    for loss in made.losses:
        _check_loss(loss)
    named = [(name, value) for name, values in made.axes.items() for value in values]
    for name, value in [*made.options.items(), *named]:
        if not isinstance(value, (str, int, float, bool)):
            raise BadOption(f"'{name}' is {value!r}", where=where, fix="write each value as behind its flag")
    for name, values in made.axes.items():
        if not values or len(set(map(str, values))) < len(values):
            raise BadOption(
                f"'{name}' lists {'nothing' if not values else 'a value twice'}",
                where=where,
                fix="a list is an axis of the grid: give different values, or one value without brackets",
            )
    _check_values(made, where)


def _check_name(name: str, where: str) -> None:
    if name not in _OPTIONS:
        raise unknown("option", name, set(_OPTIONS) - set(OWN), where=where)
    if name in OWN:
        said = {"run": "each cell has a name of its own, which begins with the sweep's", "seed": "use seeds"}
        raise BadOption(
            f"'{name}' is no option of a sweep's cells",
            where=where,
            fix=said.get(name, f"it is a key of its own: {name} = [...] above [options]"),
        )


def _check_loss(loss: str) -> None:
    for term in parse_expression(loss):
        if ":" not in term.name and term.name not in loss_names():
            raise unknown("loss", term.name, loss_names(), where=where_in(loss))


def _check_values(made: Definition, where: str) -> None:
    """Every value of every axis once, beside the other options."""
    first = {**made.options, **{name: values[0] for name, values in made.axes.items()}}
    for seed in made.seeds:
        check_options({**first, "seed": seed}, where)
    for name, values in made.axes.items():
        for value in values:
            check_options({**first, name: value}, where)


def words_of(made: Definition) -> Iterable[str]:
    """Every text of a definition that may name code."""
    values: Sequence[Value] = [*made.options.values(), *(v for values in made.axes.values() for v in values)]
    texts = [value for value in values if isinstance(value, str) and value.partition(":")[0] not in SOURCES]
    return (*made.losses, *made.students, *texts)


def _require_consent(made: Definition, where: str) -> None:
    """A file is no command line: code that it names and nobody typed is not run."""
    require_trust([name for name in names_in(words_of(made)) if not is_library(name)], where=where)


def with_caches(made: Definition, caches: Sequence[str]) -> Definition:
    """The same with its caches decided."""
    return replace(made, caches=tuple(dict.fromkeys(caches)))
