"""Looking at caches and teachers: `kdcache show`, `verify`, `peek`, `taps`. Each parses and calls one
function."""

from collections.abc import Callable
from pathlib import Path

import click

from kdcache.cache.errors import BadOption
from kdcache.cache.spec import MOST_ROWS, MOST_SEED, MOST_STRIDE, Task
from kdcache.cache.tasks.table import task_names
from kdcache.cli.shared import (
    CACHE_HELP,
    P,
    R,
    crop_option,
    home_folder,
    json_option,
    option,
    parse_crop,
    quiet_option,
)
from kdcache.cli.terminal import Terminal


def _cache_option(function: Callable[P, R]) -> Callable[P, R]:
    """--cache beside the word without a flag, as the other commands take it."""
    text = "The cache, as in other commands; the same as CACHE. [default: the only one]"
    return option("--cache", "named", text=text)(function)


def _one_cache(cache: str | None, named: str | None) -> str | None:
    """Of the two ways to name it. Raises BadOption for two caches."""
    if None not in (cache, named) and cache != named:
        raise BadOption(
            f"two caches are named, '{cache}' and '{named}'", where="--cache", fix="name one of them"
        )
    return named if cache is None else cache


@click.command()
@click.argument("cache", required=False)
@_cache_option
@click.option("--keys", is_flag=True, help="List the samples' keys instead.")
@json_option
def show(cache: str | None, named: str | None, keys: bool, as_json: bool) -> None:
    """What a cache holds: teacher, data, views, taps, shards, digests, and which losses it can serve."""
    from kdcache.cache.record.find import find_cache

    root = find_cache(_one_cache(cache, named), home_folder() / "caches")
    from kdcache.cache.reader.cache import open_cache
    from kdcache.cli.caches.show_table import cache_record, print_cache

    opened = open_cache(root)
    opened.check_complete()
    if as_json:
        listed = {"keys": [opened.key(index) for index in opened.living.tolist()]} if keys else {}
        Terminal().document({**cache_record(opened), **listed})
        return
    if keys:
        Terminal().list_lines(opened.key(index) for index in opened.living.tolist())
        return
    print_cache(opened, Terminal())


@click.command()
@click.argument("cache", required=False)
@_cache_option
@click.option(
    "--pixels", is_flag=True, help="Also make every row's teacher input again and compare its digest."
)
@click.option("--deep", is_flag=True, help="Also run the teacher again on some rows and compare.")
@click.option(
    "--rows", type=click.IntRange(1, MOST_ROWS), default=8, show_default=True, help="Rows for --deep."
)
@click.option("--weights", help="The teacher's weights, where they are not those of a run.")
@click.option("--teacher", help="The teacher, where it is code of your own. [default: the cache's]")
@quiet_option
@json_option
def verify(
    cache: str | None, named: str | None, pixels: bool, deep: bool, rows: int, weights: str | None,
    teacher: str | None, quiet: bool, as_json: bool,
) -> None:  # fmt: skip
    """Check everything that a cache holds against its seals and digests; --pixels also makes the teacher's
    input again, --deep compares targets with the teacher. Exit status 1 for whatever is not as it must be."""
    from kdcache.cache.record.find import find_cache

    home = home_folder()
    root = find_cache(_one_cache(cache, named), home / "caches")
    from kdcache.cli.caches.verify_display import check_deeply, check_pixels, check_seals

    terminal = Terminal(quiet=quiet or as_json)
    good = check_seals(root, terminal)
    good = good and (not pixels or check_pixels(root, terminal))
    if good and deep:
        from kdcache.cache.look.teacher import manifest_teacher

        good = check_deeply(root, manifest_teacher(root, home / "runs", weights, teacher), rows, terminal)
    if as_json:
        terminal.document({"cache": root, "name": root.name, "good": good, "said": terminal.said})
    if not good:
        raise SystemExit(1)


@click.command()
@click.argument("key")
@click.option("--cache", help=CACHE_HELP)
@click.option("--view", type=click.IntRange(0, MOST_SEED), default=0, show_default=True, help="View number.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("peek.png"),
    show_default=True,
    help="PNG to write.",
)
def peek(key: str, cache: str | None, view: int, out: Path) -> None:
    """Draw one sample: image, label, the teacher's prediction, and each tap as colours."""
    from kdcache.cache.record.find import find_cache

    root = find_cache(cache, home_folder() / "caches")
    from kdcache.cache.look.peek import peek as draw
    from kdcache.cache.reader.cache import open_cache

    titles = draw(open_cache(root), key, view, out)
    Terminal().say(f"{out}: {', '.join(titles)}")


@click.command()
@click.option("--teacher", required=True, help="A run's name, else a network.")
@click.option("--modules", is_flag=True, help="List every module path as well, for --tap NAME@PATH.")
@click.option("--output-stride", type=click.IntRange(1, MOST_STRIDE), help="[default: the run's, else 8]")
@click.option(
    "--classes",
    type=click.IntRange(1, MOST_ROWS),
    help="Classes, for a network that is not a run. [default: those of --weights, else 19]",
)
@click.option(
    "--task",
    type=click.Choice(task_names()),
    help="What the network is for. [default: the run's; classification for CIFAR nets, else segmentation]",
)
@click.option(
    "--weights", help="Weights to check against the network; of several teachers A,B, empty for a run."
)
@crop_option
def taps(
    teacher: str, modules: bool, output_stride: int | None, classes: int | None, task: Task | None,
    weights: str | None, crop: str | None,
) -> None:  # fmt: skip
    """List a teacher's taps with shape, stride and bytes per row.

    \b
    kdcache taps --teacher r50
    kdcache taps --teacher timm:resnet50 --task classification
    kdcache taps --teacher gfl:r50
    kdcache taps --teacher r50 --weights FILE.pt
    """
    from kdcache.cache.networks.names import check_teacher

    runs = home_folder() / "runs"
    check_teacher(teacher, task, runs, "--teacher (no run has this name)")
    from kdcache.cache.look.teacher import module_paths, network_for_listing
    from kdcache.cache.networks.resolve import peeled
    from kdcache.cli.caches.taps_table import taps_table

    network, default = network_for_listing(teacher, runs, classes, output_stride, task, weights)
    size = parse_crop(crop) or default
    read = f", weights {weights}{peeled(network)}" if weights else ""
    terminal = Terminal()
    told = f" of {network.num_classes} classes" if weights and network.num_classes else ""
    terminal.say(f"{network.name}{told}, input {size[0]}x{size[1]}{read}")
    terminal.show(taps_table(network, size))
    if modules:
        terminal.list_lines(module_paths(network))
