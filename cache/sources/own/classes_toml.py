"""`classes.toml` beside images and labels: class names, and which values or colours of the labels they are.

    [[class]]
    name = "road"
    id = [7, 8]                         # of the label files; one number or several
    colour = "#804080"                  # or [128, 64, 128], or several of these
    [ignore]
    id = [0, 255]
    colour = "#000000"

Train ids follow the order of the classes. Without any `id` and `colour` the values are 0, 1, 2 ...; with
colours alone every label is looked up by colour, with both by value where it has one channel. 255 is ignored
unless it is named. A colour is also what pictures show the class in.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kdcache.cache.errors import BadOption, Refused, nearest
from kdcache.cache.files.regular import read_text
from kdcache.cache.sources.labels import MOST_VALUE, ClassMap, Colour, colour_text, packed
from kdcache.cache.spec import IGNORE

CLASSES_FILE = "classes.toml"
MAX_BYTES = 1 << 20
MOST_ENTRIES = 4096  # values and colours: they stand in the identity of every cache
_HEX = re.compile(r"#[0-9A-Fa-f]{6}")
_EXAMPLE = '[[class]], name = "road", id = 7, colour = "#804080"'
_COLOURS_FIX = 'write "#804080", [128, 64, 128] with numbers from 0 to 255, or a list of these'


class Classes(NamedTuple):
    names: tuple[str, ...]
    class_map: ClassMap


class _Entry(NamedTuple):
    """A class, or what is ignored."""

    name: str
    ids: list[int]
    colours: list[Colour]


def read_classes(path: Path) -> Classes:
    """Raises BadOption for a file that is no TOML, or whose classes cannot number labels."""
    tables = _tables(path)
    _refuse_unknown(tables, ("class", "ignore"), "the file", path)
    classes = tables.get("class")
    if not isinstance(classes, list) or not 1 <= len(classes) <= IGNORE:
        count = len(classes) if isinstance(classes, list) else "no list of"
        raise _bad(f"{count} classes cannot number labels", path, f"give 1 to {IGNORE}, each as {_EXAMPLE}")
    entries = [_class(table, number, path) for number, table in enumerate(classes)]
    ignored = _entry(tables.get("ignore", {}), ("id", "colour"), "[ignore]", path)
    _check_names([entry.name for entry in entries], path)
    return _mapped(entries, ignored, path)


def _tables(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_text(path, MAX_BYTES))
    except Refused:
        raise
    except (OSError, ValueError, RecursionError) as error:
        what = "its values lie too deep in each other" if isinstance(error, RecursionError) else str(error)
        raise _bad(f"'{path.name}' cannot be read: {what}", path, f"write classes as {_EXAMPLE}") from error


def _class(table: object, number: int, path: Path) -> _Entry:
    name = table.get("name") if isinstance(table, dict) else None
    if not isinstance(name, str) or not name.strip():
        raise _bad(f"class {number} has no name that is a text", path, f"write {_EXAMPLE}")
    return _entry(table, ("name", "id", "colour"), name, path)


def _entry(table: object, legal: Sequence[str], name: str, path: Path) -> _Entry:
    if not isinstance(table, dict):
        raise _bad(f"{name} is no table", path, f"write {name} on a line of its own, and id = 0 below it")
    _refuse_unknown(table, legal, name, path)
    ids = table.get("id", [])
    ids = ids if isinstance(ids, list) else [ids]
    for value in ids:
        if type(value) is not int or not 0 <= value <= MOST_VALUE:  # True is an int too
            raise _bad(
                f"{name} has the id {_short(value)}, which no label can hold",
                path,
                f"give a whole number from 0 to {MOST_VALUE}, or a list of such numbers",
            )
    return _Entry(name, ids, [_colour(one, name, path) for one in _several(table.get("colour", []))])


def _several(given: object) -> list[object]:
    """One colour or a list of them, as a list."""
    alone = not isinstance(given, list) or bool(given) and all(type(part) is int for part in given)
    return [given] if alone else list(given)  # type: ignore[call-overload]


def _colour(given: object, name: str, path: Path) -> Colour:
    if isinstance(given, str) and _HEX.fullmatch(given):
        given = list(bytes.fromhex(given[1:]))
    numbers = given if isinstance(given, list) else []
    if len(numbers) != 3 or not all(type(n) is int and 0 <= n <= 255 for n in numbers):
        raise _bad(f"{name} has the colour {_short(given)}, which is no colour", path, _COLOURS_FIX)
    return numbers[0], numbers[1], numbers[2]


def _check_names(names: Sequence[str], path: Path) -> None:
    for name in names:
        if names.count(name) > 1:
            raise _bad(f"two classes are called '{name}'", path, "give every class a name of its own")


def _mapped(entries: Sequence[_Entry], ignored: _Entry, path: Path) -> Classes:
    coloured = any(entry.colours for entry in entries)
    by_value = any(entry.ids for entry in entries)
    if not (coloured or by_value):  # the order of the names numbers them, as classes.txt does
        entries, by_value = [entry._replace(ids=[i]) for i, entry in enumerate(entries)], True
    for entry in entries:
        absent = "id" if by_value and not entry.ids else "colour" if not (by_value or entry.colours) else ""
        if absent:
            fix = f"give every class an {absent}, or none" if by_value else "give every class a colour"
            raise _bad(f"'{entry.name}' has no {absent}, and other classes have one", path, fix)
    everything = [*((i, entry) for i, entry in enumerate(entries)), (IGNORE, ignored)]
    ids = _owners(
        ((value, i, e.name) for i, e in everything for value in e.ids), path, lambda value: f"id {value}"
    )
    if by_value:
        ids.setdefault(IGNORE, IGNORE)
    elif ids:
        raise _bad("[ignore] has an id, and the classes have colours alone", path, "name its colour instead")
    colours = _owners(
        ((c, i, e.name) for i, e in everything for c in e.colours),
        path,
        lambda c: f"colour {colour_text(packed(c))}",
    )
    if len(ids) + len(colours) > MOST_ENTRIES:
        what = f"{len(ids) + len(colours)} ids and colours are more than {MOST_ENTRIES}"
        raise _bad(what, path, "leave out those that no label holds")
    return Classes(tuple(entry.name for entry in entries), ClassMap(ids, of_colours=colours))


def _owners(claims: Any, path: Path, said: Any) -> dict[Any, int]:
    """Value -> train id of the only one that claims it. Raises BadOption for two."""
    train_ids: dict[Any, int] = {}
    names: dict[Any, str] = {}
    for value, train_id, name in claims:
        if value in train_ids:
            both = f"twice of {name}" if names[value] == name else f"of {names[value]} and of {name}"
            raise _bad(f"{said(value)} is {both}", path, "keep it in one place")
        train_ids[value], names[value] = train_id, name
    return train_ids


def _refuse_unknown(table: Mapping[str, object], legal: Sequence[str], name: str, path: Path) -> None:
    for key in table:
        if key not in legal:
            close = nearest(key, legal)
            hint = f"did you mean '{close}'? " if close else ""
            raise _bad(f"{name} has an unknown key '{key}'", path, f"{hint}legal: {', '.join(legal)}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _bad(what: str, path: Path, fix: str) -> BadOption:
    return BadOption(what, where=str(path), fix=fix)
