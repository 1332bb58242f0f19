"""The supervised loss of four dense heads: with loops over positions, torchvision's focal loss, at edges."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from dense_heads import (
    CANVAS,
    GRIDS,
    head_inputs,
    head_losses,
    head_taps,
    random_truth,
    supervised,
    truth_BM5,
)
from torch import Tensor
from torch.nn import functional
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from kdcache.cache.grid import DenseGrid
from kdcache.cache.positions import anchors, boxes_at, level_rows, points
from kdcache.cache.spec import BadOption
from kdcache.losses.contract import Facts, Maps
from kdcache.losses.detection.matched import Matched
from kdcache.losses.plan.plan import parse_losses
from kdcache.losses.supervised.detection import Supervised

ALL = pytest.mark.parametrize("name", GRIDS)
SEED = 4
Box = list[Tensor]


def giou(a: Box, b: Box) -> Tensor:
    """As the paper draws it, one pair at a time."""
    width = torch.clamp(torch.min(a[2], b[2]) - torch.max(a[0], b[0]), min=0)
    height = torch.clamp(torch.min(a[3], b[3]) - torch.max(a[1], b[1]), min=0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    around = (torch.max(a[2], b[2]) - torch.min(a[0], b[0])) * (torch.max(a[3], b[3]) - torch.min(a[1], b[1]))
    return width * height / union - (around - union) / around


def iou(a: Box, b: Box) -> Tensor:
    width = torch.clamp(torch.min(a[2], b[2]) - torch.max(a[0], b[0]), min=0)
    height = torch.clamp(torch.min(a[3], b[3]) - torch.max(a[1], b[1]), min=0)
    return width * height / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height)


def bce(logit: Tensor, target: Tensor | float) -> Tensor:
    return -(target * functional.logsigmoid(logit) + (1 - target) * functional.logsigmoid(-logit))


class Position:
    """One position of one image: what the student says there, and what is wanted."""

    def __init__(self, maps: Mapping[str, Tensor], grid: DenseGrid, place: int, image: int, p: int) -> None:
        level, width = grid.levels[place], grid.cells(*CANVAS)[place][1]
        cell, anchor = divmod(p, grid.anchors_per_cell)
        y, x = divmod(cell, width)

        def channels(kind: str) -> Tensor:
            of_cell = maps[f"{kind}{level}"][image, :, y, x]
            count = len(of_cell) // grid.anchors_per_cell
            return of_cell[anchor * count : (anchor + 1) * count]

        self.stride = grid.strides[place]
        self.logits, self.sides = channels("cls"), channels("box")
        self.bins = channels("bins").reshape(4, -1) if grid.num_bins else None
        self.ctr = channels("ctr")[0] if "ctr" in grid.groups else None
        self.point = points(grid, *CANVAS)[place][p].double()
        self.anchor = [side.double() for side in anchors(grid, *CANVAS)[place][p]]

    @property
    def box(self) -> Box:
        """In pixels."""
        (left, top, right, bottom), (x, y) = self.sides * self.stride, self.point
        return [x - left, y - top, x + right, y + bottom]


def terms_by_loops(
    name: str, maps: Mapping[str, Tensor], matched: Matched, form: str = "own"
) -> dict[str, Tensor]:
    """The terms of a head with their weights, summed position by position."""
    grid, zero = GRIDS[name], torch.zeros((), dtype=torch.float64)
    sums = {"cls": zero, "box": zero, "dfl": zero, "ctr": zero, "weights": zero}
    first = 0
    for place, size in enumerate(matched.level_sizes):
        for image in range(len(matched.labels_BP)):
            for p in range(size):
                label = int(matched.labels_BP[image, first + p])
                if label == -2:
                    continue
                at = Position(maps, grid, place, image, p)
                wanted = list(matched.boxes_BP4[image, first + p].double())
                centred = matched.centerness_BP[image, first + p].double()
                for key, value in position_terms(name, at, label, wanted, centred, form).items():
                    sums[key] = sums[key] + value
        first += size
    return divided(name, sums, matched.num_positives.double(), form)


def position_terms(
    name: str, at: Position, label: int, wanted: Box, centred: Tensor, form: str
) -> dict[str, Tensor]:
    target = (
        iou(at.box, wanted).detach() if label >= 0 and name == "gfl" else torch.ones((), dtype=torch.float64)
    )
    wants = [target if k == label else torch.zeros(()).double() for k in range(len(at.logits))]
    terms: dict[str, Tensor] = {}
    if name == "gfl":
        classes = [
            (want - z.sigmoid()).abs() ** 2 * bce(z, want) for z, want in zip(at.logits, wants, strict=True)
        ]
    else:
        classes = [focal(z, float(want)) for z, want in zip(at.logits, wants, strict=True)]
    terms["cls"] = torch.stack(classes).sum()
    if label < 0:
        return terms
    if name == "retinanet":
        said, meant = (deltas(box, at.anchor) for box in (at.box, wanted))
        return {**terms, "box": torch.stack([(a - b).abs() for a, b in zip(said, meant, strict=True)]).sum()}
    scores = at.logits.detach().sigmoid()
    weight = {"gfl": scores.max() if form == "own" else (scores + 1e-4).max() + 1e-4}.get(name, centred)
    terms |= {"box": weight * (1 - giou(at.box, wanted)), "weights": weight}
    if at.ctr is not None:
        terms["ctr"] = bce(at.ctr, centred)
    if at.bins is not None:
        terms["dfl"] = weight * sum(
            (neighbours(at, side, wanted) for side in range(4)), torch.zeros(()).double()
        )
    return terms


def focal(z: Tensor, target: float) -> Tensor:
    p = z.sigmoid()
    return 0.25 * (1 - p) ** 2 * bce(z, 1.0) if target else 0.75 * p**2 * bce(z, 0.0)


def deltas(box: Box, anchor: Box) -> Box:
    width, height = anchor[2] - anchor[0], anchor[3] - anchor[1]
    x, y = ((box[0] + box[2] - anchor[0] - anchor[2]) / 2, (box[1] + box[3] - anchor[1] - anchor[3]) / 2)
    return [x / width, y / height, ((box[2] - box[0]) / width).log(), ((box[3] - box[1]) / height).log()]


def neighbours(at: Position, side: int, wanted: Box) -> Tensor:
    """Cross-entropy of the two bins beside a side, in strides, at most the last bin less a tenth."""
    assert at.bins is not None
    edge = (at.point[side % 2] - wanted[side]) * (1 if side < 2 else -1)
    bins = min(max(float(edge) / at.stride, 0.0), at.bins.shape[1] - 1 - 0.1)
    low = math.floor(bins)
    log_p = at.bins[side].log_softmax(0)
    return -((low + 1 - bins) * log_p[low] + (bins - low) * log_p[low + 1])


def divided(name: str, sums: dict[str, Tensor], number: Tensor, form: str) -> dict[str, Tensor]:
    weights = sums["weights"]
    by = {"gfl": weights + 1e-6 if form == "bckd" else weights.clamp(min=1), "atss": weights.clamp(min=1),
          "fcos": weights.clamp(min=1e-6), "retinanet": number}[name]  # fmt: skip
    factor = {"gfl": 2.0, "atss": 2.0, "fcos": 1.0, "retinanet": 1.0}[name]
    terms = {"task.cls": sums["cls"] / number, "task.box": factor * sums["box"] / by}
    if name == "gfl":
        terms["task.dfl"] = 0.25 * sums["dfl"] / 4 / by
    if name in ("atss", "fcos"):
        terms["task.ctr"] = sums["ctr"] / number
    return terms


@pytest.mark.parametrize(
    ("name", "options"), [*((name, {}) for name in GRIDS), ("gfl", {"score": "bckd"})], ids=str
)
def test_every_term_and_its_gradient_are_those_of_a_loop_over_positions(
    name: str, options: dict[str, Any]
) -> None:
    grid, truth = GRIDS[name], random_truth(SEED)
    maps = head_taps(grid)
    values = head_losses(grid, maps, truth, **options)
    matched = supervised(grid, maps).prepare(head_inputs(maps, truth))
    assert int((matched.labels_BP >= 0).sum()) > 5
    wanted = terms_by_loops(name, maps, matched, options.get("score", "own"))
    assert set(values.terms) == set(wanted)
    for term, value in wanted.items():
        assert float(values.terms[term]) == pytest.approx(float(value.detach()), rel=1e-9), term
    ours = torch.autograd.grad(values.total, list(maps.values()), allow_unused=True)
    theirs = torch.autograd.grad(
        torch.stack(list(wanted.values())).sum(), list(maps.values()), allow_unused=True
    )
    for tap, mine, other in zip(maps, ours, theirs, strict=True):
        torch.testing.assert_close(mine, torch.zeros_like(maps[tap]) if other is None else other, msg=tap)


def test_the_focal_loss_is_torchvisions() -> None:
    grid, truth = GRIDS["fcos"], random_truth(SEED)
    maps = head_taps(grid)
    matched = supervised(grid, maps).prepare(head_inputs(maps, truth))
    rows = torch.cat([maps[tap].permute(0, 2, 3, 1).flatten(1, 2) for tap in grid.groups["cls"]], dim=1)
    hot = functional.one_hot(matched.labels_BP.clamp(min=0), 3) * (matched.labels_BP >= 0)[..., None]
    wanted = sigmoid_focal_loss(rows, hot.double(), reduction="sum") / matched.num_positives
    assert float(head_losses(grid, maps, truth).terms["task.cls"]) == pytest.approx(float(wanted.detach()))


def test_atss_has_gfls_assignment_and_torchvisions_losses_of_classes_and_boxes() -> None:
    truth, maps = random_truth(SEED), head_taps(GRIDS["atss"])
    matched, of_gfl = (
        supervised(grid, head_taps(grid)).prepare(head_inputs({}, truth))
        for grid in (GRIDS["atss"], GRIDS["gfl"])
    )
    for field, ours, other in zip(Matched._fields, matched, of_gfl, strict=True):
        assert torch.equal(torch.as_tensor(ours), torch.as_tensor(other)), field
    logits, sides = (
        torch.cat([level_rows(maps[tap], 1) for tap in GRIDS["atss"].groups[kind]], 1)
        for kind in ("cls", "box")
    )
    hot = functional.one_hot(matched.labels_BP.clamp(min=0), 3) * (matched.labels_BP >= 0)[..., None]
    strides = [
        torch.full((size, 1), float(stride))
        for size, stride in zip(matched.level_sizes, GRIDS["atss"].strides, strict=True)
    ]
    chosen, weights = matched.labels_BP >= 0, matched.centerness_BP
    said = boxes_at(torch.cat(points(GRIDS["atss"], *CANVAS)), sides * torch.cat(strides), 1)
    apart = generalized_box_iou_loss(said[chosen], matched.boxes_BP4[chosen].double())
    terms = head_losses(GRIDS["atss"], maps, truth).terms
    wanted = sigmoid_focal_loss(logits, hot.double(), reduction="sum") / matched.num_positives
    assert float(terms["task.cls"]) == pytest.approx(float(wanted.detach()))
    wanted = 2 * (apart * weights[chosen]).sum() / weights.sum().clamp(min=1)
    assert float(terms["task.box"]) == pytest.approx(float(wanted.detach()), rel=1e-6)


@ALL
def test_the_order_of_objects_changes_no_loss(name: str) -> None:
    truth = random_truth(SEED, most=8)
    turned = truth.flip(1)
    maps = head_taps(GRIDS[name])
    ours, others = (head_losses(GRIDS[name], maps, one).terms for one in (truth, turned))
    assert not torch.equal(truth, turned)
    for term, value in ours.items():
        assert float(others[term]) == pytest.approx(float(value), rel=1e-6), term


@ALL
def test_what_has_no_class_changes_no_loss_whatever_its_box(name: str) -> None:
    truth = random_truth(SEED)
    longer = torch.cat([truth, truth_BM5(*[[(20.0, 10.0, 70.0, 55.0, -1.0)] * 3] * 2)], dim=1)
    maps = head_taps(GRIDS[name])
    ours, others = (head_losses(GRIDS[name], maps, one).terms for one in (truth, longer))
    assert all(torch.equal(ours[term], others[term]) for term in ours)


EMPTY: list[tuple[float, ...]] = []
ONE = [(10.0, 10.0, 50.0, 50.0, 0.0)]


@ALL
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "truth",
    [
        torch.zeros(2, 0, 5),  # a batch without boxes
        truth_BM5(EMPTY, ONE),  # an image without boxes
        truth_BM5(ONE, [(0.0, 0.0, 96.0, 64.0, 0.0)]),
        truth_BM5(
            [(40.0, 40.0, 42.0, 42.0, 0.0)], EMPTY
        ),  # as small as a view keeps: levels without a positive
        truth_BM5([(94.0, 62.0, 96.0, 64.0, 0.0)], EMPTY),  # in the corner
    ],
    ids=["no-box", "empty-image", "large", "tiny", "corner"],
)
def test_loss_and_gradient_are_finite_with_one_class_in_every_precision(
    name: str, dtype: torch.dtype, truth: Tensor
) -> None:
    maps = head_taps(GRIDS[name], num_classes=1, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        values = head_losses(GRIDS[name], maps, truth)
    values.total.backward()
    assert values.total.dtype == torch.float32 and float(values.terms["task.cls"]) > 0
    for tap, one in maps.items():
        assert one.grad is not None, f"{tap} is not reached: ranks of a run would wait for it"
        assert torch.isfinite(one.grad).all(), tap


@ALL
def test_half_precision_maps_have_the_loss_of_the_same_numbers_in_float32(name: str) -> None:
    truth = random_truth(SEED)
    half = head_taps(GRIDS[name], dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        narrow = head_losses(GRIDS[name], half, truth).terms
    wide = head_losses(GRIDS[name], {tap: one.detach().float() for tap, one in half.items()}, truth).terms
    assert {term: float(v) for term, v in narrow.items()} == {term: float(v) for term, v in wide.items()}


@ALL
def test_extreme_scores_are_finite(name: str) -> None:
    """A sigmoid of 100 is 1 in float32; its logarithm must not be taken."""
    maps = {tap: (one.detach().float() * 100).requires_grad_() for tap, one in head_taps(GRIDS[name]).items()}
    values = head_losses(GRIDS[name], maps, random_truth(SEED))
    slopes = torch.autograd.grad(values.total, list(maps.values()))
    assert torch.isfinite(values.total) and all(torch.isfinite(slope).all() for slope in slopes)


@ALL
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_one_position_of_eighty_classes_is_enough(name: str, dtype: torch.dtype) -> None:
    """A canvas of one cell of one level, with an object and without one."""
    grid = replace(GRIDS[name], levels=(5,), strides=(32,))
    for truth in (truth_BM5([(-20.0, -20.0, 30.0, 30.0, 79.0)]), torch.zeros(1, 0, 5)):
        maps = {
            tap: one[:1, :, :1, :1].detach().requires_grad_()
            for tap, one in head_taps(grid, num_classes=80, dtype=dtype).items()
        }
        term = Supervised(supervised_maps(grid)._replace(facts=Facts(input_size=(32, 32))))
        inputs = head_inputs(maps, truth)
        terms = term(inputs._replace(prepared=term.prepare(inputs)))
        assert isinstance(terms, Mapping)
        total = torch.stack([one.value for one in terms.values()]).sum()
        slopes = torch.autograd.grad(total, list(maps.values()))
        assert torch.isfinite(total) and all(torch.isfinite(slope).all() for slope in slopes)


def test_the_canvas_is_that_of_the_images_where_they_are_there() -> None:
    grid = GRIDS["fcos"]
    maps = head_taps(grid)
    term = Supervised(supervised_maps(grid)._replace(facts=Facts(input_size=(640, 640))))
    inputs = head_inputs(maps, random_truth(SEED))._replace(images_BHWC=torch.zeros(2, *CANVAS, 3))
    assert term.prepare(inputs).level_sizes == (96, 24, 6)


def supervised_maps(grid: DenseGrid | None) -> Maps:
    return Maps({}, {}, Facts(input_size=CANVAS), student_grid=grid)


def test_a_student_without_a_pyramid_is_refused() -> None:
    with pytest.raises(BadOption) as refused:
        Supervised(supervised_maps(None))
    assert "no pyramid of dense maps" in refused.value.what and "gfl:r18" in refused.value.fix


@pytest.mark.parametrize("name", ["atss", "fcos", "retinanet"])
def test_the_weights_of_bckd_are_refused_for_a_head_without_bins(name: str) -> None:
    with pytest.raises(BadOption) as refused:
        Supervised(supervised_maps(GRIDS[name]), score="bckd")
    assert refused.value.what == "score=bckd weighs the boxes of gfl, and this student has no bins"
    assert refused.value.where == "--loss task(score=bckd)"


def test_the_task_term_is_written_with_its_option() -> None:
    plan = parse_losses("task(score=bckd)", preset="coco", task="detection")
    assert set(plan.student_taps) == {"cls", "box"} and {"bins", "ctr"} <= set(plan.optional_student_taps)
