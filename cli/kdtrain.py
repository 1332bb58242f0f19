"""`kdtrain`: train a student from a cache, on fresh views or beside a live teacher.

The bare command trains; `eval` judges a run, `chain` lets students teach each other, `methods` lists losses.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich_click import RichOptionPanel

from kdcache.cache.files.system import user_path, write_whole
from kdcache.cache.trust import consent, names_in
from kdcache.cli.bench.compare import compare
from kdcache.cli.bench.judge_run import judge_run, judge_splits
from kdcache.cli.bench.listing import runs_ls
from kdcache.cli.bench.removal import runs_rm
from kdcache.cli.bench.report import report
from kdcache.cli.bench.sweep import sweep
from kdcache.cli.bench.together import train_together
from kdcache.cli.leaving.export import export
from kdcache.cli.leaving.exported import judge_export
from kdcache.cli.leaving.predict import predict
from kdcache.cli.quitting import as_process
from kdcache.cli.shared import (
    CAPTION,
    KdGroup,
    folder_of,
    home_folder,
    option,
    quiet_option,
    written,
)
from kdcache.cli.terminal import Terminal
from kdcache.cli.training.chain import chain
from kdcache.cli.training.eval_display import keep_scores, show_judged
from kdcache.cli.training.methods import methods
from kdcache.cli.training.train_options import panels, train_option, train_options, typed
from kdcache.trainer.config import MachineOptions

if TYPE_CHECKING:
    from kdcache.trainer.run import Judged

_HELP = dict(help_option_names=["-h", "--help"])


@click.group(cls=KdGroup, epilog=CAPTION, invoke_without_command=True, context_settings=_HELP)
@train_options()
@option("--resume", is_flag=True, text="Continue the run exactly where its last checkpoint is.")
@option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    text="Options of a TOML file, such as a run's config.toml; all but its run. What you write wins.",
)
@quiet_option
@option("--json", "as_json", is_flag=True, text="Say what happens as lines of JSON, and nothing else.")
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
        own = {name: given.pop(name, None) for name in ("resume", "config", "quiet", "as_json")}
        quiet = bool(own["quiet"] or own["as_json"])
        _train(given, resume=bool(own["resume"]), file=own["config"], listener=_listener(own), quiet=quiet)


def _listener(own: dict[str, Any]) -> Callable[[], AbstractContextManager[Any]]:
    """Who listens to the run, made when torch is there."""

    def made() -> AbstractContextManager[Any]:
        from kdcache.cli.training.json_lines import JsonLines
        from kdcache.cli.training.train_display import TrainDisplay

        quiet = bool(own["quiet"] or own["as_json"])
        return nullcontext(JsonLines(Terminal())) if own["as_json"] else TrainDisplay(Terminal(quiet=quiet))

    return made


def _train(
    given: dict[str, Any],
    *,
    resume: bool,
    file: Path | None,
    listener: Callable[[], AbstractContextManager[Any]],
    quiet: bool,
) -> None:
    # Imported here: help, usage errors and wrong names should not wait seconds for torch.
    from kdcache.trainer.folder.start import configured, with_file

    given = typed(given)
    if file is not None:
        given = with_file(given, file, resume=resume, left_out=partial(_say_left_out, file, quiet))
    with consent(names_in(str(value) for value in given.values() if isinstance(value, str))):
        configured(given, home_folder(), resume=resume)
    from kdcache.trainer.run import train_run

    with listener() as listen:
        train_run(given, home=home_folder(), resume=resume, listen=listen)
    _judge_for_sweep(given)


def _judge_for_sweep(given: Mapping[str, Any]) -> None:
    """Where a sweep asked for it, judge the run that was trained: another process would load torch again. One
    that cannot be judged here is judged by the sweep, which then says why."""
    from kdcache.trainer.bench.work import JUDGES_VARIABLE

    if os.environ.get(JUDGES_VARIABLE) and "run" in given:
        with suppress(Exception):
            judge_splits(
                given["run"], device=given.get("device"), threads=given.get("threads"), terminal=Terminal()
            )


def _say_left_out(file: Path, quiet: bool, names: Sequence[str]) -> None:
    if os.environ.get("RANK", "0") == "0":
        Terminal(quiet=quiet).say(
            f"of {file.name} not taken over, beside what you wrote: {', '.join(names)}",
        )


@kdtrain.command("eval", context_settings=_HELP)  # type: ignore[untyped-decorator]
@click.argument("run", required=False)
@option(
    "--exported",
    type=click.Path(file_okay=False, path_type=Path),
    text="Judge what 'kdtrain export' wrote into this folder, and no run.",
)
@option("--data", text="NAME:FOLDER to judge on. [what the run was judged on, else trained on]")
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
@quiet_option
@click.pass_context
def eval_command(
    context: click.Context, /, run: str | None, split: str, out: Path | None, records_out: Path | None,
    quiet: bool, **_: Any,
) -> None:  # fmt: skip
    """Judge the exported student of RUN: segmentation on whole images at native size, classification on
    centre crops, detection on whole images fitted onto the canvas.

    \b
    kdtrain eval r18-afdcd --split test
    kdtrain eval resnet20-kd --teacher resnet56
    kdtrain eval resnet18-byot --exit 2
    kdtrain eval gfl_r18-bckd --json boxes.json
    kdtrain eval --exported r18-onnx
    """
    if context.params.get("exported") is None:
        _check_asked(run, context.params.get("data"), context.params.get("teacher"))
    given = {
        "data": None,
        "device": MachineOptions.device,
        "threads": MachineOptions.threads,
        **written(context),
    }
    given = {name: value for name, value in given.items() if name not in ("run", "split", "out", "quiet")}
    given["with_records"] = given.pop("records_out", None) is not None
    with ExitStack() as folders:  # what would stop the writing is said before an hour of judging
        for path in filter(None, (out, records_out)):
            folders.enter_context(folder_of(path))
        _judge_and_write(run, split, given, out, records_out, Terminal(quiet=quiet))


def _judge_and_write(
    run: str | None, split: str, given: dict[str, Any], out: Path | None, records_out: Path | None,
    terminal: Terminal,
) -> None:  # fmt: skip
    judged, number = _judged(run, split, given), given.get("exit_number")
    show_judged(terminal, judged, split, number)
    from kdcache.trainer.bench.scoring import judged_record

    record = judged_record(judged, split, number)
    if given["data"] is None and number is None and "exported" not in given:
        keep_scores(terminal, judged.run_dir, split, record)
    if out is not None:
        write_whole(user_path(out), f"{json.dumps(record, indent=1)}\n".encode())
    if records_out is not None:
        write_whole(user_path(records_out), f"{json.dumps(list(judged.records))}\n".encode())


def _check_asked(run: str | None, data: str | None, teacher: str | None) -> None:
    from kdcache.trainer.folder.start import check_asked

    if run is not None:
        check_asked(run, home_folder(), data=data, teacher=teacher)


def _judged(run: str | None, split: str, given: dict[str, Any]) -> "Judged":
    if run is None or "exported" in given:
        return judge_export(run, split=split, given=given)
    from kdcache.trainer.run import evaluate_run

    return evaluate_run(run, home=home_folder(), split=split, **given)


for _command in (
    chain,
    compare,
    export,
    judge_run,
    methods,
    predict,
    report,
    runs_ls,
    runs_rm,
    sweep,
    train_together,
):
    kdtrain.add_command(_command)
for _title, _flags in panels():
    kdtrain.add_panel(RichOptionPanel(_title, options=list(_flags)))


def main() -> None:
    kdtrain(prog_name="kdtrain")


def process() -> None:
    as_process(main)


if __name__ == "__main__":
    process()
