"""The terms of an expression: each with every option resolved, then all of them together.

One term: defaults < the method's settings for the task < preset of the dataset < options written out.
Together: a method brings its companions, a name in the expression replaces them; the task loss comes first,
with the weight that the methods publish; labels are unique. Whatever that decides is said in a note.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from kdcache.cache.spec import BadOption, Task
from kdcache.losses.contract import LossTerm, Reads
from kdcache.losses.options import OptionValue, option_specs, written
from kdcache.losses.plan.expression import ParsedTerm
from kdcache.losses.plan.load import load_loss
from kdcache.losses.plan.presets import has_presets, preset_names, preset_options
from kdcache.losses.plan.table import TASK
from kdcache.losses.plan.written import check_preset, read_written
from kdcache.losses.schedules import ALWAYS, TermSchedule, read_schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class TermPlan:
    """`options` are complete and typed; `weight` multiplies the whole term; `label` is unique in its plan."""

    name: str  # as an expression names it: 'cwd', 'pkg.mod:Class'
    label: str  # as metrics name it: 'cwd', 'cwd#2', 'Class'
    options: Mapping[str, OptionValue]
    weight: float
    reads: Reads
    loss_class: type[LossTerm]
    companion_of: str = ""
    schedule: TermSchedule = ALWAYS
    published: TermSchedule = ALWAYS  # the schedule that the method has where nothing is written

    def written(self) -> str:
        """The term as an expression that says everything."""
        schedule = self.schedule.written(self.published)
        return _call(self.name, {**self.options, "weight": self.weight, **schedule})

    @property
    def shown_options(self) -> dict[str, OptionValue]:
        """Options and the schedules that are on, for a table."""
        return {**self.options, **self.schedule.written()}


class Choice(NamedTuple):
    """A term as chosen, before companions are settled: `companions` maps each companion to its written-out
    options.
    """

    term: TermPlan
    companions: dict[str, dict[str, OptionValue]]
    notes: tuple[str, ...]


def choose(parsed: ParsedTerm, *, preset: str | None, task: Task, where: str) -> Choice:
    """Resolve one term; its own '@' goes before `preset`. BadOption for an unknown task, loss, preset or
    option, a method of another task, and a value of another type or range.
    """
    loss_class = load_loss(parsed.name, task=task, where=where)
    check_preset(parsed, where)
    _check_task(parsed.name, loss_class, task, where)
    settings = preset_options(parsed.name, parsed.preset or preset)
    published = dict(loss_class.task_settings.get(task, {}))
    own = option_specs(loss_class)
    given = read_written(parsed, own, loss_class.aliases, loss_class.companions, where=where)
    chosen = {**published, **settings, **given}
    term = _resolved(parsed.name, loss_class, chosen)
    usual = {**loss_class.published_schedule(term.options), **published}
    term = replace(term, schedule=read_schedule({**usual, **chosen}), published=read_schedule(usual))
    companions = {
        name: {**options, **({"weight": chosen[name]} if name in chosen else {})}
        for name, options in loss_class.default_companions(term.options).items()
    }
    return Choice(term, companions, _preset_notes(parsed, parsed.preset or preset, settings))


def _check_task(name: str, loss_class: type[LossTerm], task: Task, where: str) -> None:
    _check_refused(name, loss_class, task, where)
    if task not in loss_class.tasks:
        raise BadOption(
            f"'{name}' is a method for {' and '.join(loss_class.tasks)}, and this is {task}",
            where=where,
            fix=f"'kdtrain methods' lists those for {task}",
        )


def _check_refused(name: str, loss_class: type[LossTerm], task: Task, where: str) -> None:
    refusal = loss_class.refused.get(task)
    if refusal is not None:
        raise BadOption(
            f"'{name}' is no method for {task}: {refusal.reason}", where=where, fix=refusal.instead
        )


def _resolved(name: str, loss_class: type[LossTerm], chosen: Mapping[str, OptionValue]) -> TermPlan:
    """The term whose options and weight are those chosen, and the published ones for the rest."""
    options = {option: chosen.get(option, spec.default) for option, spec in option_specs(loss_class).items()}
    return TermPlan(
        name=name,
        label=name.rpartition(":")[2],
        options=options,
        weight=float(chosen.get("weight", loss_class.default_weight(options))),  # type: ignore[arg-type]
        reads=loss_class.reads(options),
        loss_class=loss_class,
    )


def _preset_notes(
    parsed: ParsedTerm, preset: str | None, settings: Mapping[str, OptionValue]
) -> tuple[str, ...]:
    if settings:
        listed = ", ".join(f"{name}={written(value)}" for name, value in settings.items())
        return (f"{parsed.name}: settings published for {preset}: {listed}",)
    if preset is not None and has_presets(parsed.name):
        choices = ", ".join(
            f"{parsed.name}@{name}" for name in preset_names() if preset_options(parsed.name, name)
        )
        return (f"{parsed.name}: nothing is published for '{preset}', its defaults hold (or name {choices})",)
    return ()


def with_companions(choices: Sequence[Choice], where: str, task: Task) -> tuple[list[TermPlan], list[str]]:
    """Each term followed by the companions that stay, and sentences about those that do not."""
    explicit = {choice.term.name: choice.term for choice in choices}
    terms: list[TermPlan] = []
    notes: list[str] = []
    for choice in choices:
        terms.append(choice.term)
        for name, published in choice.companions.items():
            brought = _companion(name, published, of=choice.term, where=where, task=task)
            if name in explicit:
                notes += _replaced(explicit[name], brought)
            elif brought.weight == 0:
                notes.append(f"the companion {name} of {choice.term.name} is left out")
            elif (other := _same_companion(brought, terms, where)) is not None:
                notes.append(
                    f"the companion {name} of {other.companion_of} and {choice.term.name} counts once"
                )
            else:
                terms.append(brought)
    return terms, notes


def _companion(
    name: str, published: Mapping[str, OptionValue], *, of: TermPlan, where: str, task: Task
) -> TermPlan:
    """The term that a published method brings along; `published` may leave options at their defaults.
    BadOption for one that is refused for the task."""
    brought = _with_task_settings(name, published, where=where, task=task)
    if brought.weight > 0:
        _check_refused(name, brought.loss_class, task, where)
    # A method is dropped with what it brought.
    return replace(brought, companion_of=of.name, schedule=ALWAYS._replace(stop=of.schedule.stop))


def _with_task_settings(name: str, chosen: Mapping[str, OptionValue], *, where: str, task: Task) -> TermPlan:
    """A term that the expression does not name: `chosen` over the method's settings for the task."""
    loss_class = load_loss(name, task=task, where=where)
    return _resolved(name, loss_class, {**loss_class.task_settings.get(task, {}), **chosen})


def _replaced(named: TermPlan, brought: TermPlan) -> list[str]:
    if brought.weight == 0:
        return []  # left out by its own option, and named on purpose: nothing to tell
    old, new = _differences(brought, named), _differences(named, brought)
    return [f"{new} named explicitly replaces the companion {old} of {brought.companion_of}"]


def _same_companion(brought: TermPlan, terms: Iterable[TermPlan], where: str) -> TermPlan | None:
    """The equal companion that another method brought. BadOption where it differs: which one is meant?"""
    other = next((term for term in terms if term.name == brought.name and term.companion_of), None)
    if other is None or (other.options, other.weight) == (brought.options, brought.weight):
        return other
    raise BadOption(
        f"{other.companion_of} brings {_differences(other, brought)} and {brought.companion_of} brings "
        f"{_differences(brought, other)}",
        where=where,
        fix=f"name the one you want: ...+{_differences(other, brought)}",
    )


def _differences(term: TermPlan, other: TermPlan) -> str:
    """`term` with the options in which it differs from `other`, and its weight: 'cwd(tau=2,weight=1)'."""
    odd = {name: value for name, value in term.options.items() if other.options.get(name) != value}
    return _call(term.name, {**odd, "weight": term.weight})


def _call(name: str, options: Mapping[str, OptionValue]) -> str:
    return f"{name}({','.join(f'{option}={written(value)}' for option, value in options.items())})"


def task_first(terms: Sequence[TermPlan], where: str, task: Task) -> tuple[list[TermPlan], list[str]]:
    """The task loss in front; where the expression does not name it, with the weight the methods publish."""
    named = [term for term in terms if term.name == TASK]
    rest = [term for term in terms if term.name != TASK]
    if named:
        return [*named, *rest], []
    setters = [term for term in rest if term.weight > 0 and not term.companion_of]
    weights = {term.name: term.loss_class.task_weight(term.options) for term in setters}
    notes = []
    weight = 1.0
    if 0.0 in weights.values() or len(set(weights.values())) == 1:
        # 0: a method with a cross-entropy of its own, which must not count twice
        weight = min(weights.values())
    elif weights:
        listed = ", ".join(f"{name} {written(value)}" for name, value in weights.items())
        notes = [f"published weights of the task loss differ ({listed}): 1 is used; task(weight=...) chooses"]
    stops = [term.schedule.stop for term in setters]
    restored = max(stops) if stops and all(stops) else 0.0
    own: dict[str, OptionValue] = {}
    for term in setters:
        own |= term.loss_class.task_options(term.options)
    first = _with_task_settings(TASK, {**own, "weight": weight}, where=where, task=task)
    return [replace(first, schedule=ALWAYS._replace(restore=restored)), *rest], notes


def labelled(terms: Sequence[TermPlan], where: str) -> list[TermPlan]:
    """Unique labels. The same loss twice is fine with other options (cwd on two taps), else a BadOption."""
    done: list[TermPlan] = []
    for term in terms:
        if any((t.name, t.options) == (term.name, term.options) for t in done) or (
            term.name == TASK and done
        ):
            raise BadOption(
                f"'{term.name}' is there twice",
                where=where,
                fix=f"one term with twice the weight: {term.name}(weight=...)",
            )
        count = 1 + sum(t.label.partition("#")[0] == term.label for t in done)
        done.append(replace(term, label=f"{term.label}#{count}") if count > 1 else term)
    return done
