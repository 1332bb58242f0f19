"""An option of a run as its field says it: default, help, legal values. Sections are made of these fields.

A section is a frozen dataclass that stands beside what it configures (steps/options.py, students/options.py,
stream/options.py, folder/options.py, config.py). The command line, the checks and config.toml all read the
same field. Light: `kdtrain --help` reads every section and should not wait for torch.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from fractions import Fraction
from typing import Any, NamedTuple, TypeVar

from kdcache.cache.errors import BadOption, unknown
from kdcache.cache.spec import MOST_ROWS

T = TypeVar("T")
_KEY = "option"
_LARGEST_DENOMINATOR = 1000
_MOST_DIGITS = 8  # of a decimal that nobody would write as a fraction


class Legal(NamedTuple):
    """Which values an option may have, beside None."""

    words: str  # for the error: 'a number above 0'
    holds: Callable[[Any], bool]


# Bounds are far above what anybody means and below what breaks arithmetic: float32 ends at 3.4e38, int64 at
# 9.2e18, and a count of things in memory ends earlier. Infinity and NaN are inside of none.
MOST_STEPS = 10**12
LARGEST = 1e6


def positive(most: float) -> Legal:
    return Legal(f"a number above 0, at most {most:g}", lambda value: 0 < value <= most)


def not_negative(most: float) -> Legal:
    return Legal(f"0 or more, at most {most:g}", lambda value: 0 <= value <= most)


A_COUNT_OF_STEPS = positive(MOST_STEPS)
A_COUNT_OF_ROWS = positive(MOST_ROWS)


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What a field says beside its type and its default."""

    help: str = ""
    said: str | None = None  # the default in words; None: as its value is written
    label: str = ""  # before the default: 'default: '
    also: tuple[str, ...] = ()  # further flags
    choices: tuple[str, ...] = ()
    legal: Legal | None = None
    read: Callable[[str], Any] | None = None  # a text that the command line does not read itself
    free_on_resume: bool = False  # changes where and how fast a run computes, or what it keeps


def option(default: T, *, help: str = "", **words: Any) -> T:
    """A field with a default. `words`: the other fields of `About`."""
    made: T = field(default=default, metadata=metadata(help=help, **words))
    return made


def metadata(**words: Any) -> Mapping[str, Any]:
    """Of a field without a default. `words`: the fields of `About`."""
    return {_KEY: About(**words)}


def about(one: "Field[Any]") -> About:
    said: About = one.metadata[_KEY]
    return said


def flag(name: str) -> str:
    """'batch_size' -> '--batch-size': the way a user wrote the option."""
    return "--" + name.replace("_", "-")


def spelled(value: object) -> str:
    """A value as it is written after its flag: '0.625,0.75', '2/3,11/12', '0.02', 'sgd'."""
    if isinstance(value, tuple):
        return ",".join(share_text(one) if isinstance(one, float) else spelled(one) for one in value)
    short = f"{value:g}" if isinstance(value, float) else str(value)
    # Six digits are not every number: what is typed again must be what was meant.
    return short if not isinstance(value, float) or float(short) == value else repr(value)


def share_text(value: float) -> str:
    """A share of something, exactly; as a fraction where that is shorter: '2/3', not 0.6666666666666666."""
    text = spelled(value)
    if not math.isfinite(value):  # a wrong one, which an error is about to name
        return text
    fraction = Fraction(value).limit_denominator(_LARGEST_DENOMINATOR)
    exact = fraction.numerator / fraction.denominator == value
    return str(fraction) if exact and len(str(fraction)) < len(text) and len(text) > _MOST_DIGITS else text


def help_text(one: "Field[Any]") -> str:
    """What the command line says of an option, its default at the end: 'Micro batches per step. [1]'.

    Without a default that says itself (None, off) only the help.
    """
    words = about(one)
    silent = one.default is None or one.default is False or one.default is MISSING
    said = words.said if words.said is not None else "" if silent else spelled(one.default)
    return " ".join(part for part in (words.help, f"[{words.label}{said}]" if said else "") if part)


def bad(name: str, value: object, legal: str) -> BadOption:
    return BadOption(f"{flag(name)} cannot be {value}", where=f"{flag(name)} {value}", fix=f"give {legal}")


@dataclass(frozen=True, kw_only=True)
class Section:
    """Base of the sections. Without slots: a run's options inherit from several of them.

    Raises BadOption for the first value that cannot work, alone or beside another one.
    """

    def __post_init__(self) -> None:
        values = [(one.name, about(one), getattr(self, one.name)) for one in fields(self)]
        given = [(name, words, value) for name, words, value in values if value is not None]
        for name, words, value in given:
            if words.choices and value not in words.choices:
                what, where = f"value of {flag(name)}", f"{flag(name)} {value}"
                raise unknown(what, str(value), words.choices, where=where)
        for name, words, value in given:
            if words.legal is not None and not words.legal.holds(value):
                raise bad(name, value, words.legal.words)
        self.check()

    def check(self) -> None:
        """Refuses what no field shows alone. A section that has such checks calls `super().check()` first."""
