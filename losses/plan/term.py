"""One planned term: a loss by name with every option resolved, its weight, and what it reads.

Which companions a plan keeps: a method brings its own, a name in the expression replaces them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from kdcache.cache.spec import BadOption, Task, unknown
from kdcache.losses.contract import LossTerm, Reads
from kdcache.losses.options import WEIGHT, OptionSpec, OptionValue, option_specs, read_options, written
from kdcache.losses.plan.expression import ParsedTerm
from kdcache.losses.plan.presets import has_presets, preset_names, preset_options
from kdcache.losses.plan.table import TASK, load_loss
from kdcache.losses.schedules import ALWAYS, TermSchedule, read_schedule, schedule_specs


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
    """Resolve defaults < the method's settings for the task < preset of the dataset (or of '@') < options of
    the expression. BadOption as `expression` says.
    """
    loss_class = load_loss(parsed.name, where=where, task=task)
    if parsed.preset is not None and parsed.preset not in preset_names():
        raise unknown("preset", parsed.preset, preset_names(), where=where)
    _check_task(parsed.name, loss_class, task, where)
    specs = option_specs(loss_class)
    shares = {name: WEIGHT._replace(name=name) for name in loss_class.companions}
    legal: dict[str, OptionSpec] = {**schedule_specs(), **specs, "weight": WEIGHT, **shares}
    settings = preset_options(parsed.name, parsed.preset or preset)
    published = dict(loss_class.task_settings.get(task, {}))
    chosen = {**published, **settings, **read_options(parsed.name, legal, parsed.options, where=where)}
    options = {name: chosen.get(name, spec.default) for name, spec in specs.items()}
    weight = float(chosen.get("weight", loss_class.default_weight(options)))  # type: ignore[arg-type]
    companions = {
        name: {**given, **({"weight": chosen[name]} if name in chosen else {})}
        for name, given in loss_class.default_companions(options).items()
    }
    notes = _preset_notes(parsed, parsed.preset or preset, settings)
    usual = {**loss_class.published_schedule(options), **published}
    term = make_term(parsed.name, loss_class, options, weight)
    term = replace(term, schedule=read_schedule({**usual, **chosen}), published=read_schedule(usual))
    return Choice(term, companions, notes)


def companion(
    name: str, published: Mapping[str, OptionValue], *, of: str, where: str, task: Task
) -> TermPlan:
    """The term that a published method brings along; `published` may leave options at their defaults."""
    loss_class = load_loss(name, where=where, task=task)
    given = {**loss_class.task_settings.get(task, {}), **published}
    options = {option: given.get(option, spec.default) for option, spec in option_specs(loss_class).items()}
    weight = float(given.get("weight", loss_class.default_weight(options)))  # type: ignore[arg-type]
    return make_term(name, loss_class, options, weight, of)


def _check_task(name: str, loss_class: type[LossTerm], task: Task, where: str) -> None:
    if task not in loss_class.tasks:
        raise BadOption(
            f"'{name}' is a method for {' and '.join(loss_class.tasks)}, and this is {task}",
            where=where,
            fix=f"'kdtrain methods' lists those for {task}",
        )


def make_term(
    name: str,
    loss_class: type[LossTerm],
    options: Mapping[str, OptionValue],
    weight: float,
    companion_of: str = "",
) -> TermPlan:
    return TermPlan(
        name=name,
        label=name.rpartition(":")[2],
        options=options,
        weight=weight,
        reads=loss_class.reads(options),
        loss_class=loss_class,
        companion_of=companion_of,
    )


def differences(term: TermPlan, other: TermPlan) -> str:
    """`term` with the options in which it differs from `other`, and its weight: 'cwd(tau=2,weight=1)'."""
    odd = {name: value for name, value in term.options.items() if other.options.get(name) != value}
    return _call(term.name, {**odd, "weight": term.weight})


def _call(name: str, options: Mapping[str, OptionValue]) -> str:
    return f"{name}({','.join(f'{option}={written(value)}' for option, value in options.items())})"


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
            brought = companion(name, published, of=choice.term.name, where=where, task=task)
            stop = choice.term.schedule.stop  # a method is dropped with what it brought
            brought = replace(brought, schedule=brought.schedule._replace(stop=stop))
            if name in explicit:
                notes += _replaced(explicit[name], brought)
            elif brought.weight == 0:
                notes.append(f"the companion {name} of {choice.term.name} is left out")
            elif not _already_there(brought, terms, notes, where):
                terms.append(brought)
    return terms, notes


def _replaced(named: TermPlan, brought: TermPlan) -> list[str]:
    if brought.weight == 0:
        return []  # left out by its own option, and named on purpose: nothing to tell
    old, new = differences(brought, named), differences(named, brought)
    return [f"{new} named explicitly replaces the companion {old} of {brought.companion_of}"]


def _already_there(brought: TermPlan, terms: Iterable[TermPlan], notes: list[str], where: str) -> bool:
    """True when another method brought the same companion. Two that differ: which one is meant?"""
    for other in terms:
        if other.name != brought.name or not other.companion_of:
            continue
        if (other.options, other.weight) == (brought.options, brought.weight):
            notes.append(
                f"the companion {brought.name} of {other.companion_of} and {brought.companion_of} counts once"
            )
            return True
        raise BadOption(
            f"{other.companion_of} brings {differences(other, brought)} and {brought.companion_of} brings "
            f"{differences(brought, other)}",
            where=where,
            fix=f"name the one you want: ...+{differences(other, brought)}",
        )
    return False


def task_first(terms: Sequence[TermPlan], where: str, task: Task) -> tuple[list[TermPlan], list[str]]:
    """The task loss in front; where the expression does not name it, with the weight the methods publish."""
    named = [term for term in terms if term.name == TASK]
    rest = [term for term in terms if term.name != TASK]
    if named:
        return [*named, *rest], []
    setters = [term for term in rest if term.weight > 0 and not term.companion_of]
    weights = {term.name: term.loss_class.task_weight(term.options) for term in setters}
    note = []
    weight = 1.0
    if 0.0 in weights.values() or len(set(weights.values())) == 1:
        weight = min(
            weights.values()
        )  # 0: a method with a cross-entropy of its own, which must not count twice
    elif weights:
        listed = ", ".join(f"{name} {written(value)}" for name, value in weights.items())
        note = [f"published weights of the task loss differ ({listed}): 1 is used; task(weight=...) chooses"]
    stops = [term.schedule.stop for term in setters]
    restored = max(stops) if stops and all(stops) else 0.0
    first = companion(TASK, {"weight": weight}, of="", where=where, task=task)
    return [replace(first, schedule=first.schedule._replace(restore=restored)), *rest], note


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
