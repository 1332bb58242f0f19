"""Every method as one entry: what `kdtrain methods` prints and docs/methods.md holds.

Nothing is written twice: reads, options, defaults and published settings come from the classes themselves.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from kdcache.cache.grid import FPN, kind_of, tap_of
from kdcache.cache.spec import BadOption, Task
from kdcache.cache.tasks.table import task_names
from kdcache.losses.contract import LossTerm, Method
from kdcache.losses.options import WEIGHT, OptionSpec, OptionValue, legal_words, option_specs, written
from kdcache.losses.plan.expression import ParsedTerm
from kdcache.losses.plan.load import load_loss
from kdcache.losses.plan.plan import LossPlan, parse_losses
from kdcache.losses.plan.presets import PRESETS
from kdcache.losses.plan.table import LOSSES, NONE, TASK
from kdcache.losses.plan.term import Choice, choose
from kdcache.losses.schedules import schedule_specs


class OptionRow(NamedTuple):
    """One option as people read it."""

    name: str
    default: str
    legal: str
    about: str


class Entry(NamedTuple):
    """One method. `reads`, `weights`, `companions` have one line per task, 'classification: ...'."""

    name: str
    method: Method
    tasks: tuple[Task, ...]
    detectors: str  # '' where no detector is taught so
    reads: tuple[str, ...]
    weights: tuple[str, ...]
    companions: tuple[str, ...]
    settings: tuple[str, ...]
    options: tuple[OptionRow, ...]
    per_micro_batch: str  # '' where a step is the same for every split of its batch


def entries() -> Iterator[Entry]:
    """All methods in the order of the table."""
    for name in LOSSES:
        yield entry(name)


def entry(name: str) -> Entry:
    """One method by name. Raises BadOption naming the nearest for an unknown one."""
    where = f"kdtrain methods {name}"
    if name == NONE:
        raise BadOption(
            "'none' trains on the task loss alone and has no options", where=where, fix="kdtrain methods task"
        )
    # Only 'task' is another class per task; the first of the table's stands for all.
    loss_class = load_loss(name, task=task_names()[0], where=where)
    if loss_class.method is None:
        raise BadOption(
            f"'{name}' says nothing of itself", where=where, fix="give its class the attribute `method`"
        )
    chosen = {task: _chosen(name, task) for task in loss_class.tasks}
    plans = {task: parse_losses(name, preset=None, task=task) for task in loss_class.tasks}
    return Entry(
        name,
        loss_class.method,
        tuple(loss_class.tasks),
        _detectors(loss_class, loss_class.method, plans.values()),
        tuple(f"{task}: {_reads(plan)}" for task, plan in plans.items()),
        tuple(f"{task}: {_weights(loss_class, choice)}" for task, choice in chosen.items()),
        tuple(f"{task}: {text}" for task, plan in plans.items() if (text := _companions(plan))),
        tuple(_settings(name, loss_class)),
        tuple(_row(spec) for spec in option_specs(loss_class).values()),
        loss_class.per_micro_batch,
    )


def common_options() -> tuple[OptionRow, ...]:
    """Options that every term takes besides its own: the weight and the schedules. A weight's default is
    the method's.
    """
    weight = OptionRow(WEIGHT.name, "published", legal_words(WEIGHT), WEIGHT.about)
    return (weight, *(_row(spec) for spec in schedule_specs().values()))


def compares_positions(plan: LossPlan) -> bool:
    """Whether it compares what two detectors say at one anchor, and not features alone."""
    return any(kind_of(tap_of(need.tap, 0)) not in ("", FPN) for need in plan.needs)


def _detectors(loss_class: type[LossTerm], method: Method, plans: Iterable[LossPlan]) -> str:
    """'published for gfl; retinanet, fcos: numbers ours; any of them teaches any'."""
    if not method.detectors and not method.elsewhere:
        return ""
    alike = "teacher and student with equal anchors"
    parts = [f"published for {', '.join(method.detectors)}"] if method.detectors else []
    parts += [f"{', '.join(method.elsewhere)}: numbers ours"] if method.elsewhere else []
    any_of = "any teaches any" + (" whose fpn has as many channels" if loss_class.same_channels else "")
    return "; ".join((*parts, alike if any(map(compares_positions, plans)) else any_of))


def _chosen(name: str, task: Task) -> Choice:
    return choose(ParsedTerm(name, None, {}), preset=None, task=task, where=f"kdtrain methods {name}")


def _reads(plan: LossPlan) -> str:
    """Of a method with its companions; the task loss reads the student's logits besides."""
    terms = [term.reads for term in plan.terms if term.name != TASK]
    needs = dict.fromkeys(
        f"{need.name} (first {need.first})" if need.first else need.name
        for reads in terms
        for need in reads.needs
    )
    needs |= dict.fromkeys(f"[{need.name}]" for reads in terms for need in reads.optional_needs)
    taps = dict.fromkeys(tap for reads in terms for tap in reads.student_taps)
    taps |= dict.fromkeys(f"[{tap}]" for reads in terms for tap in reads.optional_taps)
    teacher, student = ", ".join(needs) or "nothing", ", ".join(taps) or "nothing"
    return f"teacher {teacher}" if teacher == student else f"teacher {teacher}; student {student}"


def _companions(plan: LossPlan) -> str:
    return ", ".join(f"{term.name} {written(term.weight)}" for term in plan.terms if term.companion_of)


def _weights(loss_class: type[LossTerm], choice: Choice) -> str:
    term = choice.term
    task = loss_class.task_weight(term.options)
    beside = "" if task == 1 else ", no task loss beside it" if task == 0 else f", task loss {written(task)}"
    on = ", ".join(f"{name} {written(value)}" for name, value in term.schedule.written().items())
    return f"{written(term.weight)}{beside}{f', {on}' if on else ''}"


def _settings(name: str, loss_class: type[LossTerm]) -> Iterator[str]:
    """Options that differ per task or dataset, 'camvid: pool 0, fit cut'."""
    tables: list[tuple[str, Mapping[str, OptionValue]]]
    tables = [(task, loss_class.task_settings.get(task, {})) for task in loss_class.tasks]
    tables += [(dataset, losses[name]) for dataset, losses in PRESETS.items() if name in losses]
    for of, settings in tables:
        if settings:
            yield f"{of}: " + ", ".join(f"{option} {written(value)}" for option, value in settings.items())


def _row(spec: OptionSpec) -> OptionRow:
    return OptionRow(spec.name, written(spec.default), legal_words(spec), spec.about)
