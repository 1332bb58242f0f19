"""`kdtrain judge-run`, hidden: what a sweep calls for each run that ended, in a process of its own."""

import click

from kdcache.cli.shared import home_folder
from kdcache.cli.terminal import Terminal
from kdcache.cli.training.train_options import train_option
from kdcache.trainer.config import MachineOptions


@click.command("judge-run", hidden=True)
@click.argument("run")
@train_option("device")
@train_option("threads")
def judge_run(run: str, device: str | None = None, threads: int | None = None) -> None:
    """Judge a finished run on every split of its data but train, and keep the scores beside its student."""
    judge_splits(run, device=device, threads=threads, terminal=Terminal())


def judge_splits(run: str, *, device: str | None, threads: int | None, terminal: Terminal) -> None:
    from kdcache.cache.networks.run_card import read_run_card
    from kdcache.trainer.bench.scoring import judge_and_keep
    from kdcache.trainer.bench.work import judged_splits
    from kdcache.trainer.folder.home import find_run

    home = home_folder()
    run_dir = find_run(home, run)
    for split in judged_splits(read_run_card(run_dir).data):
        judge_and_keep(
            run_dir, home=home, split=split, device=device or MachineOptions.device, threads=threads
        )
        terminal.say(f"{run_dir.name}: judged on {split}")
