"""BCKD as a term: whole scenes against plain loops, what is skipped and ignored, what has a gradient."""

from dataclasses import replace

import dense_by_hand as by_hand
import pytest
import torch
from dense_inputs import FCOS, GFL, GRIDS, OBJECTS, Scene, assigned, dense_set, scene, truth_of
from torch import Tensor

from kdcache.cache.grid import DenseGrid
from kdcache.cache.positions import level_rows
from kdcache.cache.spec import BadOption, Need
from kdcache.losses.contract import LossTerm
from kdcache.losses.detection.bckd import EPSILON, BinaryClassification
from kdcache.losses.plan.plan import needs_of, parse_losses

SMALL = ((4.0, 6.0, 15.0, 15.0, 1),)  # covers points of the finest level alone


def rows(given: Scene, kind: str, level: int) -> tuple[Tensor, Tensor]:
    """(B * P_l, C) of student and teacher."""
    grid = given.maps.student_grid
    assert grid is not None
    tap = grid.groups[kind][level]
    ours, theirs = (
        level_rows(side[tap].detach(), grid.anchors_per_cell).flatten(0, 1)
        for side in (given.inputs.student, given.inputs.teacher)
    )
    return ours, theirs


def by_loop(given: Scene, *, beta: float = 1.0, skip: bool = True) -> tuple[float, float]:
    """Both terms without their weights, position after position."""
    matched = given.inputs.prepared
    cls = loc = 0.0
    start = 0
    for level, size in enumerate(matched.level_sizes):
        weights = matched.weights_BP[:, start : start + size].flatten().tolist()
        labels = matched.labels_BP[:, start : start + size]
        start += size
        if skip and not (labels >= 0).any():
            continue
        scores = rows(given, "cls", level)
        apart, gaps = by_hand.class_distance(*scores, beta), by_hand.largest_gap(*scores)
        boxes = zip(*(side.tolist() for side in rows(given, "box", level)), strict=True)
        overlaps = [
            by_hand.giou(*([-left, -top, right, bottom] for left, top, right, bottom in pair))
            for pair in boxes
        ]
        cls += sum(weight * value for weight, value in zip(weights, apart, strict=True))
        zipped = zip(weights, gaps, overlaps, strict=True)
        loc += sum(weight * gap * (1 - overlap) for weight, gap, overlap in zipped)
    divisor = float(matched.num_positives) + EPSILON
    return cls / divisor, loc / divisor


def term_values(expression: str, given: Scene) -> dict[str, float]:
    values = dense_set(expression, given.maps)(given.inputs)
    return {name: float(value) for name, value in values.unweighted.items()}


@pytest.mark.parametrize("detector", GRIDS)
def test_a_whole_scene_is_what_a_loop_over_its_positions_gives(detector: str) -> None:
    given = scene(GRIDS[detector])
    cls, loc = by_loop(given)
    assert term_values("bckd", given) == pytest.approx({"bckd.cls": cls, "bckd.loc": loc}, rel=1e-6)


def test_the_total_weighs_classes_once_and_boxes_four_times() -> None:
    given = scene()
    cls, loc = by_loop(given)
    total = float(dense_set("bckd", given.maps)(given.inputs).total.detach())
    assert total == pytest.approx(cls + 4 * loc, rel=1e-6)
    halved = float(dense_set("bckd(cls=0.5,loc=2,beta=2)", given.maps)(given.inputs).total.detach())
    cls, loc = by_loop(given, beta=2.0)
    assert halved == pytest.approx(0.5 * cls + 2 * loc, rel=1e-6)


def test_a_level_without_a_positive_counts_in_neither_term_unless_it_is_asked_for() -> None:
    given = scene(objects=(SMALL, ()))
    assert given.inputs.prepared.positive_levels.tolist() == [True, False, False]
    (cls, loc), (cls_all, loc_all) = by_loop(given), by_loop(given, skip=False)
    assert cls < 0.9 * cls_all and loc < 0.9 * loc_all
    assert term_values("bckd", given) == pytest.approx({"bckd.cls": cls, "bckd.loc": loc})
    every = term_values("bckd(skip_levels=off)", given)
    assert every == pytest.approx({"bckd.cls": cls_all, "bckd.loc": loc_all})


def test_a_skipped_level_has_no_gradient_and_a_counted_one_has() -> None:
    given = scene(objects=(SMALL, ()))
    dense_set("bckd", given.maps)(given.inputs).total.backward()
    slopes = {tap: value.grad for tap, value in given.inputs.student.items() if value.grad is not None}
    assert {tap for tap, slope in slopes.items() if slope.any()} == {"cls3", "box3"}


def test_an_ignored_position_adds_nothing_and_the_count_divides() -> None:
    given = scene()
    matched = given.inputs.prepared
    weights = matched.weights_BP.clone()
    weights[:, ::3] = 0
    changed = given._replace(
        inputs=given.inputs._replace(
            prepared=matched._replace(weights_BP=weights, num_positives=torch.tensor(7.0))
        )
    )
    cls, loc = by_loop(changed)
    assert term_values("bckd", changed) == pytest.approx({"bckd.cls": cls, "bckd.loc": loc})
    assert cls != pytest.approx(by_loop(given)[0], rel=1e-2)


def test_the_gradient_of_the_classes_flows_through_the_gap_of_the_scores() -> None:
    given = scene(replace(GFL, levels=(3,), strides=(8,)), canvas=(24, 24), objects=(OBJECTS[0],))
    (student,), (teacher,) = (
        [side["cls3"].detach()] for side in (given.inputs.student, given.inputs.teacher)
    )
    student.requires_grad_()
    inputs = given.inputs._replace(student={**given.inputs.student, "cls3": student})
    (ours,) = torch.autograd.grad(dense_set("bckd(loc=0)", given.maps)(inputs).total, student)
    ones = teacher.sigmoid()
    gap = (ones - student.sigmoid()).abs()
    bce = torch.nn.functional.binary_cross_entropy_with_logits(student, ones, reduction="none")
    share = student.sigmoid() * (1 - student.sigmoid())
    through_gap = (student.sigmoid() - ones).sign() * share * bce
    through_bce = gap * (student.sigmoid() - ones)
    wanted = (through_gap + through_bce) / given.inputs.prepared.num_positives
    torch.testing.assert_close(ours, wanted.detach())


def test_the_gap_that_weighs_the_boxes_has_no_gradient() -> None:
    given = scene()
    dense_set("bckd(cls=0)", given.maps)(given.inputs).total.backward()
    reached = {tap for tap, value in given.inputs.student.items() if value.grad is not None}
    assert reached == {"box3", "box4", "box5"}


def test_equal_answers_cost_nothing() -> None:
    given = scene()
    same = given.inputs._replace(teacher={tap: v.detach() for tap, v in given.inputs.student.items()})
    assert float(dense_set("bckd", given.maps)(same).total.detach()) == pytest.approx(0, abs=1e-12)


def test_what_is_switched_off_is_not_read_and_both_off_is_an_error() -> None:
    assert needs_of("bckd", task="detection") == (Need(tap="cls"), Need(tap="box"))
    assert needs_of("bckd(loc=0)", task="detection") == (Need(tap="cls"),)
    assert needs_of("bckd(cls=0)", task="detection") == (Need(tap="cls"), Need(tap="box"))
    assert set(term_values("bckd(loc=0)", scene())) == {"bckd.cls"}
    with pytest.raises(BadOption) as caught:
        dense_set("bckd(cls=0,loc=0)", scene().maps)
    assert str(caught.value).splitlines() == [
        "cls=0 and loc=0 leave nothing to distil",
        "  where: loss term 'bckd'",
        "  fix:   leave one of them out: bckd(cls=0) or bckd(loc=0)",
    ]


def test_a_power_below_one_which_has_no_slope_at_equal_scores_is_refused() -> None:
    with pytest.raises(BadOption, match="option 'beta' of 'bckd' takes a number from 1, not '0.5'"):
        parse_losses("bckd(beta=0.5)", preset=None, task="detection")


@pytest.mark.parametrize(("student", "teacher"), [(GFL, FCOS), (FCOS, GFL)])
def test_fcos_and_gfl_are_compared_and_it_is_said_that_their_scores_differ(
    student: DenseGrid, teacher: DenseGrid
) -> None:
    given = scene(student, teacher)
    losses = dense_set("bckd", given.maps)
    assert losses.notes == (
        f"a score is {student.score} for the student and {teacher.score} for the teacher (ctr: centerness): "
        "class maps that mean different scores are compared",
    )
    assert torch.isfinite(losses(given.inputs).total.detach())
    assert dense_set("bckd", scene().maps).notes == ()


def test_the_assignment_is_read_and_never_made() -> None:
    """Other boxes with the same assignment change nothing."""
    given = scene()
    moved = given.inputs._replace(truth=truth_of(tuple(tuple(rows) for rows in (SMALL, SMALL))))
    losses = dense_set("bckd", given.maps)
    assert losses(moved).total.item() == losses(given.inputs).total.item()
    other = moved._replace(prepared=assigned(GFL, moved.truth))
    assert losses(other).total.item() != losses(given.inputs).total.item()


def test_the_term_is_one_of_detection_alone() -> None:
    assert issubclass(BinaryClassification, LossTerm)
    for task in ("segmentation", "classification"):
        with pytest.raises(BadOption, match=f"'bckd' is a method for detection, and this is {task}"):
            parse_losses("bckd", preset=None, task=task)
