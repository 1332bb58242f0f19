"""A run from the options that a user wrote: start it, continue it, judge it. What the command line calls."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from accelerate import Accelerator
from torch import nn

from kdcache.cache.errors import BadOption, LostGeneration, NotFinite
from kdcache.cache.networks.resolve import member_names, resolve_teacher
from kdcache.cache.networks.run import load_run_network
from kdcache.cache.networks.run_card import DataClasses, RunCard, classes_fix, other_classes, read_run_card
from kdcache.cache.record.find import runs_dir
from kdcache.cache.sources.contract import Source
from kdcache.cache.sources.table import open_source
from kdcache.cache.trust import consent, names_in
from kdcache.cache.visible import shell_line
from kdcache.trainer.assemble import assemble
from kdcache.trainer.config import MachineOptions, read_config, start_words
from kdcache.trainer.events import Listen, silent
from kdcache.trainer.folder.environment import begun_generation
from kdcache.trainer.folder.home import absolute_spec, find_run
from kdcache.trainer.folder.start import configured
from kdcache.trainer.judge.alone import judge_alone
from kdcache.trainer.judge.contract import Judge
from kdcache.trainer.judge.judge import judge_of
from kdcache.trainer.judge.metrics import Metrics, no_figures_said
from kdcache.trainer.loop import Training, train
from kdcache.trainer.ranks import ranks_of
from kdcache.trainer.steps.contract import RunParts
from kdcache.trainer.stream.run_source import RunSource, open_run_source
from kdcache.trainer.students.exits import load_exit


def train_run(
    given: Mapping[str, Any], *, home: Path, resume: bool = False, listen: Listen = silent
) -> Mapping[str, float]:
    """Train from options by field name of `TrainConfig`, only those that the user wrote.

    Returns the metrics of the run's card. Raises KdError for whatever options, data or cache do not allow.
    """
    # What the caller writes here is no file's word; the run reads its own card again when it exports.
    with consent(names_in(str(value) for value in given.values() if isinstance(value, str))):
        return _train(given, home=home, resume=resume, listen=listen)


def _train(given: Mapping[str, Any], *, home: Path, resume: bool, listen: Listen) -> Mapping[str, float]:
    what = training_of(given, home=home, resume=resume, listen=listen)
    return train(what.config, what.run_dir, what.assemble, resume=resume, listen=listen)


def training_of(
    given: Mapping[str, Any],
    *,
    home: Path,
    resume: bool,
    listen: Listen = silent,
    opened: Callable[..., RunSource] = open_run_source,
) -> Training:
    """What these options ask for, ready to be trained. `opened` opens the data or the cache."""
    config = configured(given, home, resume=resume)
    run_dir = runs_dir(home) / config.run
    generation = begun_generation(run_dir) if resume else None
    try:
        run_source = opened(config, home, output_stride=config.output_stride, generation=generation)
    except LostGeneration as error:
        again = shell_line(start_words(config, _free_name(run_dir)))
        fix = f"this run cannot go on; start it anew on what counts now: {again}"
        raise LostGeneration(error.what, where=error.where, fix=fix) from error
    if not resume:
        config = config.with_steps(run_source.num_samples)

    def build(accelerator: Accelerator) -> RunParts:
        return assemble(config, home=home, run_source=run_source, ranks=ranks_of(accelerator))

    return Training(config, run_dir, build, resume, listen)


def _free_name(run_dir: Path) -> str:
    """'r18-2' beside a run r18, or the next number that is free."""
    names = (f"{run_dir.name}-{number}" for number in itertools.count(2))
    return next(name for name in names if not (run_dir.parent / name).exists())


class Judged(NamedTuple):
    """What was judged on which data, and by which teacher."""

    run_dir: Path
    data: str
    metrics: Metrics
    teacher: str = ""  # the sentence that says which teacher was asked
    records: Sequence[Mapping[str, Any]] = ()  # what was said of each image, where that was asked for


def evaluate_run(
    run: str,
    *,
    home: Path,
    data: str | None,
    split: str,
    exit_number: int | None = None,
    teacher: str | None = None,
    teacher_weights: str | None = None,
    with_records: bool = False,
    device: str = MachineOptions.device,
    threads: int = MachineOptions.threads,
) -> Judged:
    """Judge an exported student on a split, or exit `exit_number` (from 1) of a student with exits.

    A classifier may be compared with a teacher, of a run or by name. Raises KdError for what is not there,
    for data of other classes, and for records of a task that has none.
    """
    MachineOptions(device=device, threads=threads)  # raises for what cannot be
    run_dir = find_run(home, run)
    card = read_run_card(run_dir)
    spec = absolute_spec(data) if data else _judging_data(run_dir, card, split)
    source = open_source(spec, split)
    _refuse_other_classes(card, source, run_dir, spec)
    source.refuse_unusable()
    recording = _recording_judge(source) if with_records else None
    asked, line = _teacher(teacher, teacher_weights, card, home, spec)
    metrics = judge_alone(
        load_run_network(run_dir) if exit_number is None else load_exit(run_dir, exit_number),
        source,
        input_size=card.crop,
        device=device,
        num_threads=threads,
        teacher=asked,
    )
    _refuse_without_figures(metrics, run_dir)
    return Judged(run_dir, spec, metrics, line, recording.records(metrics, source) if recording else ())


def _judging_data(run_dir: Path, card: RunCard, split: str) -> str:
    """What a run was judged on while it trained, else what it was trained on."""
    named = read_config(run_dir).val_data if split == "val" else None
    return named or card.data


def _refuse_other_classes(card: RunCard, source: Source, run_dir: Path, spec: str) -> None:
    if differ := other_classes(card.class_names, source.class_names):
        raise BadOption(
            f"'{spec}' has {len(source.class_names)} classes, the run {len(card.class_names)}: {differ}",
            where=f"--data {spec}",
            fix=source.classes_hint or classes_fix(run_dir.name, card, spec),
        )


def _refuse_without_figures(metrics: Metrics, run_dir: Path) -> None:
    """Raises NotFinite for a student that answers infinity or NaN."""
    if said := no_figures_said(metrics, "the student"):
        raise NotFinite(
            f"{said}: it has no figures",
            where=str(run_dir),
            fix="train it again under another --run: such a student is no network that can be used",
        )


def _recording_judge(source: Source) -> Judge:
    """The judge of the source's task. Raises BadOption where it has no records, before anything is judged."""
    counting = judge_of(source.task, source.class_names)
    if counting.no_records:
        raise BadOption(counting.no_records, where="--json", fix="leave --json out; --out writes the figures")
    return counting


def _teacher(
    name: str | None, weights: str | None, card: RunCard, home: Path, spec: str
) -> tuple[nn.Module | None, str]:
    if name is None:
        if weights is not None:
            raise BadOption(
                "--teacher-weights without a teacher",
                where=f"--teacher-weights {weights}",
                fix="add --teacher NETWORK",
            )
        return None, ""
    folder = runs_dir(home)
    teacher, _, line = resolve_teacher(
        name,
        folder,
        task=card.task,
        num_classes=len(card.class_names),
        weights=weights,
        mean=len(member_names(name, folder)) > 1,  # an ensemble answers as one
        classes=DataClasses(card.class_names, spec),
    )
    return teacher, line
