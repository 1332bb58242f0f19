"""`kdtrain chain`: students that teach each other in turn, in the commands that a user would type."""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click
from rich_click import RichCommand, RichOptionPanel

from kdcache.cache.errors import BadOption
from kdcache.cache.processes.child import in_a_process
from kdcache.cache.trust import OPTION, names_in
from kdcache.cache.visible import shell_line
from kdcache.cli.shared import consented, home_folder, option, per_task, written
from kdcache.cli.terminal import Terminal, say_error
from kdcache.cli.training.train_options import FIRST_PANEL, panels, train_options, typed
from kdcache.trainer.config import TrainConfig
from kdcache.trainer.folder.option_field import spelled

if TYPE_CHECKING:
    from pathlib import Path

    from kdcache.trainer.chain import Link

# What the chain itself decides for each link.
DECIDED = ("student", "cache", "online", "teacher", "teacher_weights", "views", "init")
OF_FRESH_VIEWS = ("data", "crop", "augment")  # options of the first link; the others see its cache
OF_BUILDING = ("augment", "device", "threads", "keep_empty")
OWN = ("networks", "build_views", "dry_run", "run", "loss")
OTHER = (*DECIDED, "run", "loss")  # of training, decided here or with a default of their own here


@click.command(
    "chain",
    cls=RichCommand,
    context_settings=dict(help_option_names=["-h", "--help"]),
)
@click.argument("networks", nargs=-1, metavar="NETWORK[@EPOCHS]...")
@option("--loss", text="What each network learns from the one before it, as 'kdtrain --loss'. [kd]")
@option("--run", "--name", "run", text="Beginning of each run's name. [chain]")
@option(
    "--build-views",
    text="Views of each cache, as 'kdcache build --views'. "
    f"[default: {per_task(lambda kind: kind.views_said)}]",
)
@option("--dry-run", is_flag=True, text="Print the commands and stop.")
@train_options(without=OTHER)
@click.pass_context
def chain(context: click.Context, /, **_: Any) -> None:
    """Train the first network, cache it, train the second from that cache with --loss, cache that one, and
    so on. The same command continues a chain that was stopped; finished links are kept.

    \b
    kdtrain chain r101 r50 r18 --data camvid:DIR
    kdtrain chain resnet110 resnet56 resnet20 --data cifar100:DIR --loss dkd --epochs 240

    The order is yours: 'r18 r50' is reversed distillation. NETWORK@EPOCHS trains one link that long, under a
    rate schedule of its own that ends there: 'r101@30 r18' has an early-stopped teacher, 'r101@1 r18' a
    defective one. --epochs and --steps are for the other links.
    """
    given = written(context)
    networks = tuple(context.params["networks"])
    options = {name: value for name, value in given.items() if name != "networks"}
    _chain(networks, options, consented(context))


for _title, _flags in panels(without=OTHER):
    _first = ("--loss", "--run") if _title == FIRST_PANEL else ()
    chain.add_panel(RichOptionPanel(_title, options=[*_first, *_flags]))


def _chain(networks: tuple[str, ...], given: Mapping[str, Any], trusted: Sequence[str]) -> None:
    from kdcache.cache.networks.names import check_name
    from kdcache.cache.sources.table import check_data, task_of_data
    from kdcache.losses.plan.written import check_expression

    loss, home = str(given.get("loss", "kd")), home_folder()
    _check_alone(given)
    # A number that no link could run with is said before anything is looked for.
    TrainConfig(**{"run": "chain", **typed({n: value for n, value in given.items() if n not in OWN})})
    check_expression(loss)
    for text in networks:
        where = f"kdtrain chain {text}"
        check_name(text.rpartition("@")[0] or text, task_of_data(given["data"]), where)
    check_data(given["data"])
    from kdcache.trainer.chain import cache_of, check_chain, read_links, state_of

    links = read_links(
        networks, prefix=given.get("run", "chain"), loss=loss, seed=given.get("seed", TrainConfig.seed)
    )
    for link in links:  # nor one of a link's own, '@EPOCHS', after the first one ran
        TrainConfig(**{"run": link.run, **typed(_training(link, given, loss=loss, cache=""))})
    check_chain(links, data=given["data"], loss=loss)
    dry = bool(given.get("dry_run"))
    cache = ""
    for place, link in enumerate(links):
        options = _training(link, given, loss=loss if place else "none", cache=cache)
        state = "new" if dry else state_of(home, link, typed(options))
        Terminal().say(f"link {place + 1} of {len(links)}: {link.network}, run {link.run}, {state}")
        if state != "finished":
            resumed = ["--resume"] if state == "begun" else []
            _run(["kdtrain", "--run", link.run, *_arguments(options), *resumed], trusted, dry=dry)
        if place + 1 < len(links):
            _run(_building(link, given, loss), trusted, dry=dry)
            cache = f"CACHE_OF_{link.run}" if dry else cache_of(home, link).name
    if not dry:
        Terminal().say(f"the chain is complete: {_runs(home, links)}")


def _check_alone(given: Mapping[str, Any]) -> None:
    if "data" not in given:
        raise BadOption(
            "a chain begins with training on data, and none was named",
            where="kdtrain chain",
            fix="add --data NAME:FOLDER, such as --data camvid:DIR",
        )
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise BadOption(
            "a chain is one process, and this one was started as one of several",
            where=f"WORLD_SIZE={os.environ['WORLD_SIZE']}",
            fix="run the commands that --dry-run prints under torchrun or accelerate launch",
        )


def _training(link: "Link", given: Mapping[str, Any], *, loss: str, cache: str) -> dict[str, Any]:
    """Options of one link, as the user wrote their values."""
    left_out = (*OWN, *(OF_FRESH_VIEWS if cache else ()), *(("epochs", "steps") if link.epochs else ()))
    kept = {name: value for name, value in given.items() if name not in left_out}
    pixels = {"cache": cache} if cache else {}
    own = {"epochs": link.epochs} if link.epochs else {}
    return {"student": link.network, "loss": loss, **pixels, **kept, **own}


def _building(link: "Link", given: Mapping[str, Any], loss: str) -> list[str]:
    views = {"views": given["build_views"]} if "build_views" in given else {}
    kept = {name: given[name] for name in OF_BUILDING if name in given}
    return ["kdcache", "build", "--teacher", link.run, "--for", loss, *_arguments({**views, **kept})]


def _arguments(options: Mapping[str, Any]) -> list[str]:
    """{'lr': 0.1, 'nesterov': True, 'aux': False} -> --lr 0.1 --nesterov --no-aux."""
    words: list[str] = []
    for name, value in options.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", spelled(value)]
    return words


def _run(command: list[str], trusted: Sequence[str], *, dry: bool) -> None:
    """Run one command as a process of its own; its failure ends the chain with its exit status.

    Consent is handed on: the run of a link names its network, and a file's word alone is not enough.
    """
    named = names_in(command)
    command += [word for name in trusted if name not in named for word in (OPTION, name)]
    Terminal().say(f"$ {shell_line(command)}")
    status = 0 if dry else execute(command)
    if status:
        say_error("the chain stops here; the same command continues it")
        raise SystemExit(status)


def execute(command: list[str]) -> int:
    """Exit status of 'kdtrain ...' or 'kdcache ...'. A process of its own gives its memory back."""
    return in_a_process([sys.executable, "-m", f"kdcache.cli.{command[0]}", *command[1:]])


def _runs(home: "Path", links: tuple["Link", ...]) -> str:
    from kdcache.cache.record.find import runs_dir

    return ", ".join(str(runs_dir(home) / link.run) for link in links)
