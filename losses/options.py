"""Options of a loss, read from the keyword-only parameters of its `__init__`.

The annotation is the whole declaration: `float`, `int`, `bool`, `str`, `tuple[int, int]` (written 4 or 2x4),
`Literal["a", "b"]`, unions of these; ranges (`Positive`, `Share`, ...) and a sentence with the unit (`About`)
by `Annotated`, as in `tau: Annotated[Positive, About("temperature, divides the logits")] = 4.0`. Every option
has a default.
"""

import inspect
import math
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from kdcache.cache.spec import BadOption, unknown

OptionValue = float | int | bool | str | tuple[int, int]
# Squares of it, as of a temperature, are still inside of float32; a count of as many things has no memory.
LARGEST: Mapping[type, float] = {float: 1e15, int: 10**9}


class Range(NamedTuple):
    """Legal numbers from `low` to `high`; `above` leaves `low` itself out."""

    low: float
    high: float = math.inf
    above: bool = False

    def holds(self, number: float) -> bool:
        return (number > self.low if self.above else number >= self.low) and number <= self.high

    def __str__(self) -> str:
        start = f"above {self.low:g}" if self.above else f"from {self.low:g}"
        return start if math.isinf(self.high) else f"{start} to {self.high:g}"


Positive = Annotated[float, Range(0.0, above=True)]
NotNegative = Annotated[float, Range(0.0)]
Share = Annotated[float, Range(0.0, 1.0)]
Count = Annotated[int, Range(1)]
Pair = Annotated[tuple[int, int], Range(1)]


class About(NamedTuple):
    """What an option means, with its unit: a line of `kdtrain methods NAME`."""

    text: str


class OptionSpec(NamedTuple):
    name: str
    kinds: tuple[Any, ...]  # float, int, bool, str, tuple, or a Literal's members as strings
    default: OptionValue
    legal: Range | None
    about: str = ""


WEIGHT = OptionSpec("weight", (float,), 1.0, Range(0.0), "multiplies the whole term")


def option_specs(loss_class: type) -> dict[str, OptionSpec]:
    """Name -> declaration of every option of a loss class, in the order of its signature."""
    init: Callable[..., object] = loss_class.__init__  # type: ignore[misc]
    hints = get_type_hints(init, include_extras=True)
    keywords = [p for p in inspect.signature(init).parameters.values() if p.kind is p.KEYWORD_ONLY]
    where = f"{loss_class.__module__}:{loss_class.__qualname__}"
    return {p.name: declared(p.name, hints.get(p.name), p.default, where=where) for p in keywords}


def declared(name: str, hint: Any, default: Any, *, where: str) -> OptionSpec:
    """One option from its annotation and default. BadOption for its author where either is missing."""
    notes: tuple[Any, ...] = ()
    if get_origin(hint) is Annotated:
        hint, *rest = get_args(hint)
        notes = tuple(rest)
    kinds = tuple(_kinds(hint))
    if default is inspect.Parameter.empty:
        raise BadOption(
            f"option '{name}' has no default", where=where, fix="give the keyword a default value"
        )
    if not kinds:
        raise BadOption(
            f"option '{name}' is annotated {hint!r}, which no expression can spell",
            where=where,
            fix="annotate it float, int, bool, str, tuple[int, int] or Literal[...]",
        )
    legal = next((note for note in notes if isinstance(note, Range)), None)
    about = next((note.text for note in reversed(notes) if isinstance(note, About)), "")
    return OptionSpec(name, kinds, default, legal, about)


def read_options(
    name: str, specs: Mapping[str, OptionSpec], given: Mapping[str, str], *, where: str
) -> dict[str, OptionValue]:
    """Typed values of the options that were written out. An unknown name or a wrong value is a BadOption."""
    for option in given:
        if option not in specs:
            raise unknown(f"option of '{name}'", option, specs, where=where)
    return {option: _read(name, specs[option], text, where) for option, text in given.items()}


def written(value: OptionValue) -> str:
    """The value as an expression would spell it: 4, 0.07, 2x4, true, fixed."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "x".join(str(n) for n in value)
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    return str(value)


def _kinds(hint: Any) -> Iterable[Any]:
    """Flat list of what an annotation allows; words of a Literal first, so that they win over `str`."""
    if get_origin(hint) in (Union, types.UnionType):
        kinds = [kind for part in get_args(hint) for kind in _kinds(part)]
        return sorted(kinds, key=lambda kind: not isinstance(kind, str))
    if get_origin(hint) is Literal:
        return [str(word) for word in get_args(hint)]
    if get_args(hint) == (int, int):
        return [tuple]
    return [hint] if hint in (float, int, bool, str) else []


def _read(name: str, spec: OptionSpec, text: str, where: str) -> OptionValue:
    for kind in spec.kinds:
        value = _as_kind(kind, text)
        if value is not None and _in_range(value, spec.legal):
            return value
    most = f", at most {LARGEST[float]:g}" if _is_huge(text) else ""
    raise BadOption(
        f"option '{spec.name}' of '{name}' takes {legal_words(spec)}{most}, not '{text}'",
        where=where,
        fix=f"for example {name}({spec.name}={written(spec.default)})",
    )


def _as_kind(kind: Any, text: str) -> OptionValue | None:
    try:
        if kind is bool:
            return {"true": True, "false": False}.get(text.lower())
        if kind is tuple:
            sides = [int(side) for side in text.split("x")]
            return (sides[0], sides[-1]) if len(sides) <= 2 and max(sides) <= LARGEST[int] else None
        if kind in (int, float):
            number: float = kind(text)
            return number if abs(number) <= LARGEST[kind] else None
    except ValueError:
        return None
    if kind is str:
        return text
    return text if text == kind else None


def _is_huge(text: str) -> bool:
    """Whether a text is a number that nothing but its size speaks against."""
    try:
        return LARGEST[float] < float(text) < math.inf
    except ValueError:
        return False


def _in_range(value: OptionValue, legal: Range | None) -> bool:
    if legal is None or isinstance(value, str | bool):
        return True
    return all(legal.holds(n) for n in (value if isinstance(value, tuple) else (value,)))


def legal_words(spec: OptionSpec) -> str:
    """'a number above 0', \"'plain' or 'enhanced'\": what an option takes."""
    names = {
        float: "a number",
        int: "a whole number",
        bool: "true or false",
        str: "a name",
        tuple: "N or HxW",
    }
    words = " or ".join(names.get(kind, f"'{kind}'") for kind in spec.kinds)
    return f"{words} {spec.legal}" if spec.legal else words
