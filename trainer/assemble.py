"""From options to what a run consists of: stream, student, losses, validation, what is printed before step 0.

Steps: where the pixels come from (`--data`, `--cache`, the only cache) -> task, classes, crop and output
stride -> the loss expression with the preset of the dataset -> the teacher, only with --online -> student (in
the form that the losses ask for) and learned parts of the losses from the run's seed -> the stream -> what
the options came to, for people (`summary`) and for config.toml (`resolved`).
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kdcache.cache.errors import BadOption, Missing
from kdcache.cache.grid import DenseGrid, levels_of_kinds
from kdcache.cache.networks.network import Network
from kdcache.cache.networks.network_config import NetworkConfig, foreign_names, grid_of
from kdcache.cache.networks.resolve import resolve_teacher
from kdcache.cache.networks.run_card import DataClasses, other_classes
from kdcache.cache.networks.weights import weights_digest
from kdcache.cache.processes.threads import plan_threads
from kdcache.cache.record.find import runs_dir
from kdcache.cache.sources.contract import Source
from kdcache.cache.sources.table import open_source, splits
from kdcache.cache.tasks.table import task_of
from kdcache.losses.loss_set import LossSet
from kdcache.losses.plan.plan import LossPlan, TermRow, parse_losses
from kdcache.losses.plan.recipes import published
from kdcache.trainer.config import TrainConfig
from kdcache.trainer.folder.checkpoint import list_checkpoints
from kdcache.trainer.folder.home import find_run
from kdcache.trainer.judge.judge import judge, judge_of
from kdcache.trainer.judge.readable import check_readable
from kdcache.trainer.ranks import Ranks
from kdcache.trainer.steps.contract import Evaluate, RunParts
from kdcache.trainer.steps.layout import lay_out
from kdcache.trainer.steps.options import SCHEDULES
from kdcache.trainer.steps.recipe import recipe_lines
from kdcache.trainer.stream.mean_targets import sources_of
from kdcache.trainer.stream.run_source import RunSource
from kdcache.trainer.students.branches import Branches
from kdcache.trainer.students.contract import SeveralStudents
from kdcache.trainer.students.export import exporter, in_any_form, network_of
from kdcache.trainer.students.initial import inherit, take_over
from kdcache.trainer.students.options import NOTHING
from kdcache.trainer.students.student import build_student
from kdcache.trainer.students.wrap import wrap_student
from kdcache.trainer.together.reading import layout_of, open_stream


def assemble(config: TrainConfig, *, home: Path, run_source: RunSource, ranks: Ranks) -> RunParts:
    """Build everything a run needs. Raises KdError for whatever the options, cache or data do not allow."""
    layout_of(config, ranks)  # refused before anything is opened
    plan = parse_losses(config.loss, preset=run_source.dataset, task=run_source.task)
    teacher, teacher_line = _live_teacher(config, home, run_source)
    levels = levels_of_kinds(_teacher_grid(run_source, teacher))
    plan = plan.with_levels({}, levels).given(_available(run_source, teacher))
    _check_targets(config, run_source, plan, teacher)
    torch.manual_seed(config.seed)  # initial weights: equal on every rank and in every repetition
    student = _student(config, run_source, plan)
    kept = lay_out(runs_dir(home) / config.run, run_source.cache, student, teacher)
    plan = plan.with_levels(levels_of_kinds(network_of(student).grid), {})
    taps = student_taps(plan, student)
    losses = _losses(config, run_source, plan, teacher, student, taps)
    begun_line = _begin_with(config, home, student, losses)
    lines = teacher_line, begun_line, _inherit(config, home, run_source, student, teacher)
    evaluate, eval_note = _validation(run_source, ranks, config)
    notes = (*plan.notes, *losses.notes, *network_of(student).notes, *lines, eval_note)
    stream, shareable = open_stream(config, run_source, plan, teacher, ranks)
    return RunParts(
        student=student,
        losses=losses,
        taps=taps,
        stream=stream,
        evaluate=evaluate,
        score_name=judge_of(run_source.task, run_source.class_names).score_name,
        export=in_any_form(exporter(run_source)),
        summary=summary(config, run_source, student, plan, ranks) | {"pixels": stream.pixels},
        resolved=resolved(run_source, student, plan, taps),
        loss_rows=(TermRow._fields, *plan.table()),
        notes=tuple(note for note in dict.fromkeys((*_data_notes(config, run_source), *notes)) if note),
        step_form=plan.step_form,
        shareable=shareable,
        memory_format=kept,
        teacher=teacher if plan.step_form == "generator" else None,
    )


def _data_notes(config: TrainConfig, run_source: RunSource) -> tuple[str, ...]:
    """What the source says of itself, and a recipe of this data set."""
    notes = tuple(run_source.source.notes) if run_source.source is not None else ()
    if not config.recipe:
        return notes
    recipe = published(config.recipe, run_source.dataset)
    return (*notes, *recipe_lines(recipe, config, loss=config.loss, fresh=config.data is not None))


def student_taps(plan: LossPlan, student: Network | SeveralStudents) -> tuple[str, ...]:
    """What the losses read of this student; a head that nothing reads stays out, or DDP would wait for it."""
    optional = [tap for tap in plan.optional_student_taps if tap in student.taps]
    return tuple(dict.fromkeys((*plan.student_taps, *optional)))


def _student(config: TrainConfig, run_source: RunSource, plan: LossPlan) -> Network | SeveralStudents:
    def make() -> Network:
        classes = len(run_source.class_names)
        return build_student(
            config, num_classes=classes, output_stride=run_source.output_stride, task=run_source.task
        )

    student = wrap_student(plan.student_form, make)
    if config.compile and isinstance(student, SeveralStudents):
        raise BadOption(
            f"--compile with a student of {plan.student_form.count} {plan.student_form.kind}",
            where=f"--compile --loss {config.loss}",
            fix="leave --compile out; only a single network is compiled",
        )
    if config.freeze not in (None, NOTHING) and isinstance(student, Branches):
        raise BadOption(
            f"--freeze with a student of {plan.student_form.count} branches, which has no encoder of its own",
            where=f"--freeze {config.freeze} --loss {config.loss}",
            fix="leave --freeze out",
        )
    return student


def _losses(
    config: TrainConfig,
    run_source: RunSource,
    plan: LossPlan,
    teacher: Network | None,
    student: Network | SeveralStudents,
    taps: tuple[str, ...],
) -> LossSet:
    weight = None if teacher is None else teacher.classifier_weight()
    classifier_KD = None if weight is None else weight.detach().float()
    return plan.build(
        student=student.tap_specs(taps, *run_source.crop),
        teacher=_target_specs(run_source, plan, teacher),
        facts=run_source.facts(
            batch_size=config.batch_size,
            classifier_KD=classifier_KD,
            teacher=_teacher_config(run_source, teacher),
        ),
        student_grid=network_of(student).grid,
        teacher_grid=_teacher_grid(run_source, teacher),
    )


def _check_targets(
    config: TrainConfig, run_source: RunSource, plan: LossPlan, teacher: Network | None
) -> None:
    plan.check_classes(run_source.classes(_teacher_config(run_source, teacher)))
    if config.online:
        return
    if plan.step_form == "generator":
        raise BadOption(
            f"loss '{config.loss}' asks the teacher about images that it invents: a cache has no answers",
            where=f"--loss {config.loss}",
            fix="add --online --teacher RUN_OR_NETWORK",
        )
    if not plan.needs:
        return
    if run_source.cache is not None:
        sources = sources_of(run_source.cache.manifest.tap_names, [need.name for need in plan.needs])
        run_source.cache.require([name for members in sources.values() for name in members])
        return
    needs = ", ".join(need.name for need in plan.needs)
    raise BadOption(
        f"loss '{config.loss}' needs a teacher's {needs}, and --data alone has no teacher",
        where=f"--loss {config.loss} --data {config.data}",
        fix="build a cache ('kdcache build --teacher T') and leave --data out, or add --online --teacher T",
    )


def _available(run_source: RunSource, teacher: Network | None) -> tuple[str, ...]:
    """What the teacher gives beyond what the losses must have."""
    if teacher is not None:
        return tuple(teacher.taps)
    return run_source.cache.manifest.tap_names if run_source.cache is not None else ()


def _teacher_grid(run_source: RunSource, teacher: Network | None) -> DenseGrid | None:
    """Of a dense detector that teaches; None for another network, and without a teacher."""
    config = _teacher_config(run_source, teacher)
    return None if config is None else grid_of(config)


def _teacher_config(run_source: RunSource, teacher: Network | None) -> NetworkConfig | None:
    """Of the live teacher, else of the cache's; None without a teacher."""
    if teacher is not None:
        return teacher.config
    return None if run_source.cache is None else run_source.cache.teacher_config


def _live_teacher(config: TrainConfig, home: Path, run_source: RunSource) -> tuple[Network | None, str]:
    """The teacher in memory and the sentence that says which; nothing without --online."""
    if not config.online or config.teacher is None:
        return None, ""
    teacher, line = _named_teacher(config, config.teacher, home, run_source)
    if run_source.cache is not None:
        then, now = str(run_source.cache.manifest.identity["weights"]), weights_digest(teacher)
        if then != now:
            line += f"; it is NOT the teacher of the cache (weights {now[:8]}, the cache's {then[:8]})"
    return teacher, line


def _named_teacher(config: TrainConfig, name: str, home: Path, run_source: RunSource) -> tuple[Network, str]:
    """The teacher that the options name and the sentence that says which."""
    teacher, _, line = resolve_teacher(
        name,
        runs_dir(home),
        task=run_source.task,
        num_classes=len(run_source.class_names),
        output_stride=None,
        weights=config.teacher_weights,
        taps=None,
        classes=DataClasses(run_source.class_names, run_source.spec),
    )
    return teacher, line


def _target_specs(run_source: RunSource, plan: LossPlan, teacher: Network | None) -> dict[str, Any]:
    """Need name -> TensorSpec at the crop, from the cache's manifest or the live teacher. An ensemble's mean
    has the size of its members' maps.
    """
    if teacher is not None:
        sources = sources_of(teacher.taps, [need.tap for need in plan.needs])
        first = {tap: names[0] for tap, names in sources.items()}
        specs = teacher.tap_specs(tuple(first.values()), *run_source.crop)
        return {need.name: specs[first[need.tap]] for need in plan.needs}
    if run_source.cache is None:
        return {}
    cache = run_source.cache
    sources = sources_of(cache.manifest.tap_names, [need.name for need in plan.needs])
    return {name: cache.tap(members[0]).spec(*run_source.crop) for name, members in sources.items()}


def _begin_with(config: TrainConfig, home: Path, student: Network | SeveralStudents, losses: LossSet) -> str:
    """--init, unless the run has a checkpoint of its own; the sentence that says what was taken."""
    if config.init is None or list_checkpoints(runs_dir(home) / config.run):
        return ""
    return take_over(student, losses, find_run(home, config.init))


def _inherit(
    config: TrainConfig,
    home: Path,
    run_source: RunSource,
    student: Network | SeveralStudents,
    teacher: Network | None,
) -> str:
    """--inherit, unless the run has a checkpoint of its own; the sentence that says what was taken."""
    if config.inherit is None or config.teacher is None or list_checkpoints(runs_dir(home) / config.run):
        return ""
    named = teacher or _named_teacher(config, config.teacher, home, run_source)[0]
    return inherit(student, named, f"teacher '{config.teacher}'")


def _validation(run_source: RunSource, ranks: Ranks, config: TrainConfig) -> tuple[Evaluate | None, str]:
    """The function that judges a student on the validation split, or why there is none.

    Never the test split.
    """
    missing = "the exported student is the last one, not the best"
    note = ""
    try:
        if config.val_data is not None:
            source, note = _named_validation(config.val_data, run_source), f"judged on '{config.val_data}'"
        elif "val" not in splits(run_source.spec):
            return None, f"no validation split in '{run_source.spec}': {missing}"
        else:
            source = open_source(run_source.spec, "val")
    except Missing as error:
        if config.val_data is not None:
            raise
        return None, f"no validation: {error.what} ({error.where}): {missing}"
    if differ := other_classes(run_source.class_names, source.class_names):
        raise BadOption(
            f"the 'val' split of '{run_source.spec}' has other classes than what is trained on: {differ}",
            where=f"--data {run_source.spec}",
            fix="name its classes, in their order, as they were; or build the cache again from these data",
        )
    source.refuse_unusable()
    check_readable(source, rank=ranks.rank, world=ranks.world)
    evaluate = partial(
        judge,
        source=source,
        task=source.task,
        class_names=run_source.class_names,
        input_size=run_source.crop,
        num_threads=config.threads,
        device=ranks.device,
        amp=ranks.amp,
        rank=ranks.rank,
        world=ranks.world,
        reduce=ranks.reduce,
    )
    return evaluate, note


def _named_validation(spec: str, run_source: RunSource) -> Source:
    """The val split of --val-data. Raises Missing, and BadOption for another task or other classes."""
    source = open_source(spec, "val")
    differ = other_classes(run_source.class_names, source.class_names)
    if source.task != run_source.task:
        differ = f"the data are for {source.task}, the run for {run_source.task}"
    if differ:
        raise BadOption(
            f"'{spec}' cannot judge what is trained on '{run_source.spec}': {differ}",
            where=f"--val-data {spec}",
            fix="name data of the same classes in the same order, or leave --val-data out",
        )
    return source


def _stride_said(deployed: Network, run_source: RunSource) -> str:
    """The stride that was chosen; of a network of somebody's own, where nothing chooses, those of its
    maps."""
    if task_of(run_source.task).networks.no_stride:
        return ""
    if not foreign_names(deployed.config):
        return f", stride {deployed.output_stride}"
    specs = deployed.tap_specs(list(deployed.taps), *run_source.crop).values()
    strides = sorted({spec.stride for spec in specs if spec.stride})
    return f", maps at stride {', '.join(map(str, strides))}" if strides else ""


def summary(
    config: TrainConfig, run_source: RunSource, student: nn.Module, plan: LossPlan, ranks: Ranks
) -> dict[str, str]:
    """Title -> value, in printing order."""
    c, deployed = config, network_of(student)
    threads = plan_threads(c.threads)._replace(torch=torch.get_num_threads())
    shared = "; decoding takes from training's, which 'waiting' does not count" if threads.shared else ""
    height, width = run_source.crop
    epochs = c.steps * c.batch_size / max(1, run_source.num_samples)
    pixels = f"fresh, {run_source.spec}"
    if run_source.cache is not None:
        pixels = f"stored, cache {run_source.cache.manifest.name}"
    needs = ", ".join(need.name for need in plan.needs)
    targets = f"{needs} from {f'live teacher {c.teacher}' if c.online else 'the cache'}" if needs else "none"
    num_weights = sum(parameter.numel() for parameter in student.parameters())
    parts = ranks.world * c.accumulate
    split = f" = {ranks.world} ranks x {c.accumulate} x {c.batch_size // parts}" if parts > 1 else ""
    peeled = "; ".join(deployed.weights_peeled)
    given = f"--weights {c.weights} ({peeled})" if c.weights else f"weights {peeled}"
    taken = f", {given}" if peeled else ""
    rate = SCHEDULES[c.lr_schedule].words(c)
    recipe = f", {run_source.augment}" if run_source.augment else ""
    share = f", the encoder {c.encoder_lr:g} of it" if c.encoder_lr != 1 else ""
    still = sum(parameter.numel() for parameter in student.parameters() if not parameter.requires_grad)
    frozen = f", {still / 1e6:.1f} million of them frozen" if still else ""
    stride = _stride_said(deployed, run_source)
    return {
        "task": f"{run_source.task}, {len(run_source.class_names)} classes",
        "student": f"{deployed.name}, {num_weights / 1e6:.1f} million weights{frozen}{stride}{taken}",
        "views": f"{pixels}, {run_source.num_samples} samples, crop {height}x{width}{recipe}",
        "targets": targets,
        "steps": f"{c.steps} ({epochs:.1f} epochs), batch {c.batch_size}{split}",
        "optimizer": f"{c.optimizer}, lr {c.base_lr:g} {rate}{share}, weight decay {c.decay:g}, amp {c.amp}",
        "device": f"{ranks.device}; threads: {threads.words}{shared}",
    }


def resolved(
    run_source: RunSource, student: nn.Module, plan: LossPlan, taps: Sequence[str]
) -> dict[str, Any]:
    """What the options came to; the table `resolved` of config.toml."""
    network = network_of(student)
    return {
        "student": network.name,
        "task": run_source.task,
        "dataset": run_source.dataset,
        "class_names": list(run_source.class_names),
        "crop": list(run_source.crop),
        "augment": run_source.augment or None,
        "output_stride": network.output_stride,
        "student_taps": list(taps),
        "loss": plan.to_dict(),
        "cache": run_source.cache.manifest.name if run_source.cache is not None else None,
    }
