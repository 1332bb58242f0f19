"""`kdcache`: build a teacher's cache. Looking at one and checking it are in `look`, the demo in `demo`."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kdcache.cache.build.options import (
    GIB,
    KEEP_PIXELS,
    MAX_SHARD_BYTES,
    USUAL_BATCH,
    BuildOptions,
    parse_tap,
)
from kdcache.cache.files.sizes import parse_size
from kdcache.cache.processes.threads import plan_threads
from kdcache.cache.spec import MOST_ROWS, MOST_SEED, MOST_STRIDE, MOST_THREADS, PRECISIONS, Need, Task
from kdcache.cache.stores.table import DEFAULT_FORMAT, FORMATS
from kdcache.cli.bench.listing import caches_ls
from kdcache.cli.bench.removal import caches_rm
from kdcache.cli.bench.why import why_command
from kdcache.cli.caches.compact import compact
from kdcache.cli.caches.look import peek, show, taps, verify
from kdcache.cli.demo import demo
from kdcache.cli.quitting import as_process
from kdcache.cli.shared import (
    CAPTION,
    KdGroup,
    crop_option,
    home_folder,
    json_option,
    parse_crop,
    per_task,
    quiet_option,
)
from kdcache.cli.terminal import Terminal

if TYPE_CHECKING:
    from kdcache.cache.build.build import BuildReport
    from kdcache.cache.build.plan import Plan
    from kdcache.cli.caches.loss_fit import Fitting

DEFAULTS: dict[str, Any] = {one.name: one.default for one in fields(BuildOptions)}
_HELP = dict(help_option_names=["-h", "--help"])


@click.group(cls=KdGroup, epilog=CAPTION, context_settings=_HELP)
@click.version_option(package_name="kdcache")
def main() -> None:
    """Run a teacher once over a dataset and keep what it said, compressed, for any number of student runs."""


for command in (compact, demo, show, verify, peek, taps, caches_ls, caches_rm):
    main.add_command(command)


@main.command()  # type: ignore[untyped-decorator]
@click.option(
    "--teacher",
    help="A run's name, else a network: r50, timm:NAME, deeplabv3:resnet101, resnet32x4, gfl:r50, tv:NAME, "
    "pkg.mod:factory. "
    "Several, a,b,c: targets of each side by side.",
)
@click.option("--mean", is_flag=True, help="Of several teachers, keep the mean of their logits instead.")
@click.option(
    "--data",
    help="NAME:DIR, such as folder:DIR, camvid:DIR, imagefolder:DIR, npz:FILE, coco:DIR, yolo:DIR, "
    "voc-boxes:DIR, "
    "or MODULE:CLASS:DIR. "
    "Left out, the teacher run's data.",
)
@click.option(
    "--split", default=DEFAULTS["split"], show_default=True, help="Split of the data to run the teacher over."
)
@click.option(
    "--cache",
    help="A cache to grow, update or repair: its name or the beginning, its folder, or 'TEACHER DATA'.",
)
@click.option(
    "--tap",
    "taps",
    multiple=True,
    help="NAME, NAME=CODEC, NAME@MODULE.PATH; may be repeated. "
    f"[default: {per_task(lambda kind: ', '.join(kind.default_taps))}]",
)
@click.option("--for", "losses", help="Losses, comma separated: cache what they need.")
@click.option(
    "--views",
    help="crops:K, full, or both joined by '+'; turns:K; fit. "
    f"[default: {per_task(lambda kind: kind.views_said)}]",
)
@click.option(
    "--augment",
    help="What crop views draw, such as rrc=0.08,flip,jitter=0.4,mixup=0.2 or none. [default: the dataset's]",
)
@click.option(
    "--keep",
    type=click.Choice((KEEP_PIXELS,)),
    help="Also keep every view's finished pixels and label map: training then decodes nothing.",
)
@click.option("--mirror", is_flag=True, help="With full or fit views, also store the mirrored pass.")
@crop_option
@click.option(
    "--format",
    "target_format",
    type=click.Choice(tuple(FORMATS)),
    help=f"How targets are stored. [default: {DEFAULT_FORMAT}]",
)
@click.option("--zstd", is_flag=True, help="Compress targets with zstd level 1: smaller, slower to read.")
@click.option(
    "--batch-size",
    type=click.IntRange(1, MOST_ROWS),
    help="Images per forward of the teacher. [default: the cache's; of a new one by a short trial]",
)
@click.option(
    "--amp",
    type=click.Choice(tuple(PRECISIONS)),
    help="Precision of the teacher's forward. [default: the cache's; of a new one no]",
)
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, or auto.")
@click.option(
    "--shard-rows",
    default="auto",
    show_default=True,
    help=f"Samples per shard, or auto: the most whose largest array stays under {MAX_SHARD_BYTES >> 20} MiB.",
)
@click.option(
    "--memory",
    default=f"{DEFAULTS['memory_bytes'] // GIB}G",
    show_default=True,
    help="Upper bound of target bytes in memory in flight.",
)
@click.option(
    "--threads",
    type=click.IntRange(1, MOST_THREADS),
    default=DEFAULTS["threads"],
    show_default=True,
    help="Threads of the image pipeline.",
)
@click.option(
    "--rank-timeout",
    type=float,
    default=DEFAULTS["rank_timeout"],
    show_default=True,
    help="Seconds after which the others end, where one process gives no sign of life or stands still.",
)
@click.option(
    "--output-stride",
    type=click.IntRange(1, MOST_STRIDE),
    help="Of the teacher's last stage, where it can be chosen. [default: the run's, else 8]",
)
@click.option("--weights", help="imagenet, a tag, a .safetensors file or a weights-only .pt file.")
@click.option(
    "--seed",
    type=click.IntRange(0, MOST_SEED),
    help="Of the drawn views. [default: the cache's; of a new one 0]",
)
@click.option(
    "--keep-empty", is_flag=True, help="Of objects: keep images without any box that training can use."
)
@click.option(
    "--skip-bad", is_flag=True, help="Mark unusable samples invalid and go on, instead of stopping."
)
@click.option("--update", is_flag=True, help="New rows for changed samples; retire those that went away.")
@click.option("--repair", is_flag=True, help="Check every digest first and put back what is damaged.")
@quiet_option
@json_option
@click.option(
    "--check", is_flag=True, help="Read every file of the data, also where size and time are as before."
)
def build(*, quiet: bool, as_json: bool, **given: Any) -> None:
    """Run the teacher once and keep its taps. Again: continue, grow (--tap, --for, --views), update or
    repair."""
    from kdcache.cache.record.find import caches_dir, find_cache, list_caches, runs_dir

    home = home_folder()
    _check_names(given["teacher"], given["data"], given["losses"], runs_dir(home))
    existing, cache = None, given.pop("cache")
    if cache is not None or (given["teacher"] is None and list_caches(caches_dir(home))):
        existing = find_cache(cache, caches_dir(home))
    # From here on it takes torch, and seconds.
    from kdcache.cache.build.build import build_cache
    from kdcache.cli.caches.build_display import BuildDisplay

    options = build_options(existing, **given)
    first_rank = int(os.environ.get("RANK", "0")) == 0
    terminal = Terminal(quiet=quiet or as_json or not first_rank)
    look = partial(_first_look, options=options)
    threads = plan_threads(options.threads, on_gpu=options.device != "cpu").words
    with BuildDisplay(terminal, look, fits=options.fits, threads=threads) as display:
        report = build_cache(options, display.events())
    if first_rank:
        _say_built(report, terminal, as_json)


def _say_built(report: "BuildReport", terminal: Terminal, as_json: bool) -> None:
    from kdcache.cli.caches.served_losses import remember_served

    if report.shards or report.settled:
        remember_served(report.root)
    if as_json:
        terminal.document(
            {"cache": report.root, "name": report.root.name, "generation": report.generation,
             "rows": report.rows, "shards": report.shards, "skipped": report.skipped}
        )  # fmt: skip
    if report.shards:
        terminal.say(f"wrote {report.rows} rows; the cache is ", strong=report.root)
    elif report.settled:
        terminal.say(f"settled in generation {report.generation} of ", strong=report.root)
    else:
        terminal.say("nothing to do: ", strong=report.root, rest=" is complete")


def _check_names(teacher: str | None, data: str | None, losses: str | None, runs: Path) -> None:
    """Raises BadOption for a loss, a data set or a network that nobody has, before anything is looked for."""
    from kdcache.cache.networks.names import TEACHER, check_teacher
    from kdcache.cache.sources.table import check_data, task_of_data
    from kdcache.losses.plan.written import check_expression

    for name in _split(losses or ""):
        if name:
            check_expression(name)
    if teacher:
        check_teacher(teacher, task_of_data(data or ""), runs, TEACHER)
    if data:
        check_data(data)


def build_options(
    existing: Path | None, *, teacher: str | None, mean: bool, data: str | None, split: str,
    taps: tuple[str, ...], losses: str | None, views: str | None, augment: str | None, mirror: bool,
    keep: str | None, crop: str | None, target_format: str | None, zstd: bool, batch_size: int | None,
    amp: str | None, device: str, shard_rows: str, memory: str, threads: int,
    output_stride: int | None, weights: str | None, seed: int | None, keep_empty: bool, skip_bad: bool,
    update: bool, repair: bool, check: bool, rank_timeout: float,
) -> BuildOptions:  # fmt: skip
    """What was typed, read. Raises BadOption."""
    from kdcache.cache.record.find import caches_dir, runs_dir
    from kdcache.cli.shared import parse_count, pick_device

    home = home_folder()
    return BuildOptions(
        runs_dir=runs_dir(home), caches_dir=caches_dir(home), teacher=teacher, mean=mean, data=data,
        split=split, cache=existing, taps=tuple(parse_tap(t) for t in taps), needs_of=_needs_of(losses),
        fits=_fitting(losses), views=views, augment=augment, keep=keep, mirror=mirror, crop=parse_crop(crop),
        target_format=target_format, zstd=zstd, batch_size=batch_size, amp=amp, device=pick_device(device),
        threads=threads, shard_rows=None if shard_rows == "auto" else parse_count(shard_rows, "--shard-rows"),
        memory_bytes=parse_size(memory, "--memory"), output_stride=output_stride, weights=weights, seed=seed,
        keep_empty=keep_empty, skip_bad=skip_bad, update=update, repair=repair, check=check,
        rank_timeout=rank_timeout,
    )  # fmt: skip


def _as_build(given: Mapping[str, Any]) -> BuildOptions:
    """What `kdcache build` would do, of a cache of its own."""
    rest = dict.fromkeys(("update", "repair", "check", "skip_bad"), False)
    rest["rank_timeout"] = DEFAULTS["rank_timeout"]
    return build_options(None, **{**rest, **given})


main.add_command(why_command(build, _as_build))


def _first_look(plan: "Plan", options: BuildOptions) -> str:
    """How good the teacher is on a few of the images; '' where it answers for other classes than these."""
    from kdcache.trainer.judge.first_look import first_look

    if plan.network.config.class_difference(plan.source.class_names):
        return ""
    return first_look(
        plan.network,
        plan.source,
        input_size=plan.manifest.crop,
        device=options.device,
        batch_size=options.batch_size or USUAL_BATCH,
        num_threads=options.threads,
    )


def _needs_of(losses: str | None) -> Callable[[Task], tuple[Need, ...]] | None:
    """What the comma-separated losses read on a task; commas inside parentheses separate options."""
    if not losses:
        return None
    names = _split(losses)

    def needs(task: Task) -> tuple[Need, ...]:
        from kdcache.losses.plan.plan import needs_of

        return tuple(need for name in names for need in needs_of(name, task=task))

    return needs


def _fitting(losses: str | None) -> "Fitting | None":
    """The check that the cache to be built fits these losses."""
    if not losses:
        return None
    from kdcache.cli.caches.loss_fit import Fitting

    return Fitting(_split(losses))


def _split(losses: str) -> list[str]:
    return [name.strip() for name in re.split(r",(?![^(]*\))", losses)]


def process() -> None:
    as_process(lambda: main(prog_name="kdcache"))


if __name__ == "__main__":
    process()
