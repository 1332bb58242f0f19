"""What the grids of two dense detectors must share before one can learn from the other, and their levels.

Checked before the first step; each error says what both sides have and what to train instead. Class maps,
boxes and bins are compared position by position: equal levels, strides and anchors. Features (`fpn`) are
compared where both sides have a level of the same stride.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from kdcache.cache.grid import BINS, BOX, CLS, CTR, FPN, DenseGrid
from kdcache.cache.spec import BadOption, class_difference
from kdcache.losses.contract import Facts, Maps
from kdcache.losses.formulas.rows import named_taps
from kdcache.losses.formulas.shapes import check_same_size

GROUPS = (FPN, CLS, BOX, BINS, CTR)
FEATURES = "--loss pkd"  # what works between detectors of any two kinds


class TapPair(NamedTuple):
    """A map of the student and the one of the teacher that it is compared with."""

    student: str
    teacher: str


class Pairs(NamedTuple):
    """What option values such as 'fpn' or 'stage3/stage4' come to for the maps of a run."""

    taps: tuple[TapPair, ...]
    notes: tuple[str, ...] = ()


def tap_pairs(
    term: str, maps: Maps, taps: str, *, target: Callable[[str], str] = str, first: int = 0
) -> Pairs:
    """The maps that an option `taps` names on both sides; a group is its levels. `target` names what is read
    of a teacher's tap, where that is not the map; of `fpn` the teacher's `first` levels are read, 0: all.
    BadOption where no tap is named, and where the grids do not share what a group needs."""
    pairs: list[TapPair] = []
    notes: list[str] = []
    for name in named_taps(term, taps):
        if name not in GROUPS:
            pairs.append(TapPair(name, target(name)))
            continue
        if name == FPN:
            group = shared_levels(term, maps, target, first)
        else:
            group = same_levels(term, maps, name, target)
        pairs += group.taps
        notes += group.notes
    return Pairs(tuple(pairs), tuple(notes))


def shared_levels(term: str, maps: Maps, target: Callable[[str], str] = str, first: int = 0) -> Pairs:
    """The feature maps of equal stride, and which have no partner; with `first` only those among the
    teacher's first levels. BadOption where no stride is shared."""
    student, teacher = grids(term, maps)
    ours, theirs = (dict(zip(grid.strides, grid.groups[FPN], strict=True)) for grid in (student, teacher))
    shared = [stride for stride in student.strides if stride in theirs]
    if not shared:
        raise BadOption(
            f"the student has {_strides(student)}, the teacher {_strides(teacher)}: no level of features is "
            "shared",
            where=f"loss term '{term}'",
            fix="take networks with a level of the same stride, such as --student gfl:r18 --teacher gfl:r50",
        )
    read = [stride for stride in shared if not first or stride in teacher.strides[:first]]
    pairs = tuple(TapPair(ours[stride], target(theirs[stride])) for stride in read)
    for one in pairs:
        check_same_size(term, one.student, maps.student[one.student], maps.teacher[one.teacher])
    alone = [
        f"stride {stride} of the {side} has no {other}"
        for side, other, grid, there in (
            ("student", "teacher", student, theirs),
            ("teacher", "student", teacher, ours),
        )
        for stride in grid.strides
        if stride not in there
    ]
    note = f"features are compared at {_listed(read)}; {'; '.join(alone)}"
    return Pairs(pairs, (note,) if alone else ())


def same_levels(term: str, maps: Maps, kind: str, target: Callable[[str], str] = str) -> Pairs:
    """The maps of one kind (`cls`, `box`, `bins`, `ctr`), level by level. BadOption unless both grids have
    the same levels and anchors, `cls` also the same classes, and `bins` equal bins."""
    student, teacher = grids(term, maps)
    check_levels(term, student, teacher)
    check_anchors(term, student, teacher)
    if kind == CLS:
        check_classes(term, maps.facts)
    if kind == BINS:
        check_bins(term, student, teacher)
    for grid, side in ((student, "student"), (teacher, "teacher")):
        if kind not in grid.groups:
            raise BadOption(
                f"the {side} answers {', '.join(grid.groups)} per level, no {kind}",
                where=f"loss term '{term}'",
                fix=f"name one that both sides answer: {term}(taps={CLS})",
            )
    taps = zip(student.groups[kind], teacher.groups[kind], strict=True)
    pairs = tuple(TapPair(ours, target(theirs)) for ours, theirs in taps)
    for one in pairs:
        check_same_size(term, one.student, maps.student[one.student], maps.teacher[one.teacher])
    if kind == CLS:
        _check_scores(term, maps, [one for one in pairs if one.teacher in teacher.groups[CLS]])
    return Pairs(pairs)


def grids(term: str, maps: Maps) -> tuple[DenseGrid, DenseGrid]:
    """Both grids. BadOption for a side that answers no levels."""
    for grid, side, option in (
        (maps.student_grid, "student", "--student"),
        (maps.teacher_grid, "teacher", "--teacher"),
    ):
        if grid is None:
            raise BadOption(
                f"the {side} says no levels and strides, so its maps have no places on the image",
                where=f"loss term '{term}'",
                fix=f"take a dense detector: {option} gfl:r18, retinanet:r18, fcos:r18 or atss:r18",
            )
    assert maps.student_grid is not None and maps.teacher_grid is not None
    return maps.student_grid, maps.teacher_grid


def check_levels(term: str, student: DenseGrid, teacher: DenseGrid) -> None:
    """BadOption unless both grids have the same strides in the same order."""
    if student.strides == teacher.strides:
        return
    raise BadOption(
        f"the student has {_strides(student)}, the teacher {_strides(teacher)}",
        where=f"loss term '{term}', which compares position by position",
        fix=f"take a teacher with the student's levels, or a loss that compares shared ones: {FEATURES}",
    )


def check_anchors(term: str, student: DenseGrid, teacher: DenseGrid) -> None:
    """BadOption unless both have as many anchors per cell."""
    if student.anchors_per_cell == teacher.anchors_per_cell:
        return
    raise BadOption(
        f"anchors per cell: {student.anchors_per_cell} of the student and {teacher.anchors_per_cell} of the "
        "teacher",
        where=f"loss term '{term}', which compares position by position",
        fix="take teacher and student of one family: retinanet with retinanet; gfl with gfl, fcos or atss; "
        f"or distil features: {FEATURES}",
    )


def check_bins(term: str, student: DenseGrid, teacher: DenseGrid) -> None:
    """BadOption unless both have bins, and as many."""
    if student.num_bins == teacher.num_bins > 0:
        return
    ours, theirs = (grid.num_bins or "none" for grid in (student, teacher))
    raise BadOption(
        f"bins per side of a box: {ours} of the student and {theirs} of the teacher",
        where=f"loss term '{term}'",
        fix="ld needs gfl on both sides; bckd distils boxes without bins: --loss bckd",
    )


def check_classes(term: str, facts: Facts) -> None:
    """BadOption unless the teacher's classes are the data's, in order; nothing where a side says none."""
    differ = class_difference(facts.class_names, facts.teacher_classes, facts.num_teacher_classes)
    if not differ:
        return
    raise BadOption(
        differ,
        where=f"loss term '{term}', which compares scores class by class",
        fix=f"train the teacher on these classes, or distil features: {FEATURES}",
    )


def score_notes(student: DenseGrid, teacher: DenseGrid) -> tuple[str, ...]:
    """A sentence where the class maps of the two sides mean different scores; it is allowed."""
    if student.score == teacher.score:
        return ()
    return (
        f"a score is {student.score} for the student and {teacher.score} for the teacher (ctr: centerness): "
        "class maps that mean different scores are compared",
    )


def canvas_of(maps: Maps) -> tuple[int, int]:
    """(height, width) in pixels: what the run says, else the cells of the finest level times its stride."""
    if any(maps.facts.input_size) or maps.student_grid is None:
        return maps.facts.input_size
    stride, tap = min(zip(maps.student_grid.strides, maps.student_grid.groups[FPN], strict=True))
    finest = next(maps.student[name] for name in _of_level(maps.student_grid, tap) if name in maps.student)
    return finest.shape[0] * stride, finest.shape[1] * stride


def _of_level(grid: DenseGrid, tap: str) -> Iterable[str]:
    """All maps of the level whose features are `tap`."""
    index = grid.groups[FPN].index(tap)
    return (taps[index] for taps in grid.groups.values())


def _check_scores(term: str, maps: Maps, pairs: Iterable[TapPair]) -> None:
    """BadOption where a side scores more classes, which only shows here when one says no names."""
    assert maps.student_grid is not None
    anchors = maps.student_grid.anchors_per_cell
    for one in pairs:
        ours, theirs = maps.student[one.student].channels, maps.teacher[one.teacher].channels
        if ours != theirs:
            raise BadOption(
                f"the student scores {ours // anchors} classes and the teacher {theirs // anchors}",
                where=f"loss term '{term}', tap '{one.student}'",
                fix=f"train the teacher on these classes, or distil features: {FEATURES}",
            )


def _strides(grid: DenseGrid) -> str:
    return _listed(grid.strides)


def _listed(strides: Iterable[int]) -> str:
    return f"strides {', '.join(str(stride) for stride in strides)}"
