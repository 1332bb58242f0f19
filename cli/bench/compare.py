"""`kdtrain compare`: the table of an ablation in the terminal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from kdcache.cache.errors import BadOption
from kdcache.cli.shared import home_folder, option
from kdcache.cli.terminal import Terminal

if TYPE_CHECKING:
    from kdcache.trainer.bench.score_table import ScoreTable

INDENT = "  "  # of the figures below a name
_HELP = dict(help_option_names=["-h", "--help"])


@click.command(context_settings=_HELP)
@click.argument("runs", nargs=-1)
@option("--sweep", metavar="NAME", text="All cells of this sweep, those that failed or have not begun too.")
@click.option("--csv", "form", flag_value="csv", help="One line per row, numbers at full length.")
@click.option("--markdown", "form", flag_value="markdown", help="A table for a README or an issue.")
@click.option("--json", "form", flag_value="json", help="Every figure.")
def compare(runs: Sequence[str], sweep: str | None, form: str | None) -> None:
    """Scores of several runs beside each other: mean and deviation over seeds, paired differences to `none`
    on the same stored views with 95 % intervals, and what these allow to say. Without RUNS: all runs.

    \b
    kdtrain compare
    kdtrain compare r18-none r18-kd r18-cwd --markdown
    kdtrain compare --sweep first --csv
    """
    check_chosen(runs, sweep)
    from kdcache.trainer.bench import score_text
    from kdcache.trainer.bench.score_table import table_of

    table = table_of(home_folder(), runs, sweep)
    terminal = Terminal()
    if form is not None:
        lines = {
            "csv": score_text.csv_lines,
            "markdown": score_text.markdown_lines,
            "json": score_text.json_lines,
        }
        terminal.list_lines(lines[form](table))
        return
    show_table(terminal, table)
    for note in table.notes:
        terminal.say(f"note: {note}")


def show_table(terminal: Terminal, table: "ScoreTable") -> None:
    """The table; a student that is everybody's stands above it and not in every line. Where there is no room
    for the readings, they stand below; where there is none for the names either, each has a line of its own
    above its figures, because a name that is broken in its middle cannot be read or typed."""
    from kdcache.trainer.bench.score_text import READING, cells, summary

    shown = cells(table)
    if len(table.students) == 1:
        teachers = [f"{row.label}: {row.key.student}" for row in table.rows if row.role and row.key.student]
        terminal.say(", ".join([f"student: {table.students[0]}", *teachers]))
        shown = shown.without("student")
    if shown.width > terminal.width:
        shown = shown.without(READING)
    if shown.width > terminal.width:
        _show_names_apart(terminal, table)
    else:
        for line in shown.lines():
            terminal.say(line)
    terminal.say(summary(table))


def _show_names_apart(terminal: Terminal, table: "ScoreTable") -> None:
    from kdcache.trainer.bench.score_text import INTERVAL, NAMES, READING, cells

    figures = cells(table).without(*NAMES, READING)
    if len(INDENT) + figures.width > terminal.width:
        figures = figures.without(INTERVAL)
    header, *lines = figures.lines()
    terminal.say(f"{INDENT}{header}")
    for row, line in zip(table.rows, lines, strict=True):
        network = f": {row.key.student}" if row.role and row.key.student and len(table.students) > 1 else ""
        terminal.say(f"{table.name_of(row)}{network}")
        terminal.say(f"{INDENT}{line}")


def check_chosen(runs: Sequence[str], sweep: str | None) -> None:
    """Raises BadOption for runs beside a sweep."""
    if runs and sweep is not None:
        raise BadOption(
            "runs and a sweep are two choices of what is compared",
            where=f"--sweep {sweep}",
            fix="leave --sweep out, or name no run",
        )
