"""`kdtrain methods`: every method as a table; `kdtrain methods NAME`: one entry with all its options."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import click

from kdcache.cache.errors import unknown
from kdcache.cache.tasks.table import task_names
from kdcache.cli.shared import option
from kdcache.cli.terminal import GRID, Table, Terminal

if TYPE_CHECKING:
    from kdcache.losses.plan.catalogue import Entry, OptionRow

COLUMNS = (
    *("method", "source", "reads", "detectors", "cacheable", "extra modules", "weight and defaults"),
    "published",
)
RECIPE_COLUMNS = ("recipe", "methods", "data sets", "options", "source", "not as published")
WIDE = 150  # columns of a terminal from which on the whole table can be read


@click.command("methods", context_settings=dict(help_option_names=["-h", "--help"]))
@click.argument("name", required=False)
@option("--task", type=click.Choice(task_names()), text="Only methods for this task.")
@option("--markdown", is_flag=True, text="The tables as docs/methods.md holds them.")
def methods(name: str | None, task: str | None, markdown: bool) -> None:
    """List what --loss can name, or show one method with every option, default and unit.

    \b
    kdtrain methods
    kdtrain methods afdcd
    kdtrain methods --task classification
    """
    # Imported here: help and usage errors should not wait seconds for torch, and an unknown name neither.
    from kdcache.losses.plan.table import loss_names

    if name is not None and ":" not in name and name not in loss_names():
        raise unknown("loss", name, loss_names(), where=f"kdtrain methods {name}")
    from kdcache.losses.plan.catalogue import entries, entry
    from kdcache.losses.plan.recipes import RECIPES

    terminal = Terminal()
    if name is not None:
        _show(terminal, entry(name))
        return
    listed = [e for e in entries() if task is None or task in e.tasks]
    if markdown:
        terminal.list_lines((*markdown_table(listed), "", *markdown_recipes()))
        return
    terminal.show(_whole(listed) if terminal.width >= WIDE else _short(listed))
    more = (
        "" if terminal.width >= WIDE else f"; sources, modules, defaults and results: from {WIDE} columns on"
    )
    terminal.say(f"one of them with every option: kdtrain methods NAME{more}")
    names = {one.name for one in listed}
    recipes = [title for title, recipe in RECIPES.items() if names & set(recipe.losses)]
    terminal.say(f"recipes of whole runs, kdtrain --recipe NAME: {', '.join(recipes)}")


def _short(listed: Iterable["Entry"]) -> Table:
    table = Table("method", "what it is", "teacher gives", "cacheable", "for", box=None, pad_edge=False)
    for one in listed:
        tasks = " ".join(word[:3] for word in one.tasks)
        cells = (one.name, one.method.title, _teacher(one), one.method.cacheable, tasks)
        table.add_row(*cells)
    return table


def _whole(listed: Iterable["Entry"]) -> Table:
    """The columns of docs/methods.md."""
    table = Table(show_lines=True)
    for name in COLUMNS:
        table.add_column(name, overflow="fold")  # a link that is cut off leads nowhere
    for one in listed:
        table.add_row(*_cells(one))
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


def _show(terminal: Terminal, e: "Entry") -> None:
    from kdcache.losses.plan.catalogue import common_options

    m = e.method
    terminal.say(f"{e.name}: {m.title}", style="bold")
    facts = Table(**GRID)
    rows: tuple[tuple[str, str | tuple[str, ...]], ...] = (
        ("source", m.source),
        ("code", m.code),
        ("tasks", ", ".join(e.tasks)),
        ("detectors", e.detectors),
        ("reads", e.reads),
        ("weight", e.weights),
        ("companions", e.companions or "none"),
        ("cacheable", m.cacheable),
        ("modules", m.modules),
        ("per micro batch", e.per_micro_batch),
        ("settings", tuple(part for part in (*e.settings, m.defaults) if part) or "none"),
        ("recipes", tuple(recipe_lines(e.name)) or "none"),
        ("published", m.published or "-"),
    )
    for label, text in rows:
        if text:
            facts.add_row(label, text)
    terminal.show(facts)
    terminal.show(_options("options", e.options))
    terminal.show(_options("options of every term", common_options()))


def markdown_recipes() -> Iterator[str]:
    """The lines of the table of recipes in docs/methods.md."""
    from kdcache.losses.plan.recipes import RECIPES
    from kdcache.trainer.steps.recipe import written_options

    yield f"| {' | '.join(RECIPE_COLUMNS)} |"
    yield "|" + "---|" * len(RECIPE_COLUMNS)
    for name, one in RECIPES.items():
        own = [f"`{data}` {written_options(options)}".rstrip() for data, options in one.datasets.items()]
        cells = (
            f"`{name}`",
            ", ".join(one.losses),
            "; ".join(own),
            written_options(one.options),
            one.source,
            "; ".join(one.unlike) or "-",
        )
        yield f"| {' | '.join(cells)} |"


def recipe_lines(loss: str) -> Iterator[str]:
    """'afdcd@camvid: --lr 0.02 ...; its source; what it leaves out', of one method."""
    from kdcache.losses.plan.recipes import published, recipe_names
    from kdcache.trainer.steps.recipe import written_options

    for name in recipe_names(loss):
        one = published(name, None)
        left_out = f"; not as published: {'; '.join(one.recipe.unlike)}" if one.recipe.unlike else ""
        yield f"{name}: {written_options(one.options)} ({one.recipe.source}{left_out})"


def _options(title: str, rows: Iterable["OptionRow"]) -> Table:
    table = Table(
        "option", "default", "takes", "meaning and unit", box=None, title=title, title_justify="left"
    )
    for row in rows:
        table.add_row(row.name, row.default or "-", row.legal, row.about)
    return table
