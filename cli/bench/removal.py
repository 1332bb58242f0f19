"""`kdtrain rm` and `kdcache rm`: remove runs and caches, after saying what still names them."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from kdcache.cache.errors import size_text
from kdcache.cli.shared import home_folder, option
from kdcache.cli.terminal import Terminal, asked_for_yes

YES = "Remove without asking."
JSON_TEXT = "Print what was removed as JSON, for scripts; the question goes to stderr."
LISTED = 5  # of what names a folder


@click.command("rm")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@option("--yes", is_flag=True, text=YES)
@option("--json", "as_json", is_flag=True, text=JSON_TEXT)
def runs_rm(runs: tuple[str, ...], yes: bool = False, as_json: bool = False) -> None:
    """Remove runs with their checkpoints, students and figures, after asking. A run that trains now is
    refused."""
    from kdcache.trainer.bench.removal import named_by, refuse_held, remove_run
    from kdcache.trainer.folder.home import find_run

    home = home_folder()
    folders = list(dict.fromkeys(find_run(home, run) for run in runs))
    for folder in folders:
        refuse_held(folder)
    named = {folder: named_by(folder.name, home) for folder in folders}
    _remove("run", folders, named, remove_run, yes=yes, as_json=as_json)


@click.command("rm")
@click.argument("caches", nargs=-1, required=True, metavar="CACHE...")
@option("--yes", is_flag=True, text=YES)
@option("--json", "as_json", is_flag=True, text=JSON_TEXT)
def caches_rm(caches: tuple[str, ...], yes: bool = False, as_json: bool = False) -> None:
    """Remove caches, after asking and saying which runs read them. One that is built or read now is
    refused."""
    from kdcache.cache.record.find import caches_dir, find_cache
    from kdcache.trainer.bench.removal import refuse_read, remove_cache, run_configs, runs_of_cache

    home = home_folder()
    folders = list(dict.fromkeys(find_cache(cache, caches_dir(home)) for cache in caches))
    configs = run_configs(home)
    for folder in folders:
        refuse_read(folder, home)
    read = {folder: runs_of_cache(folder, home, configs) for folder in folders}
    named = {folder: tuple(f"read by run {run}" for run in read[folder]) for folder in folders}
    _remove("cache", folders, named, lambda root: remove_cache(root, home), yes=yes, as_json=as_json)


def _remove(
    kind: str,
    folders: Sequence[Path],
    named: dict[Path, tuple[str, ...]],
    remove: Callable[[Path], None],
    *,
    yes: bool,
    as_json: bool,
) -> None:
    """Say, ask, remove."""
    from kdcache.trainer.bench.sizes import folder_bytes

    terminal = Terminal(errors=as_json)
    sizes = {folder: folder_bytes(folder) for folder in folders}
    for folder in folders:
        said = "; ".join(named[folder][:LISTED])
        more = len(named[folder]) - LISTED
        said += f" and {more} more" if more > 0 else ""
        terminal.say(f"{kind} {folder.name}, {size_text(sizes[folder])}{f': {said}' if said else ''}")
    question = f"Remove {'it' if len(folders) == 1 else f'these {len(folders)}'}?"
    if not yes and not asked_for_yes(question):
        terminal.say("nothing was removed")
        raise SystemExit(1)
    for folder in folders:
        remove(folder)
    if as_json:
        rows = [{"name": f.name, "num_bytes": sizes[f], "named_by": list(named[f])} for f in folders]
        Terminal().list_lines([json.dumps(rows)])
        return
    terminal.say(f"removed {len(folders)}, {size_text(sum(sizes.values()))} are free")
