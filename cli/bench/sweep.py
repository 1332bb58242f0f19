"""`kdtrain sweep`: a grid of runs over caches, in the commands that a user would type."""

import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich_click import RichCommand, RichOptionPanel

from kdcache.cache.errors import BadOption
from kdcache.cache.spec import MOST_THREADS
from kdcache.cache.trust import current_command
from kdcache.cache.visible import shell_line
from kdcache.cli.shared import consented, home_folder, option, written
from kdcache.cli.terminal import Terminal, say_error
from kdcache.cli.training.train_options import FIRST_PANEL, panels, train_options

if TYPE_CHECKING:
    from kdcache.trainer.bench.definition import Definition
    from kdcache.trainer.bench.grid import Pixels
    from kdcache.trainer.bench.work import Machine

OTHER = ("loss", "student", "seed", "run", "cache")  # of training, with a flag of their own here
GRID_FLAGS = ("--loss", "--student", "--seeds", "--cache", "--name", "--no-fresh")
WORK_FLAGS = ("--dry-run", "--jobs", "--together", "--shard", "--retry")
MOST_TOGETHER = 64  # runs in one process
MOST_SHARDS = 10_000
WAIT_S = 2.0  # between two looks at a cache that another process builds
OF_BUILDING = ("device", "threads")


@click.command("sweep", cls=RichCommand, context_settings=dict(help_option_names=["-h", "--help"]))
@click.argument("file", required=False, type=click.Path(path_type=Path), metavar="[FILE.toml]")
@option("--loss", text="Losses, comma separated; commas inside parentheses separate options.")
@option("--student", text="Students, comma separated. [r18]")
@option("--seeds", text="How many, 3 is 0, 1 and 2; or a list, 0,1,5. [1]")
@option("--cache", text="Caches, comma separated: names or paths. [the only one]")
@option("--name", text="Name of the sweep, with which its runs begin. [the file's, else sweep]")
@option("--no-fresh", is_flag=True, text="Leave out the runs without a teacher on fresh views.")
@option("--dry-run", is_flag=True, text="Print the plan and the commands, and stop.")
@option(
    "--jobs", type=click.IntRange(1, MOST_THREADS), text="Runs at a time, the cores divided among them. [1]"
)
@option(
    "--together",
    type=click.IntRange(1, MOST_TOGETHER),
    text="Runs that one process trains on the same batches, read once for all. [1]",
)
@option("--shard", text="I/N: only every N-th run, from the I-th on, for schedulers.")
@option("--retry", is_flag=True, text="Try failed runs again.")
@train_options(without=OTHER)
@click.pass_context
def sweep(context: click.Context, /, file: Path | None, **_: Any) -> None:
    """Train every loss with every student and seed, and 'none' beside them, on the same stored views and on
    fresh ones. The same command continues; finished runs are kept, failed ones wait for --retry.

    \b
    kdtrain sweep --loss kd,cwd,afdcd --student r18,mbv2 --seeds 3 --steps 4000
    kdtrain sweep ablation.toml --dry-run
    kdtrain sweep ablation.toml --jobs 4
    kdtrain sweep ablation.toml --together 6
    kdtrain sweep ablation.toml --shard 2/8

    FILE.toml has loss, student, seeds, cache, name, and a table [options] of kdtrain's, where a list is an
    axis of the grid. Ends with status 1 where a run is not finished.
    """
    given = {name: value for name, value in written(context).items() if name != "file"}
    _sweep(file, given, tuple(consented(context)))


sweep.add_panel(RichOptionPanel("The grid", options=list(GRID_FLAGS)))
sweep.add_panel(RichOptionPanel("The work", options=list(WORK_FLAGS)))
for _title, _flags in panels(without=OTHER):
    if _title != FIRST_PANEL:
        sweep.add_panel(RichOptionPanel(_title, options=list(_flags)))


def _sweep(file: Path | None, given: dict[str, Any], trust: tuple[str, ...]) -> None:
    from kdcache.trainer.bench.definition import read_definition, with_caches
    from kdcache.trainer.bench.grid import cells_of, pixels_of

    _check_alone()
    shard = _read_shard(given.pop("shard", None))
    dry, retry, jobs, together = (given.pop(name, default) for name, default in _WORK.items())
    definition = read_definition(file, _typed(given))
    _check_together(definition, together)
    home = home_folder()
    pixels = pixels_of(definition, home)
    _check_students(definition, pixels, home)
    definition = with_caches(definition, [one.cache for one in pixels if one.cache])
    cells = cells_of(definition, pixels)
    # Imported here: a typo is answered before seconds of torch.
    from kdcache.cli.bench.sweep_display import SweepDisplay
    from kdcache.trainer.bench.plan import plan_cells
    from kdcache.trainer.bench.sweep_folder import joined, taken_back
    from kdcache.trainer.bench.work import Machine, work_off

    machine = Machine(jobs=jobs, together=together, trust=trust, retry=retry)
    missing = _missing(definition, pixels, home)
    sweep = joined(definition, cells, home, write=False)
    display = SweepDisplay(Terminal(), machine, home)
    mine = sweep.cells[shard[0] :: shard[1]]
    display.planned(definition, sweep, plan_cells(sweep, home), shard, missing)
    if dry:
        display.commands(
            [_build_words(cache, losses, definition, machine) for cache, losses in missing], mine
        )
        return
    with taken_back(sweep.folder):
        sweep = joined(definition, cells, home, write=True)
        _build(definition, pixels, home, machine)
    try:
        outcomes = work_off(sweep, mine, home=home, machine=machine, begun=display.begun, ended=display.ended)
    except KeyboardInterrupt as stop:
        raise _stopped(stop, display.num_done, len(mine)) from None
    if not display.summary(outcomes):
        raise SystemExit(1)


_WORK = {"dry_run": False, "retry": False, "jobs": 1, "together": 1}


def _typed(given: Mapping[str, Any]) -> dict[str, Any]:
    """What was typed, by the keys of a file."""
    from kdcache.trainer.bench.definition import read_seeds, split_list

    table: dict[str, Any] = {}
    for key in ("loss", "student", "cache"):
        if key in given:
            table[key] = list(split_list(given[key], f"--{key} {given[key]}"))
    if "seeds" in given:
        table["seeds"] = list(read_seeds(given["seeds"], f"--seeds {given['seeds']}"))
    table |= {"name": given["name"]} if "name" in given else {}
    table |= {"fresh": False} if given.get("no_fresh") else {}
    own = ("loss", "student", "cache", "seeds", "name", "no_fresh")
    return {**table, "options": {name: value for name, value in given.items() if name not in own}}


def _check_alone() -> None:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise BadOption(
            "a sweep is one process, and this one was started as one of several",
            where=f"WORLD_SIZE={os.environ['WORLD_SIZE']}",
            fix="give each machine a part with --shard I/N; or run the commands that --dry-run prints",
        )


def _check_together(definition: "Definition", together: int) -> None:
    """Raises BadOption for runs that ask a live teacher, which share nothing."""
    if together > 1 and definition.options.get("online"):
        raise BadOption(
            "--together with --online: a live teacher answers each run by itself, there is nothing to share",
            where=f"--together {together} --online",
            fix="leave --together out; or build a cache and leave --online out",
        )


def _read_shard(text: str | None) -> tuple[int, int]:
    """'2/8' -> (1, 8): the place of the first cell, and the step. Raises BadOption."""
    if text is None:
        return 0, 1
    match = re.fullmatch(r"([0-9]{1,5})/([0-9]{1,5})", text)
    place, count = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= place <= count <= MOST_SHARDS:
        raise BadOption(
            f"'{text}' is no shard",
            where=f"--shard {text}",
            fix=f"write I/N, I from 1 to N, N at most {MOST_SHARDS}: --shard 1/4",
        )
    return place - 1, count


def _check_students(definition: "Definition", pixels: Sequence["Pixels"], home: Path) -> None:
    """Raises BadOption for a student that no network of the data's task is called."""
    from kdcache.cache.networks.names import parse_name
    from kdcache.cache.record.find import caches_dir, find_cache
    from kdcache.cache.record.standing import counted_manifest

    for one in pixels:
        if one.cache:
            task = counted_manifest(find_cache(one.cache, caches_dir(home))).task
            for student in definition.students:
                parse_name(student, where=f"--student {student}", task=task)


# ---- taps that are missing ---------------------------------------------------------------------------------

Missing = tuple[str, tuple[str, ...]]  # a cache, and the losses that read what it does not keep


def _missing(definition: "Definition", pixels: Sequence["Pixels"], home: Path) -> list[Missing]:
    """Raises BadOption for losses of another task."""
    from kdcache.cache.record.find import caches_dir, find_cache
    from kdcache.cache.record.generation import newest_generation
    from kdcache.cache.record.standing import counted_manifest
    from kdcache.cli.caches.loss_fit import lacking

    missing = []
    for one in pixels:
        if one.cache and not definition.options.get("online"):
            root = find_cache(one.cache, caches_dir(home))
            losses = lacking(definition.losses, counted_manifest(root))
            if losses or newest_generation(root) is None:
                missing.append((one.cache, losses or definition.losses))
    return missing


def _build_words(
    cache: str, losses: Sequence[str], definition: "Definition", machine: "Machine"
) -> list[str]:
    """The one pass of the teacher that adds what the losses read."""
    given = {name: definition.options[name] for name in OF_BUILDING if name in definition.options}
    options = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    return machine.trusting(["kdcache", "build", "--cache", cache, "--for", ",".join(losses), *options])


def _build(definition: "Definition", pixels: Sequence["Pixels"], home: Path, machine: "Machine") -> None:
    """Add what is missing, or wait for another process that does. Its failure ends the sweep."""
    from kdcache.cache.record.find import caches_dir, find_cache
    from kdcache.cli.training.chain import execute
    from kdcache.trainer.bench.removal import is_built

    waits = False
    while missing := _missing(definition, pixels, home):
        cache, losses = missing[0]
        root = find_cache(cache, caches_dir(home))
        if not is_built(root):
            command = _build_words(cache, losses, definition, machine)
            Terminal().say(f"$ {shell_line(command)}")
            status = execute(command)
            if status and not is_built(root):
                say_error("the sweep stops here: without these targets its losses cannot be trained")
                raise SystemExit(status)
        elif not waits:
            waits = True
            Terminal().say(f"another process builds cache {cache}; waiting for it")
        time.sleep(WAIT_S if waits else 0)


def _stopped(stop: KeyboardInterrupt, done: int, count: int) -> KeyboardInterrupt:
    """What a signal that ended the sweep says."""
    from kdcache.cache.processes.stop import Stopped

    if not isinstance(stop, Stopped):
        return stop
    typed = shell_line(current_command() or ("kdtrain", "sweep"))
    said = f"{done} of {count} runs are done, those in work were ended and keep what checkpoints they have"
    return Stopped(stop.number, f"{said}; go on with: {typed}")
