"""`kdtrain`: train a student from a cache, on fresh views or beside a live teacher.

The bare command trains; `eval` judges a run, `chain` lets students teach each other, `methods` lists losses.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich_click import RichOptionPanel

from kdcache.cache.files.system import user_path, write_whole
from kdcache.cli.leaving.export import export
from kdcache.cli.leaving.exported import judge_export
from kdcache.cli.leaving.predict import predict
from kdcache.cli.shared import (
    CAPTION,
    KdGroup,
    home_folder,
    make_folder_of,
    option,
    written,
)
from kdcache.cli.terminal import Terminal
from kdcache.cli.training.chain import chain
from kdcache.cli.training.eval_display import judged_record, show_judged
from kdcache.cli.training.methods import methods
from kdcache.cli.training.train_options import panels, train_option, train_options, typed
from kdcache.trainer.config import MachineOptions

if TYPE_CHECKING:
    from kdcache.trainer.run import Judged

_HELP = dict(help_option_names=["-h", "--help"])


@click.group(cls=KdGroup, epilog=CAPTION, invoke_without_command=True, context_settings=_HELP)
@train_options()
@option("--resume", is_flag=True, text="Continue the run exactly where its last checkpoint is.")
@click.pass_context
def kdtrain(context: click.Context, /, **_: Any) -> None:
    """Train a student. Without a subcommand: train.

    \b
    kdtrain --student r50 --loss none --data camvid:DIR --run r50
    kdtrain --loss afdcd
    kdtrain --loss cwd+kd --student mbv2
    kdtrain --loss dkd --student resnet20 --lr-schedule multistep
    kdtrain --loss afdcd --online --teacher r50 --data camvid:DIR
    """
    given = written(context)
    if context.invoked_subcommand is None:
        _train(given, resume=bool(given.pop("resume", False)))


def _train(given: dict[str, Any], *, resume: bool) -> None:
    # Imported here: help and usage errors should not wait seconds for torch.
    from kdcache.cli.training.train_display import TrainDisplay
    from kdcache.trainer.run import train_run

    given = typed(given)
    with TrainDisplay(Terminal()) as display:
        train_run(given, home=home_folder(), resume=resume, listen=display)


@kdtrain.command("eval", context_settings=_HELP)  # type: ignore[untyped-decorator]
@click.argument("run", required=False)
@option(
    "--exported",
    type=click.Path(file_okay=False, path_type=Path),
    text="Judge what 'kdtrain export' wrote into this folder, and no run.",
)
@option("--data", text="NAME:FOLDER to judge on. [what the run was trained on]")
@option("--split", default="val", text="val, test or train. [val]")
@option("--teacher", text="A run's name, then a network's: how far do both agree? Classification.")
@option("--teacher-weights", text="Weights file of a teacher that is no run.")
@option("--exit", "exit_number", type=int, text="Judge exit N, from 1, of a student with exits (byot).")
@option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), text="Also write the figures here, as JSON."
)
@option(
    "--json",
    "records_out",
    type=click.Path(dir_okay=False, path_type=Path),
    text="Write what is said of each image here: boxes in COCO's result format. Detection.",
)
@train_option("device")
@train_option("threads")
@click.pass_context
def eval_command(
    context: click.Context,
    /,
    run: str | None,
    split: str,
    out: Path | None,
    records_out: Path | None,
    **_: Any,
) -> None:
    """Judge the exported student of RUN: segmentation on whole images at native size, classification on
    centre crops, detection on whole images fitted onto the canvas.

    \b
    kdtrain eval r18-afdcd --split test
    kdtrain eval resnet20-kd --teacher resnet56
    kdtrain eval resnet18-byot --exit 2
    kdtrain eval gfl-r18-bckd --json boxes.json
    kdtrain eval --exported r18-onnx
    """
    given = {
        "data": None,
        "device": MachineOptions.device,
        "threads": MachineOptions.threads,
        **written(context),
    }
    given = {name: value for name, value in given.items() if name not in ("run", "split", "out")}
    given["with_records"] = given.pop("records_out", None) is not None
    for path in (out, records_out):
        if path is not None:  # what would stop the writing is said before an hour of judging
            make_folder_of(path)
    judged = _judged(run, split, given)
    show_judged(Terminal(), judged, split, given.get("exit_number"))
    if out is not None:
        record = judged_record(judged, split, given.get("exit_number"))
        write_whole(user_path(out), f"{json.dumps(record, indent=1)}\n".encode())
    if records_out is not None:
        write_whole(user_path(records_out), f"{json.dumps(list(judged.records))}\n".encode())


def _judged(run: str | None, split: str, given: dict[str, Any]) -> "Judged":
    if run is None or "exported" in given:
        return judge_export(run, split=split, given=given)
    from kdcache.trainer.run import evaluate_run

    return evaluate_run(run, home=home_folder(), split=split, **given)


for _command in (chain, methods, predict, export):
    kdtrain.add_command(_command)
for _title, _flags in panels():
    kdtrain.add_panel(RichOptionPanel(_title, options=list(_flags)))


def main() -> None:
    kdtrain(prog_name="kdtrain")


if __name__ == "__main__":
    main()
