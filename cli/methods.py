"""`kdtrain methods`: every method as a table; `kdtrain methods NAME`: one entry with all its options."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kdcache.cache.tasks.table import task_names
from kdcache.cli.shared import option

if TYPE_CHECKING:
    from kdcache.losses.plan.catalogue import Entry, OptionRow

COLUMNS = (
    *("method", "source", "reads", "detectors", "cacheable", "extra modules", "weight and defaults"),
    "published",
)
WIDE = 150  # columns of a terminal from which on the whole table can be read


@click.command("methods", context_settings=dict(help_option_names=["-h", "--help"]))
@click.argument("name", required=False)
@option("--task", type=click.Choice(task_names()), text="Only methods for this task.")
@option("--markdown", is_flag=True, text="The table as docs/methods.md holds it.")
def methods(name: str | None, task: str | None, markdown: bool) -> None:
    """List what --loss can name, or show one method with every option, default and unit.

    \b
    kdtrain methods
    kdtrain methods afdcd
    kdtrain methods --task classification
    """
    # Imported here: help and usage errors should not wait seconds for torch.
    from kdcache.losses.plan.catalogue import entries, entry

    console = Console(soft_wrap=False)
    if name is not None:
        _show(console, entry(name))
        return
    listed = [e for e in entries() if task is None or task in e.tasks]
    if markdown:
        click.echo("\n".join(markdown_table(listed)))
        return
    console.print(_whole(listed) if console.width >= WIDE else _short(listed))
    more = (
        "" if console.width >= WIDE else f"; sources, modules, defaults and results: from {WIDE} columns on"
    )
    console.print(f"one of them with every option: kdtrain methods NAME{more}", highlight=False)


def _short(listed: Iterable["Entry"]) -> Table:
    table = Table("method", "what it is", "teacher gives", "cacheable", "for", box=None, pad_edge=False)
    for one in listed:
        tasks = " ".join(word[:3] for word in one.tasks)
        cells = (one.name, one.method.title, _teacher(one), one.method.cacheable, tasks)
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _whole(listed: Iterable["Entry"]) -> Table:
    """The columns of docs/methods.md."""
    table = Table(show_lines=True)
    for name in COLUMNS:
        table.add_column(name, overflow="fold")  # a link that is cut off leads nowhere
    for one in listed:
        table.add_row(*(Text(cell) for cell in _cells(one)))
    return table


def _cells(e: "Entry") -> tuple[str, ...]:
    brings = tuple(f"brings {line}" for line in e.companions)
    return (
        f"{e.name}: {e.method.title}",
        f"{e.method.source}; {e.method.code}",
        "; ".join(e.reads),
        e.detectors or "-",
        e.method.cacheable,
        e.method.modules,
        "; ".join(part for part in (*e.weights, *brings, e.method.defaults) if part),
        e.method.published or "-",
    )


def markdown_table(listed: Iterable["Entry"]) -> list[str]:
    """The lines of the table in docs/methods.md."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]
    for e in listed:
        cells = [cell.replace("|", "\\|") for cell in _cells(e)]
        cells[0] = cells[0].replace(f"{e.name}:", f"`{e.name}`:", 1)
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _teacher(e: "Entry") -> str:
    """'logits' rather than 'segmentation: teacher logits; student logits', where the tasks agree."""
    parts = [line.partition("teacher ")[2].partition(";")[0] for line in e.reads]
    return " | ".join(dict.fromkeys(parts))


def _show(console: Console, e: "Entry") -> None:
    from kdcache.losses.plan.catalogue import common_options

    m = e.method
    console.print(f"[bold]{e.name}[/bold]: {m.title}", highlight=False)
    facts = Table.grid(padding=(0, 2))
    for label, text in (
        ("source", m.source),
        ("code", m.code),
        ("tasks", ", ".join(e.tasks)),
        *([("detectors", e.detectors)] if e.detectors else []),
        ("reads", "\n".join(e.reads)),
        ("weight", "\n".join(e.weights)),
        ("companions", "\n".join(e.companions) or "none"),
        ("cacheable", m.cacheable),
        ("modules", m.modules),
        ("settings", "\n".join(part for part in (*e.settings, m.defaults) if part) or "none"),
        ("published", m.published or "-"),
    ):
        facts.add_row(label, text)
    console.print(facts, highlight=False, markup=False)
    console.print(_options("options", e.options))
    console.print(_options("options of every term", common_options()))


def _options(title: str, rows: Iterable["OptionRow"]) -> Table:
    table = Table(
        "option", "default", "takes", "meaning and unit", box=None, title=title, title_justify="left"
    )
    for row in rows:
        table.add_row(row.name, row.default or "-", row.legal, row.about)
    return table
