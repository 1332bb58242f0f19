"""The options of training, in the panels of `kdtrain --help`. `kdtrain` and `kdtrain chain` share them.

Every default, choice and text comes from the field of a section (trainer/config.py and the sections that it
is made of); here is only how click offers them, and in which panel.
"""

from collections.abc import Callable, Collection
from dataclasses import Field, fields
from types import UnionType
from typing import Any, get_args

import click

from kdcache.cli.shared import option
from kdcache.trainer.config import MachineOptions, TrainConfig
from kdcache.trainer.folder.option_field import Section, about, flag, help_text
from kdcache.trainer.folder.options import FolderOptions
from kdcache.trainer.steps.options import LengthOptions, RateOptions
from kdcache.trainer.stream.options import StreamOptions
from kdcache.trainer.students.options import StudentOptions

Function = Callable[..., None]
Decorator = Callable[[Function], Function]
Panel = tuple[str, tuple[str, ...]]  # title, flags

_FIELDS: "dict[str, Field[Any]]" = {one.name: one for one in fields(TrainConfig)}
# What a run is, from several sections; the other panels show a section each, without these.
FIRST_PANEL = "What is trained"
_FIRST = ("student", "loss", "recipe", "run", "seed")
_SECTIONS: tuple[tuple[str, type[Section]], ...] = (
    ("Pixels and targets", StreamOptions),
    ("Student", StudentOptions),
    ("Length", LengthOptions),
    ("Optimizer and rate", RateOptions),
    ("Machine", MachineOptions),
    ("Kept and shown", FolderOptions),
)


def _names_of(section: type[Section]) -> tuple[str, ...]:
    return tuple(one.name for one in fields(section) if one.name not in _FIRST)


_PANELS = ((FIRST_PANEL, _FIRST), *((title, _names_of(section)) for title, section in _SECTIONS))


def train_option(name: str) -> Decorator:
    """The option of one field of `TrainConfig`; one that was not written is not passed on."""
    one, kinds = _FIELDS[name], _kinds(_FIELDS[name])
    words, text = about(one), help_text(one)
    flags = (flag(name), *words.also)
    if bool in kinds and type(None) in kinds:
        return option(f"{flag(name)}/--no-{flag(name)[2:]}", name, default=None, text=text)
    if bool in kinds:
        return option(*flags, name, is_flag=True, text=text)
    if words.choices:
        return option(*flags, name, type=click.Choice(words.choices), text=text)
    if words.read is not None:  # a text that the section reads
        return option(*flags, name, text=text)
    number = next((kind for kind in (int, float) if kind in kinds), None)
    return option(*flags, name, type=number, text=text)


def train_options(*, without: Collection[str] = ()) -> Decorator:
    """Decorates a command with every option of training but those `without`, by field name."""

    def decorate(function: Function) -> Function:
        names = [name for _, panel in _PANELS for name in panel if name not in without]
        for name in reversed(names):
            function = train_option(name)(function)
        return function

    return decorate


def panels(*, without: Collection[str] = ()) -> list[Panel]:
    """Title and flags of each panel, in the order of the help."""
    return [(title, tuple(flag(name) for name in names if name not in without)) for title, names in _PANELS]


def typed(given: dict[str, Any]) -> dict[str, Any]:
    """What a user wrote, with texts read that click leaves alone. Raises BadOption."""
    readers = {name: about(one).read for name, one in _FIELDS.items()}
    return {
        name: read(value) if (read := readers.get(name)) is not None else value
        for name, value in given.items()
    }


def _kinds(one: "Field[Any]") -> tuple[Any, ...]:
    """(int, NoneType) of a field that is annotated 'int | None'."""
    annotated: Any = one.type
    return get_args(annotated) if isinstance(annotated, UnionType) else (annotated,)
