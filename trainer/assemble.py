"""From options to the parts of a run: stream, student, losses, validation, and what is printed before step 0.

Steps: where the pixels come from (`--data`, `--cache`, the only cache) -> task, classes, crop and output
stride -> the loss expression with the preset of the dataset -> the teacher, only with --online -> student (in
the form that the losses ask for) and learned parts of the losses from the run's seed -> the stream.
"""

from pathlib import Path
from typing import Any

import torch

from kdcache.cache.errors import BadOption, Missing
from kdcache.cache.networks.network import Network
from kdcache.cache.networks.resolve import resolve_teacher
from kdcache.cache.networks.run_folder import weights_digest
from kdcache.cache.sources.table import open_source, splits
from kdcache.losses.loss_set import LossSet
from kdcache.losses.plan import LossPlan, TermRow, parse_losses
from kdcache.trainer.batch_layout import BatchLayout
from kdcache.trainer.checkpoint import list_checkpoints
from kdcache.trainer.config import TrainConfig
from kdcache.trainer.home import find_run, runs_dir
from kdcache.trainer.initial import take_over
from kdcache.trainer.mean_targets import sources_of
from kdcache.trainer.origin import Origin
from kdcache.trainer.parts import Evaluate, Parts
from kdcache.trainer.pixels import choose_stream
from kdcache.trainer.place import Place
from kdcache.trainer.student import build_student
from kdcache.trainer.students.contract import SeveralStudents
from kdcache.trainer.students.export import in_any_form
from kdcache.trainer.students.wrap import wrap_student
from kdcache.trainer.summary import exporter, resolved, summary


def assemble(config: TrainConfig, *, home: Path, origin: Origin, place: Place) -> Parts:
    """Build everything a run needs. Raises KdError for whatever the options, cache or data do not allow."""
    layout = BatchLayout(
        seed=config.seed,
        global_batch=config.batch_size,
        world=place.world,
        rank=place.rank,
        accumulation=config.accumulate,
    )
    plan = parse_losses(config.loss, preset=origin.dataset, task=origin.task)
    _check_targets(config, origin, plan)
    teacher, teacher_line = _live_teacher(config, home, origin)
    plan = plan.given(_available(origin, teacher))
    torch.manual_seed(config.seed)  # initial weights: equal on every rank and in every repetition
    student = _student(config, origin, plan)
    taps = student_taps(plan, student)
    losses = _losses(config, origin, plan, teacher, student, taps)
    init_line = _begin_with(config, home, student, losses)
    evaluate, eval_note = _validation(origin, place, config)
    notes = (*plan.notes, *getattr(losses, "notes", ()), teacher_line, init_line, eval_note)
    return Parts(
        student=student,
        losses=losses,
        taps=taps,
        stream=choose_stream(config, origin, plan, layout, teacher, place),
        evaluate=evaluate,
        export=in_any_form(exporter(origin)),
        summary=summary(config, origin, student, plan, place),
        resolved=resolved(origin, student, plan, taps),
        loss_rows=(TermRow._fields, *plan.table()),
        notes=tuple(note for note in dict.fromkeys(notes) if note),
        step_form=plan.step_form,
        teacher=teacher if plan.step_form == "generator" else None,
    )


def student_taps(plan: LossPlan, student: Network | SeveralStudents) -> tuple[str, ...]:
    """What the losses read of this student; a head that nothing reads stays out, or DDP would wait for it."""
    optional = [tap for tap in plan.optional_student_taps if tap in student.taps]
    return tuple(dict.fromkeys((*plan.student_taps, *optional)))


def _student(config: TrainConfig, origin: Origin, plan: LossPlan) -> Network | SeveralStudents:
    def make() -> Network:
        classes = len(origin.class_names)
        return build_student(
            config, num_classes=classes, output_stride=origin.output_stride, task=origin.task
        )

    student = wrap_student(plan.student_form, make)
    if config.compile and isinstance(student, SeveralStudents):
        raise BadOption(
            f"--compile with a student of {plan.student_form.count} {plan.student_form.kind}",
            where=f"--compile --loss {config.loss}",
            fix="leave --compile out; only a single network is compiled",
        )
    return student


def _losses(
    config: TrainConfig,
    origin: Origin,
    plan: LossPlan,
    teacher: Network | None,
    student: Network | SeveralStudents,
    taps: tuple[str, ...],
) -> LossSet:
    weight = None if teacher is None else teacher.classifier_weight()
    classifier_KD = None if weight is None else weight.detach().float()
    return plan.build(
        student=student.tap_specs(taps, *origin.crop),
        teacher=_target_specs(origin, plan, teacher),
        facts=origin.facts(batch_size=config.batch_size, classifier_KD=classifier_KD),
    )


def _check_targets(config: TrainConfig, origin: Origin, plan: LossPlan) -> None:
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
    if origin.cache is not None:
        sources = sources_of(origin.cache.manifest.tap_names, [need.name for need in plan.needs])
        origin.cache.require([name for found in sources.values() for name in found])
        return
    needs = ", ".join(need.name for need in plan.needs)
    raise BadOption(
        f"loss '{config.loss}' needs a teacher's {needs}, and --data alone has no teacher",
        where=f"--loss {config.loss} --data {config.data}",
        fix="build a cache ('kdcache build --teacher T') and leave --data out, or add --online --teacher T",
    )


def _available(origin: Origin, teacher: Network | None) -> tuple[str, ...]:
    """What the teacher gives beyond what the losses must have."""
    if teacher is not None:
        return tuple(teacher.taps)
    return origin.cache.manifest.tap_names if origin.cache is not None else ()


def _live_teacher(config: TrainConfig, home: Path, origin: Origin) -> tuple[Network | None, str]:
    """The teacher in memory and the sentence that says which; nothing without --online."""
    if not config.online or config.teacher is None:
        return None, ""
    teacher, _, line = resolve_teacher(
        config.teacher,
        runs_dir(home),
        task=origin.task,
        num_classes=len(origin.class_names),
        output_stride=None,
        weights=config.teacher_weights,
        taps=None,
    )
    if origin.cache is not None:
        then, now = str(origin.cache.manifest.identity["weights"]), weights_digest(teacher)
        if then != now:
            line += f"; it is NOT the teacher of the cache (weights {now[:8]}, the cache's {then[:8]})"
    return teacher, line


def _target_specs(origin: Origin, plan: LossPlan, teacher: Network | None) -> dict[str, Any]:
    """Need name -> TensorSpec at the crop, from the cache's manifest or the live teacher. An ensemble's mean
    has the size of its members' maps.
    """
    if teacher is not None:
        sources = sources_of(teacher.taps, [need.tap for need in plan.needs])
        first = {tap: names[0] for tap, names in sources.items()}
        specs = teacher.tap_specs(tuple(first.values()), *origin.crop)
        return {need.name: specs[first[need.tap]] for need in plan.needs}
    if origin.cache is None:
        return {}
    cache = origin.cache
    sources = sources_of(cache.manifest.tap_names, [need.name for need in plan.needs])
    return {name: cache.tap(found[0]).spec(*origin.crop) for name, found in sources.items()}


def _begin_with(config: TrainConfig, home: Path, student: Network | SeveralStudents, losses: LossSet) -> str:
    """--init, unless the run has a checkpoint of its own; the sentence that says what was taken."""
    if config.init is None or list_checkpoints(runs_dir(home) / config.run):
        return ""
    return take_over(student, losses, find_run(home, config.init))


def _validation(origin: Origin, place: Place, config: TrainConfig) -> tuple[Evaluate | None, str]:
    """The function that judges a student on the validation split, or why there is none.

    Never the test split.
    """
    missing = "the exported student is the last one, not the best"
    try:
        if "val" not in splits(origin.spec):
            return None, f"no validation split in '{origin.spec}': {missing}"
        source = open_source(origin.spec, "val")
    except Missing as error:
        return None, f"no validation: {error.what} ({error.where}): {missing}"
    classes = origin.class_names
    return place.evaluation(source, classes, input_size=origin.crop, num_threads=config.threads), ""
