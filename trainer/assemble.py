"""From options to the parts of a run: stream, student, losses, validation, and what is printed before step 0.

Steps: where the pixels come from (`--data`, `--cache`, the only cache) -> task, classes, crop and output
stride -> the loss expression with the preset of the dataset -> the teacher, only with --online -> student (in
the form that the losses ask for) and learned parts of the losses from the run's seed -> the stream.

What a run says about itself: the lines printed before step 0, the resolved options, the exported student's
card.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kdcache.cache.errors import BadOption, Missing
from kdcache.cache.networks.network import Network
from kdcache.cache.networks.resolve import resolve_teacher
from kdcache.cache.networks.run import load_run_network
from kdcache.cache.networks.run_card import RunCard, read_run_card, save_run_network
from kdcache.cache.networks.weights import weights_digest
from kdcache.cache.sources.table import open_source, splits
from kdcache.cache.spec import SEGMENTATION
from kdcache.losses.loss_set import LossSet
from kdcache.losses.plan.plan import LossPlan, TermRow, parse_losses
from kdcache.trainer.config import TrainConfig
from kdcache.trainer.folder.checkpoint import list_checkpoints
from kdcache.trainer.folder.home import find_run, runs_dir
from kdcache.trainer.ranks import Place
from kdcache.trainer.steps.contract import Evaluate, Parts
from kdcache.trainer.stream.batch import BatchLayout
from kdcache.trainer.stream.choose import choose_stream
from kdcache.trainer.stream.mean_targets import sources_of
from kdcache.trainer.stream.run_source import Origin
from kdcache.trainer.students.contract import SeveralStudents, deployed_of
from kdcache.trainer.students.export import in_any_form
from kdcache.trainer.students.initial import take_over
from kdcache.trainer.students.student import build_student
from kdcache.trainer.students.wrap import wrap_student


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


def summary(
    config: TrainConfig, origin: Origin, student: nn.Module, plan: LossPlan, place: Place
) -> dict[str, str]:
    """Title -> value, in printing order."""
    c, deployed = config, network_of(student)
    height, width = origin.crop
    epochs = c.steps * c.batch_size / max(1, origin.num_samples)
    pixels = f"fresh, {origin.spec}"
    if origin.cache is not None:
        pixels = f"stored, cache {origin.cache.manifest.name}"
    needs = ", ".join(need.name for need in plan.needs)
    targets = f"{needs} from {f'live teacher {c.teacher}' if c.online else 'the cache'}" if needs else "none"
    num_weights = sum(parameter.numel() for parameter in student.parameters())
    parts = place.world * c.accumulate
    split = f" = {place.world} ranks x {c.accumulate} x {c.batch_size // parts}" if parts > 1 else ""
    recipe = f", {origin.augment}" if origin.augment else ""
    stride = f", stride {deployed.output_stride}" if origin.task == SEGMENTATION else ""
    return {
        "task": f"{origin.task}, {len(origin.class_names)} classes",
        "student": f"{deployed.name}, {num_weights / 1e6:.1f} million weights{stride}",
        "views": f"{pixels}, {origin.num_samples} samples, crop {height}x{width}{recipe}",
        "targets": targets,
        "steps": f"{c.steps} ({epochs:.1f} epochs), batch {c.batch_size}{split}",
        "optimizer": f"{c.optimizer}, lr {c.base_lr:g} {rate_text(c)}, weight decay {c.decay:g}, amp {c.amp}",
        "device": str(place.device),
    }


def rate_text(config: TrainConfig) -> str:
    """What happens to the rate: 'poly 0.9', 'x 0.1 at 0.625, 0.75, 0.875 of the run', 'cosine'."""
    if config.lr_schedule == "multistep":
        marks = ", ".join(f"{mark:g}" for mark in config.milestones)
        return f"x {config.lr_drop:g} at {marks} of the run"
    return f"poly {config.poly_power:g}" if config.lr_schedule == "poly" else config.lr_schedule


def network_of(student: nn.Module) -> Network:
    """The network to judge and to export: of several students the deployed one."""
    network = deployed_of(student)
    assert isinstance(network, Network)
    return network


def resolved(origin: Origin, student: nn.Module, plan: LossPlan, taps: Sequence[str]) -> dict[str, Any]:
    """What the options came to; the table `resolved` of config.toml."""
    network = network_of(student)
    return {
        "student": network.name,
        "task": origin.task,
        "dataset": origin.dataset,
        "class_names": list(origin.class_names),
        "crop": list(origin.crop),
        "augment": origin.augment or None,
        "output_stride": network.output_stride,
        "student_taps": list(taps),
        "loss": plan.to_dict(),
        "cache": origin.cache.manifest.name if origin.cache is not None else None,
    }


def exporter(origin: Origin) -> Callable[[Path, nn.Module | None, Mapping[str, float]], None]:
    """Writes `student.safetensors` and `network.json`; without a network only the card's metrics change."""

    def export(run_dir: Path, network: nn.Module | None, metrics: Mapping[str, float]) -> None:
        student = load_run_network(run_dir) if network is None else network_of(network)
        old = read_run_card(run_dir) if network is None else None
        card = RunCard(
            network=student.config.to_dict(),
            task=origin.task,
            data=origin.spec,
            class_names=origin.class_names,
            crop=origin.crop,
            output_stride=student.output_stride,
            weights_digest=old.weights_digest if old else "",
            metrics=dict(metrics),
        )
        save_run_network(run_dir, student, card)

    return export
