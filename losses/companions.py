"""Which companions a plan keeps: a method brings its own, a name in the expression replaces them."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from kdcache.cache.spec import BadOption, Task
from kdcache.losses.options import written
from kdcache.losses.table import TASK
from kdcache.losses.term_plan import Choice, TermPlan, companion, differences


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
