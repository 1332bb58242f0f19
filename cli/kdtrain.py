"""`kdtrain`: train a student from a cache, on fresh views or beside a live teacher; `kdtrain eval` judges.

The bare command trains. Only what the user wrote is passed on; every default lives in `TrainConfig`.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from kdcache.cli.shared import (
    CAPTION,
    EXIT_INTERRUPTED,
    KdGroup,
    crop_option,
    device_option,
    home_folder,
    option,
    parse_crop,
    threads_option,
    written,
)

_HELP = dict(help_option_names=["-h", "--help"])
_OPTIONS: tuple[Callable[[Callable[..., None]], Callable[..., None]], ...] = (
    option("--student", text="r18, r50, mbv2, pspnet:resnet18, package.module:factory ... [r18]"),
    option(
        "--loss", text="none, kd, cwd, mgd, afdcd, 'cwd(tau=4,weight=3)+kd', package.module:Class. [none]"
    ),
    option("--data", text="Train on fresh views of NAME:FOLDER, such as camvid:DIR."),
    option("--cache", text="Train on stored views: a path, or a name under caches/. [the only one]"),
    option("--run", "--name", "run", text="Name of the folder under runs/. [from student and loss]"),
    option("--online", is_flag=True, text="Targets from a live teacher instead of the cache."),
    option("--teacher", text="With --online: a run's name, then a network's."),
    option("--teacher-weights", text="With --online: weights file of a teacher that is no run."),
    option(
        "--views",
        type=click.Choice(["fresh", "stored"]),
        text="With --online: which views. [by --data/--cache]",
    ),
    option("--steps", type=int, text="Optimizer steps. [40000]"),
    option("--epochs", type=float, text="Passes over the training samples, instead of --steps."),
    option("--batch-size", type=int, text="Samples per step over all processes. [16]"),
    option("--accumulate", type=int, text="Micro batches per step. [1]"),
    option("--optimizer", type=click.Choice(["sgd", "adamw"]), text="[sgd]"),
    option("--lr", type=float, text="[0.02 for sgd, 0.0002 for adamw]"),
    option("--weight-decay", type=float, text="[0.0001 for sgd, 0.01 for adamw]"),
    option("--momentum", type=float, text="[0.9]"),
    option("--poly-power", type=float, text="Rate = lr * (1 - step/steps) ** power. [0.9]"),
    option("--warmup-steps", type=int, text="[0]"),
    option("--clip", type=float, text="Largest norm of the student's gradient."),
    option("--ema", type=float, text="Decay of averaged weights, which are then judged and exported."),
    crop_option,
    option("--output-stride", type=int, text="[the cached teacher's, otherwise 8]"),
    option("--weights", text="Student backbone: none, imagenet or a file. [default: imagenet]"),
    option("--aux/--no-aux", default=None, text="Auxiliary head on stage 3. [on for ResNets]"),
    option("--seed", type=int, text="[0]"),
    option("--amp", type=click.Choice(["no", "bf16", "fp16"]), text="[no]"),
    option("--compile", "compile", is_flag=True, text="Compile the student with torch.compile."),
    option("--sync-bn/--no-sync-bn", default=None, text="[on for several GPU processes]"),
    option("--eval-every", type=int, text="Steps between validations. [only at the end]"),
    option("--save-every", type=int, text="Steps between checkpoints. [1000]"),
    option("--log", text="tensorboard, wandb, both with a comma, or none. [tensorboard]"),
    device_option,
    threads_option,
)


def _train_options(function: Callable[..., None]) -> Callable[..., None]:
    for decorate in reversed(_OPTIONS):
        function = decorate(function)
    return function


@click.group(cls=KdGroup, epilog=CAPTION, invoke_without_command=True, context_settings=_HELP)
@_train_options
@option("--resume", is_flag=True, text="Continue the run exactly where its last checkpoint is.")
@click.pass_context
def kdtrain(context: click.Context, /, **_: Any) -> None:
    """Train a student. Without a subcommand: train.

    \b
    kdtrain --student r50 --loss none --data camvid:DIR --run r50
    kdtrain --loss afdcd
    kdtrain --loss cwd+kd --student mbv2
    kdtrain --loss afdcd --online --teacher r50 --data camvid:DIR
    """
    given = written(context)
    if context.invoked_subcommand is None:
        _train(given, resume=bool(given.pop("resume", False)))


def _train(given: dict[str, Any], *, resume: bool) -> None:
    # Imported here: help and usage errors should not wait seconds for torch.
    from kdcache.cli.train_display import TrainDisplay
    from kdcache.trainer.run import train_run

    if "crop" in given:
        given["crop"] = parse_crop(given["crop"])
    with TrainDisplay(Console()) as display:
        try:
            train_run(given, home=home_folder(), resume=resume, listen=display)
        except KeyboardInterrupt:
            click.echo("stopped; add --resume to continue from the last checkpoint", err=True)
            raise SystemExit(EXIT_INTERRUPTED) from None


@kdtrain.command("eval", context_settings=_HELP)  # type: ignore[untyped-decorator]
@click.argument("run")
@option("--data", text="NAME:FOLDER to judge on. [what the run was trained on]")
@option("--split", default="val", text="val, test or train. [val]")
@option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), text="Also write the figures here, as JSON."
)
@device_option
@threads_option
def eval_command(
    run: str, data: str | None, split: str, out: Path | None, device: str | None, threads: int | None
) -> None:
    """Judge the exported student of RUN on whole images at native size."""
    from kdcache.trainer.run import evaluate_run

    run_dir, spec, metrics = evaluate_run(
        run, home=home_folder(), data=data, split=split, device=device or "auto", threads=threads or 1
    )
    if out is not None:
        out.write_text(json.dumps({"data": spec, "split": split, **metrics._asdict()}, indent=1) + "\n")
    console = Console()
    console.print(
        f"{run_dir.name} on {spec}, {split}: {metrics.num_images} images",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    table = Table("class", "IoU %", box=None)
    for name, iou in metrics.per_class_iou.items():
        table.add_row(name, "absent" if math.isnan(iou) else f"{100 * iou:.2f}")
    console.print(table)
    for name in ("miou", "miou_absent_zero", "pixel_accuracy"):
        console.print(f"{name} {100 * getattr(metrics, name):.2f} %", highlight=False, markup=False)


def main() -> None:
    kdtrain(prog_name="kdtrain")


if __name__ == "__main__":
    main()
