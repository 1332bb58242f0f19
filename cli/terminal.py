"""The only door to the terminal: whatever is said through it is shown, never interpreted.

Names of samples, classes, runs, teachers and files come from data and from what was typed. Through this door
they are no markup of rich (`[/b]` is a class name like any other), and what a terminal would obey instead of
showing it is escaped (cache/visible.py). Styles are arguments here, not words inside a text.
"""

import json
import math
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from types import TracebackType
from typing import IO, Any

import click
from rich import table
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from kdcache.cache.visible import visible

_WIDEST = 1 << 16  # columns of a line that nothing breaks
# What rich's Table.grid is, two spaces between its columns.
GRID: dict[str, Any] = {
    "box": None, "padding": (0, 2), "collapse_padding": True, "show_header": False, "pad_edge": False,
    "show_footer": False, "show_edge": False,
}  # fmt: skip


class Table:
    """Rows of cells. A cell of several lines is a tuple."""

    def __init__(self, *headers: str, title: str = "", **look: Any) -> None:
        """`look`: arguments of rich's Table."""
        shown = _cell(title, "table.title") if title else None
        self.drawn = table.Table(title=shown, **look)
        for header in headers:
            self.add_column(header)

    def add_column(self, header: str, **look: Any) -> None:
        self.drawn.add_column(_cell(header), **look)

    def add_row(self, *cells: str | tuple[str, ...]) -> None:
        self.drawn.add_row(*map(_cell, cells))

    def add_section(self) -> None:
        self.drawn.add_section()


def _cell(lines: str | tuple[str, ...], style: str = "") -> Text:
    return Text("\n".join(map(visible, (lines,) if isinstance(lines, str) else lines)), style)


class Terminal:
    """Where a command speaks: stdout, or stderr with `errors`."""

    def __init__(
        self,
        *,
        errors: bool = False,
        quiet: bool = False,
        file: IO[str] | None = None,
        width: int | None = None,
        live: bool | None = None,
    ) -> None:
        """`file`, `width` and `live`, whether it is a terminal, replace the real ones."""
        self._console = Console(
            stderr=errors, quiet=quiet, file=file, width=width, force_terminal=live, highlight=False
        )
        self.said: list[str] = []  # every line, shown or not

    @property
    def width(self) -> int:
        return self._console.width

    @property
    def is_live(self) -> bool:
        """Whether a person sees a line change; a log file gets new lines instead."""
        return self._console.is_terminal

    def say(self, line: object, *, style: str = "", strong: object = "", rest: str = "") -> None:
        """One line, `strong` in bold in front of its `rest`. The terminal breaks it, not we: a command that
        is cut into two lines cannot be typed again."""
        self.said.append(visible(f"{line}{strong}{rest}"))
        text = Text(visible(line), style).append(visible(strong), "bold").append(visible(rest))
        self._console.print(text, soft_wrap=True)

    def list_lines(self, lines: Iterable[str]) -> None:
        """Many lines for another program: no styles, no layout."""
        for line in lines:
            print(visible(line))

    def document(self, value: object) -> None:
        """One line of JSON for another program, at once, also where everything else is quiet. What is not
        finite is null."""
        print(json.dumps(_finite(value), ensure_ascii=True, allow_nan=False), flush=True)

    def show(self, shown: Table) -> None:
        self._console.print(shown.drawn)

    def list_rows(
        self, headers: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str]
    ) -> None:
        """Rows whose first cell is a name, which is never broken: aligned lines of full length; on a terminal
        that is too narrow for them, the name and below it the other cells, a line each. Columns in `right`
        are aligned there."""
        drawn = table.Table(box=None, pad_edge=False)
        for header in headers:
            drawn.add_column(_cell(header), no_wrap=True, justify="right" if header in right else "left")
        for row in rows:
            drawn.add_row(*map(_cell, row))
        options = self._console.options.update(width=_WIDEST, max_width=_WIDEST)
        if not self.is_live or self._console.measure(drawn, options=options).maximum <= self.width:
            out = self._console
            wide = Console(file=out.file, width=_WIDEST, quiet=out.quiet, force_terminal=self.is_live)
            with wide.capture() as lines:
                wide.print(drawn)
            for line in lines.get().splitlines():  # a file needs no spaces up to the end of the widest line
                wide.out(line.rstrip(), highlight=False)
            return
        titles = max(map(len, headers[1:]), default=0)
        for row in rows:
            self.say("", strong=row[0])
            for header, cell in zip(headers[1:], row[1:], strict=True):
                self.say(f"  {header:<{titles}}  {cell}")

    def bar(self, title: str, field: str, *, width: int = 20) -> "Bar":
        """Progress of tasks: how many of how many, a bar, the time left, and a text `field` of each task. At
        80 columns there is room for numbers of seven digits and 25 letters of text."""
        return Bar(self._console, title, field, width)


def _finite(value: Any) -> Any:
    """Plain values, as JSON has them."""
    if isinstance(value, dict):
        return {str(key): _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int)) else str(value)


class Bar:
    """Lines that change on a terminal; nothing elsewhere."""

    def __init__(self, console: Console, title: str, field: str, width: int) -> None:
        self._field = field
        self._progress = Progress(
            TextColumn(title or "{task.description}", markup=False),
            MofNCompleteColumn(),
            BarColumn(bar_width=width),
            TimeRemainingColumn(),
            TextColumn(f"{{task.fields[{field}]}}", markup=False),
            console=console,
            disable=not console.is_terminal,
        )

    def start(self) -> None:
        self._progress.start()

    def stop(self) -> None:
        self._progress.stop()

    def add_task(self, name: str, *, total: int | None, said: str = "", shown: bool = True) -> int:
        fields: dict[str, Any] = {self._field: visible(said)}
        return self._progress.add_task(visible(name), total=total, visible=shown, **fields)

    def update(self, task: int, *, said: str | None = None, **changes: Any) -> None:
        """`changes`: completed, total or advance."""
        fields: dict[str, Any] = {} if said is None else {self._field: visible(said)}
        self._progress.update(TaskID(task), **changes, **fields)


def say_error(text: str) -> None:
    """On stderr. The text is a KdError's, whose lines are visible already, or one line."""
    for line in text.split("\n"):
        print(visible(line), file=sys.stderr)


def asked_for_yes(question: str) -> bool:
    """The answer to a question on stderr; no where nobody can answer."""
    try:
        return bool(click.confirm(visible(question), default=False, err=True))
    except click.Abort:
        return False


class AnyEncoding:
    """While a command runs, stdout and stderr escape what their encoding lacks, as 'ascii' lacks 'ü'."""

    def __enter__(self) -> None:
        streams = [one for one in (sys.stdout, sys.stderr) if isinstance(one, TextIOWrapper)]
        self._before = [(one, one.errors) for one in streams]
        for one in streams:
            one.reconfigure(errors="backslashreplace")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stream, errors in self._before:
            if not stream.closed:
                stream.reconfigure(errors=errors)


def beside_another() -> bool:
    """Whether another rank on this machine says what is the same on all of them."""
    return os.environ.get("LOCAL_RANK", os.environ.get("RANK", "0")) != "0"


@contextmanager
def visible_usage() -> Iterator[None]:
    """What click says of a command line repeats words of it: within this they are visible too, and one rank
    alone says them."""
    try:
        yield
    except click.exceptions.NoArgsIsHelpError:
        raise
    except click.UsageError as error:
        if beside_another():
            raise click.exceptions.Exit(error.exit_code) from error
        raise click.UsageError(visible(error.format_message()), error.ctx) from error
    except click.ClickException as error:
        raise click.ClickException(visible(error.format_message())) from error
