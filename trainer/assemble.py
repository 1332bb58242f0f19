"""From options to the parts of a run: stream, student, losses, validation, and what is printed before step 0.

Steps: where the pixels come from (`--data`, `--cache`, the only cache) -> classes, crop and output stride ->
the loss expression with the preset of the dataset -> the teacher, only with --online -> student and learned
parts of the losses from the run's seed -> the stream.
"""

from pathlib import Path
from typing import Any

import torch

from kdcache.cache.errors import BadOption, Missing
from kdcache.cache.networks.network import Network
from kdcache.cache.networks.resolve import resolve_teacher
from kdcache.cache.networks.run_folder import weights_digest
from kdcache.cache.sources.table import open_source, splits
from kdcache.losses.plan import LossPlan, TermRow, parse_losses
from kdcache.trainer.batch_layout import BatchLayout, Stream
from kdcache.trainer.config import TrainConfig
from kdcache.trainer.home import runs_dir
from kdcache.trainer.origin import Origin
from kdcache.trainer.parts import Evaluate, Parts
from kdcache.trainer.place import Place
from kdcache.trainer.stream import fresh_stream, online, stored_stream
from kdcache.trainer.student import build_student
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
    plan = parse_losses(config.loss, preset=origin.dataset)
    _check_targets(config, origin, plan)
    teacher, teacher_line = _live_teacher(config, home, origin)
    torch.manual_seed(config.seed)  # initial weights: equal on every rank and in every repetition
    student = build_student(config, num_classes=len(origin.class_names), output_stride=origin.output_stride)
    taps = student_taps(plan, student)
    losses = plan.build(
        student=student.tap_specs(taps, *origin.crop), teacher=_target_specs(origin, plan, teacher)
    )
    evaluate, eval_note = _validation(origin, place, config)
    stream = _stream(config, origin, plan, layout, teacher, place)
    notes = (*plan.notes, *getattr(losses, "notes", ()), teacher_line, eval_note)
    return Parts(
        student=student,
        losses=losses,
        taps=taps,
        stream=stream,
        evaluate=evaluate,
        export=exporter(origin),
        summary=summary(config, origin, student, plan, place),
        resolved=resolved(origin, student, plan, taps),
        loss_rows=(TermRow._fields, *plan.table()),
        notes=tuple(note for note in dict.fromkeys(notes) if note),
    )


def student_taps(plan: LossPlan, student: Network) -> tuple[str, ...]:
    """What the losses read of this student; a head that nothing reads stays out, or DDP would wait for it."""
    optional = [tap for tap in plan.optional_student_taps if tap in student.taps]
    return tuple(dict.fromkeys((*plan.student_taps, *optional)))


def _check_targets(config: TrainConfig, origin: Origin, plan: LossPlan) -> None:
    if config.online or not plan.needs:
        return
    if origin.cache is not None:
        origin.cache.require([need.name for need in plan.needs])
        return
    needs = ", ".join(need.name for need in plan.needs)
    raise BadOption(
        f"loss '{config.loss}' needs a teacher's {needs}, and --data alone has no teacher",
        where=f"--loss {config.loss} --data {config.data}",
        fix="build a cache ('kdcache build --teacher T') and leave --data out, or add --online --teacher T",
    )


def _live_teacher(config: TrainConfig, home: Path, origin: Origin) -> tuple[Network | None, str]:
    """The teacher in memory and the sentence that says which; nothing without --online."""
    if not config.online or config.teacher is None:
        return None, ""
    teacher, _, line = resolve_teacher(
        config.teacher,
        runs_dir(home),
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
    """Need name -> TensorSpec at the crop, from the cache's manifest or the live teacher."""
    if teacher is not None:
        specs = teacher.tap_specs([need.tap for need in plan.needs], *origin.crop)
        return {need.name: specs[need.tap] for need in plan.needs}
    if origin.cache is None:
        return {}
    return {need.name: origin.cache.tap(need.name).spec(*origin.crop) for need in plan.needs}


def _stream(
    config: TrainConfig,
    origin: Origin,
    plan: LossPlan,
    layout: BatchLayout,
    teacher: Network | None,
    place: Place,
) -> Stream:
    stream: Stream
    if origin.cache is not None:
        needs = () if teacher is not None else plan.needs
        stream = stored_stream(
            origin.cache,
            needs=needs,
            layout=layout,
            num_threads=config.threads,
            device_id=place.device_id,
            crop=config.crop,
        )
    else:
        assert origin.source is not None
        stream = fresh_stream(
            origin.source,
            layout=layout,
            crop=origin.crop,
            num_threads=config.threads,
            device_id=place.device_id,
        )
    return stream if teacher is None else online(stream, teacher, plan.needs, place.device, amp=place.amp)


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
    return place.evaluation(source, origin.class_names, num_threads=config.threads), ""
