"""Whether losses fit what a teacher gives, as far as that can be said before there is a student.

A loss is built for the student that asks least: one with the teacher's own taps, channels and cells. What
refuses that one fits no student. Then for students that differ from the teacher in one way, which says what a
student has to have. Axes: C channels, H W cells.
"""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import NamedTuple

import torch

from kdcache.cache.grid import BINS, BOX, CLS, CTR, FPN, DenseGrid, kind_of
from kdcache.cache.spec import BadOption, TensorSpec
from kdcache.losses.contract import NO_FACTS, Facts
from kdcache.losses.plan.plan import LossPlan

Specs = Mapping[str, TensorSpec]
SAME_ANSWERS = "as many anchors per cell and the same classes"
AUX, LOGITS = "aux", "logits"  # an auxiliary head answers what the network answers


class Fit(NamedTuple):
    """`refusal`: why no student can be trained so, in the loss's own words. `student`: what one must have,
    ('as many channels', ...)."""

    refusal: BadOption | None = None
    student: tuple[str, ...] = ()


def fit_of(plan: LossPlan, teacher: Specs, *, facts: Facts = NO_FACTS, grid: DenseGrid | None = None) -> Fit:
    """How the terms of a plan fit a teacher that gives `teacher`, specs by name of a need. Says nothing,
    `Fit()`, of a loss that reads what the teacher's specs do not tell."""
    student = _like_teacher(plan, teacher, facts, grid)
    if student is None or any(need.name not in teacher for need in plan.needs):
        return Fit()

    def refused(changed: Specs, own: DenseGrid | None = grid) -> BadOption | None:
        return _refusal(plan, changed, teacher, facts, (own, grid))

    if (why := refused(student)) is not None:
        return Fit(why)
    words = [said for said, change in _OTHERS.items() if refused(_changed(student, change)) is not None]
    if grid is not None:
        more = replace(grid, anchors_per_cell=grid.anchors_per_cell + 1)
        others = {tap: _answer(tap, spec, grid, more) for tap, spec in student.items()}
        words += [SAME_ANSWERS] if refused(others, more) is not None else []
    return Fit(None, tuple(words))


def _like_teacher(plan: LossPlan, teacher: Specs, facts: Facts, grid: DenseGrid | None) -> Specs | None:
    """What a student of the teacher's own make gives; None where a tap is none of the teacher's."""
    if any(need.reduction for need in plan.needs):
        return None  # a reduced target does not tell the size of the map that it was made of
    whole = {**_answers(facts, grid), **teacher, **({AUX: teacher[LOGITS]} if LOGITS in teacher else {})}
    taps = (*plan.student_taps, *(tap for tap in plan.optional_student_taps if tap in whole))
    return {tap: whole[tap] for tap in taps} if all(tap in whole for tap in taps) else None


def _refusal(
    plan: LossPlan,
    student: Specs,
    teacher: Specs,
    facts: Facts,
    grids: tuple[DenseGrid | None, DenseGrid | None],
) -> BadOption | None:
    # Without memory where that goes: a generator of 75 million weights is asked for its checks alone. A loss
    # that computes with the labels while it is made needs a device that computes.
    for device in (torch.device("meta"), None):
        try:
            with torch.random.fork_rng(devices=[]), device or nullcontext():
                plan.build(
                    student=student,
                    teacher=teacher,
                    facts=facts,
                    student_grid=grids[0],
                    teacher_grid=grids[1],
                )
        except BadOption as refusal:
            return refusal
        except (RuntimeError, NotImplementedError):
            if device is None:
                raise
            continue
        return None
    return None


def _changed(specs: Specs, change: Callable[[TensorSpec], TensorSpec]) -> Specs:
    """Features alone: logits have the classes of the data and nothing to choose, what a detector answers at
    its anchors follows from its grid, and so do the cells of every level."""
    kinds = ("", FPN) if change is _fewer_channels else ("",)
    return {
        tap: change(s) if tap not in (LOGITS, AUX) and kind_of(tap) in kinds else s
        for tap, s in specs.items()
    }


def _answers(facts: Facts, grid: DenseGrid | None) -> dict[str, TensorSpec]:
    """What a student with this grid answers on the data: the loss of its own reads that too, kept or not."""
    if grid is None or not any(facts.input_size):
        return {}
    per_anchor = {CLS: facts.num_classes, BOX: 4, BINS: 4 * grid.num_bins, CTR: 1}
    cells = grid.cells(*facts.input_size)
    return {
        tap: TensorSpec((*cells[place], per_anchor[kind] * grid.anchors_per_cell), grid.strides[place])
        for kind, taps in grid.groups.items()
        if kind in per_anchor
        for place, tap in enumerate(taps)
    }


def _answer(tap: str, spec: TensorSpec, grid: DenseGrid, other: DenseGrid) -> TensorSpec:
    """The same map of a student with `other`, which has more anchors."""
    if kind_of(tap) in ("", FPN):
        return spec
    channels = spec.channels // grid.anchors_per_cell * other.anchors_per_cell
    return spec._replace(shape=(*spec.shape[:-1], channels))


def _fewer_channels(spec: TensorSpec) -> TensorSpec:
    return spec._replace(shape=(*spec.shape[:-1], max(1, spec.channels // 2)))


def _fewer_cells(spec: TensorSpec) -> TensorSpec:
    cells = tuple(max(1, n // 2) for n in spec.shape[:-1])
    return spec._replace(shape=(*cells, spec.channels), stride=2 * spec.stride)


_OTHERS: Mapping[str, Callable[[TensorSpec], TensorSpec]] = {
    "as many channels": _fewer_channels,
    "maps of the same size": _fewer_cells,
}
