"""From a loss expression to the terms of a run, and from those and the map sizes to a module.

A name is the published method with its companions. The task loss is always there. Naming a companion in the
expression replaces it; `afdcd(kd=0)` leaves it out, another number is its weight. Terms of weight 0 are
dropped, with what they read.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar, cast

from kdcache.cache.grid import CLS, DenseGrid, kind_of
from kdcache.cache.spec import BadOption, Need, Task, TensorSpec, first_levels
from kdcache.losses.contract import NO_FACTS, PLAIN, Facts, LossTerm, Maps, StepForm, StudentForm
from kdcache.losses.detection.match import check_classes
from kdcache.losses.formulas.shapes import check_same_size
from kdcache.losses.loss_set import LossSet, WeightedTerm
from kdcache.losses.options import written
from kdcache.losses.plan.expression import ParsedTerm, parse_expression, where_in
from kdcache.losses.plan.table import NONE, TASK
from kdcache.losses.plan.term import TermPlan, choose, labelled, task_first, with_companions

log = logging.getLogger(__name__)
T = TypeVar("T")
Groups = Mapping[str, Sequence[str]]  # a name that stands for several taps, one per level -> those taps


class TermRow(NamedTuple):
    """One line of the table printed before step 0."""

    term: str
    weight: str
    options: str
    student_tap: str
    teacher_need: str


@dataclass(frozen=True, slots=True)
class LossPlan:
    """Resolved terms, the task loss first. `notes` say what was replaced, left out or taken from a preset."""

    expression: str
    terms: tuple[TermPlan, ...]
    notes: tuple[str, ...]

    @property
    def needs(self) -> tuple[Need, ...]:
        """What a cache or a live teacher must provide."""
        return _unique(need for term in self.terms for need in term.reads.needs)

    @property
    def student_taps(self) -> tuple[str, ...]:
        """What every student must provide."""
        return _unique(tap for term in self.terms for tap in term.reads.student_taps)

    @property
    def optional_student_taps(self) -> tuple[str, ...]:
        """What is read where the student has it: 'aux'."""
        return _unique(tap for term in self.terms for tap in term.reads.optional_taps)

    @property
    def student_form(self) -> StudentForm:
        """What is trained: the form that a term asks for, or one plain student."""
        forms = (term.loss_class.student_form(term.options) for term in self.terms)
        return next((form for form in forms if form.kind != "plain"), PLAIN)

    @property
    def step_form(self) -> StepForm:
        """How a step is made, where a term has its own way."""
        forms = (term.loss_class.step_form(term.options) for term in self.terms)
        return next((form for form in forms if form != "joint"), "joint")

    @property
    def turns(self) -> bool:
        """True when a term reads the four quarter turns of every image."""
        return any(term.loss_class.turns for term in self.terms)

    def given(self, available: Iterable[str]) -> "LossPlan":
        """The plan where the teacher gives `available`: optional needs among them are needs from here on."""
        there = set(available)
        terms = []
        for term in self.terms:
            given = tuple(need for need in term.reads.optional_needs if need.name in there)
            reads = term.reads._replace(needs=(*term.reads.needs, *given), optional_needs=())
            terms.append(replace(term, reads=reads))
        return replace(self, terms=tuple(terms))

    def check_classes(self, facts: Facts) -> None:
        """Raises BadOption for a term that reads scores of a teacher that tells other classes apart, before
        what it reads is missed."""
        for term in self.terms:
            if any(kind_of(need.tap) == CLS for need in term.reads.needs):
                check_classes(term.label, facts)

    def with_levels(self, student: Groups, teacher: Groups) -> "LossPlan":
        """The plan whose terms read the taps that a group stands for on either side: 'fpn' is 'p3', 'p4' ...

        A name that is no group of a side stays as it is; a group without taps there is left for the loss to
        miss.
        """
        terms = []
        for term in self.terms:
            reads = term.reads
            levels = reads._replace(
                student_taps=_levels_of(reads.student_taps, student),
                optional_taps=_levels_of(reads.optional_taps, student),
                needs=_needs_of_levels(reads.needs, teacher),
                optional_needs=_needs_of_levels(reads.optional_needs, teacher),
            )
            terms.append(replace(term, reads=levels))
        return replace(self, terms=tuple(terms))

    def written(self) -> str:
        """An expression that resolves to the same terms under any preset."""
        kept = {term.name for term in self.terms}
        silenced = {
            t.name: [c for c in t.loss_class.companions if c not in kept]
            for t in self.terms
            if not t.companion_of
        }
        texts = [_with_silenced(term.written(), silenced.get(term.name, [])) for term in self.terms]
        return "+".join(texts if TASK in kept else [f"{TASK}(weight=0)", *texts])

    def to_dict(self) -> dict[str, object]:
        """What a run records."""
        terms = [
            {
                "label": term.label,
                "name": term.name,
                "weight": term.weight,
                "options": {k: list(v) if isinstance(v, tuple) else v for k, v in term.options.items()},
                "schedule": term.schedule.written(),
                "companion_of": term.companion_of,
            }
            for term in self.terms
        ]
        return {
            "expression": self.expression,
            "resolved": self.written(),
            "terms": terms,
            "needs": [need.name for need in self.needs],
            "notes": list(self.notes),
        }

    def table(self) -> list[TermRow]:
        """Rows for printing before step 0."""
        return [
            TermRow(
                term.label,
                written(term.weight),
                ", ".join(f"{name}={written(value)}" for name, value in term.shown_options.items()),
                ", ".join((*term.reads.student_taps, *(f"[{tap}]" for tap in term.reads.optional_taps))),
                ", ".join(need.name for need in term.reads.needs) or "-",
            )
            for term in self.terms
        ]

    def build(
        self,
        *,
        student: Mapping[str, TensorSpec],
        teacher: Mapping[str, TensorSpec],
        facts: Facts = NO_FACTS,
        student_grid: DenseGrid | None = None,
        teacher_grid: DenseGrid | None = None,
    ) -> LossSet:
        """Modules for maps of these sizes, initialised from torch's global generator. BadOption when sizes
        do not fit.
        """
        maps = Maps(student, teacher, facts, student_grid, teacher_grid)
        built = []
        for term in self.terms:
            _check_maps(term, maps)
            factory = cast(Callable[..., LossTerm], term.loss_class)
            module = factory(maps, **term.options)
            module.clip_norm = term.loss_class.task_clip.get(facts.task or "", module.clip_norm)
            built.append(WeightedTerm(term.label, term.weight, module, term.schedule))
        losses = LossSet(tuple(built))
        for note in losses.notes:
            log.info(note)
        return losses


def parse_losses(expression: str, *, preset: str | None, task: Task) -> LossPlan:
    """Resolve an expression. `preset` is the dataset's name; one without published settings leaves the
    defaults.

    Raises BadOption for a text of another shape, an unknown task, loss, option or preset, a value of another
    type or range, a method of another task, a term given twice, companions or forms of the student that
    contradict each other, and when nothing is left to train on.
    """
    where = where_in(expression)
    parsed = parse_expression(expression)
    choices = [choose(term, preset=preset, task=task, where=where) for term in _without_none(parsed, where)]
    terms, notes = with_companions(choices, where, task)
    terms, task_notes = task_first(terms, where, task)
    notes += task_notes
    kept = tuple(term for term in labelled(terms, where) if term.weight > 0 or term.schedule.restore)
    if not kept:
        raise BadOption("every term has weight 0", where=where, fix="'none' trains on the task loss alone")
    _check_forms(kept, where)
    _check_stops(kept, where)
    return LossPlan(expression, kept, (*(note for choice in choices for note in choice.notes), *notes))


def needs_of(expression: str, *, task: Task) -> tuple[Need, ...]:
    """What a teacher must provide for an expression. The settings of a dataset do not change that."""
    return parse_losses(expression, preset=None, task=task).needs


def _check_forms(terms: Iterable[TermPlan], where: str) -> None:
    """One run trains one form of student in one form of step."""
    forms = {t.name: t.loss_class.student_form(t.options) for t in terms}
    wanted = {name: form for name, form in forms.items() if form.kind != "plain"}
    if len(set(wanted.values())) > 1:
        raise BadOption(
            f"{' and '.join(wanted)} train different forms of a student: "
            + ", ".join(f"{form.count} {form.kind}" for form in wanted.values()),
            where=where,
            fix="name one of them",
        )


def _check_stops(terms: Iterable[TermPlan], where: str) -> None:
    """A term that is the whole training of several networks cannot be dropped: nothing would be left."""
    for term in terms:
        form = term.loss_class.student_form(term.options).kind
        if term.schedule.stop and (form != "plain" or term.loss_class.step_form(term.options) != "joint"):
            raise BadOption(
                f"'{term.name}' alone trains its networks, and stop={term.schedule.stop:g} would drop it",
                where=where,
                fix="leave stop out; its divergences alone have an option of their own, such as length",
            )


def _without_none(parsed: Sequence[ParsedTerm], where: str) -> list[ParsedTerm]:
    named = [term for term in parsed if term.name != NONE]
    for term in parsed:
        if term.name == NONE and (named or len(parsed) > 1 or term.options or term.preset):
            raise BadOption(
                "'none' stands alone and takes no options",
                where=where,
                fix="leave 'none' out, or scale the task loss with task(weight=...)",
            )
    return named


def _levels_of(taps: Iterable[str], groups: Groups) -> tuple[str, ...]:
    return _unique(level for tap in taps for level in groups.get(tap, (tap,)))


def _needs_of_levels(needs: Iterable[Need], groups: Groups) -> tuple[Need, ...]:
    return _unique(
        replace(need, tap=level, first=0)
        for need in needs
        for level in first_levels(groups.get(need.tap, (need.tap,)), need.first)
    )


def _check_maps(term: TermPlan, maps: Maps) -> None:
    # Levels of two grids need not be of one size: which of them are compared is for the loss to say.
    levels = maps.student_grid.groups.values() if maps.student_grid else ()
    of_levels = {tap for group in levels for tap in group}
    for tap in term.reads.student_taps:
        if tap not in maps.student:
            raise _no_tap(term, f"the student has no tap '{tap}'", maps.student)
    for need in term.reads.needs:
        if need.name not in maps.teacher:
            raise _no_tap(term, f"the teacher gives no '{need.name}'", maps.teacher)
        alike = need.tap in term.reads.student_taps and need.tap not in of_levels
        if term.loss_class.same_size and not need.reduction and alike:
            check_same_size(
                term.label, need.tap, maps.student[need.tap], maps.teacher[need.name], choose=_other_tap(term)
            )


def _no_tap(term: TermPlan, what: str, there: Mapping[str, TensorSpec]) -> BadOption:
    choices = ", ".join(there) or "nothing"
    return BadOption(
        what,
        where=f"loss term '{term.label}'",
        fix=f"there is: {choices}{_other_tap(term)}",
    )


def _other_tap(term: TermPlan) -> str:
    option = next((name for name in ("tap", "taps") if name in term.options), "")
    return f"; or name one that fits with {term.name}({option}=...)" if option else ""


def _with_silenced(text: str, companions: Sequence[str]) -> str:
    return text[:-1] + "".join(f",{name}=0" for name in companions) + ")" if companions else text


def _unique(items: Iterable[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(items))
