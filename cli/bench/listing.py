"""`kdtrain ls` and `kdcache ls`: what runs and what caches there are."""

import json
from typing import TYPE_CHECKING

import click

from kdcache.cache.errors import size_text
from kdcache.cli.shared import home_folder, option
from kdcache.cli.terminal import Terminal

if TYPE_CHECKING:
    from kdcache.trainer.bench.listing import RunRow

JSON_TEXT = "Print the rows as JSON, for scripts."
LISTED_RUNS = 3  # of a cache; the others are counted


@click.command("ls")
@option("--json", "as_json", is_flag=True, text=JSON_TEXT)
def runs_ls(as_json: bool = False) -> None:
    """List the runs: student, loss, cache or data, seed, steps, best validation score, state."""
    from kdcache.trainer.bench.listing import run_rows

    home, terminal = home_folder(), Terminal()
    rows = list(run_rows(home))
    if as_json:
        terminal.list_lines([json.dumps([row._asdict() for row in rows])])
        return
    if not rows:
        terminal.say(f"no run in {home / 'runs'}: kdtrain trains one")
        return
    _list_runs(terminal, rows)


def _list_runs(terminal: Terminal, rows: "list[RunRow]") -> None:
    from kdcache.cache.sources.table import data_word

    metrics = {row.metric for row in rows if row.metric}
    alike = metrics.pop() if len(metrics) == 1 else ""
    numbers = ("seed", "steps", f"best {alike}".strip())
    lines = []
    for row in rows:
        steps = f"{row.steps}" if row.step == row.steps else f"{row.step}/{row.steps}"
        named = "" if row.metric == alike else f"{row.metric} "
        best = "-" if row.best is None else f"{named}{_score(row.metric, row.best)}"
        seed = "-" if row.seed is None else str(row.seed)
        state = f"{row.state}: {row.problem}" if row.problem else str(row.state)
        pixels = row.cache or (f"fresh {data_word(row.data)}" if row.data else "-")
        lines.append((row.run, row.student, row.loss, pixels, seed, steps, best, state))
    terminal.list_rows(("run", "student", "loss", "cache", *numbers, "state"), lines, right=numbers)


@click.command("ls")
@option("--json", "as_json", is_flag=True, text=JSON_TEXT)
def caches_ls(as_json: bool = False) -> None:
    """List the caches: teacher, data, views, taps, bytes, and the runs that read them."""
    from kdcache.trainer.bench.listing import cache_rows

    home, terminal = home_folder(), Terminal()
    rows = list(cache_rows(home))
    if as_json:
        terminal.list_lines([json.dumps([row._asdict() for row in rows])])
        return
    if not rows:
        terminal.say(f"no cache in {home / 'caches'}: kdcache build makes one")
        return
    lines = []
    for row in rows:
        named = ", ".join(row.runs[:LISTED_RUNS]) or "none"
        more = f" and {len(row.runs) - LISTED_RUNS} more" if len(row.runs) > LISTED_RUNS else ""
        title = row.cache if row.state == "complete" else f"{row.cache} ({row.problem or row.state})"
        views, taps = ", ".join(row.views), ", ".join(row.taps)
        lines.append((title, row.teacher, row.data, views, taps, size_text(row.num_bytes), f"{named}{more}"))
    terminal.list_rows(
        ("cache", "teacher", "data", "views", "taps", "bytes", "runs"), lines, right=("bytes",)
    )
    if len(rows) > 1:
        terminal.say(f"{len(rows)} caches, {size_text(sum(row.num_bytes for row in rows))} in all")


def _score(metric: str, value: float) -> str:
    from kdcache.trainer.judge.metrics import shown

    return shown(metric, value)
