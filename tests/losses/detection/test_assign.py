"""Which position answers for which object: loops over boxes, known cases, torchvision's own matching."""

import math
import statistics
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from dense_heads import CANVAS, GRIDS, random_truth, truth_BM5
from torch import Tensor
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection._utils import Matcher

from kdcache.cache.grid import DenseGrid
from kdcache.losses.detection import assign as module
from kdcache.losses.detection.assign import Positions, assign, match, positions

SEEDS = pytest.mark.parametrize("seed", range(12))
Box = tuple[float, ...]


def where_of(grid: DenseGrid) -> Positions:
    return positions(grid, *CANVAS)


def wide(where: Positions) -> Positions:
    return where._replace(points_P2=where.points_P2.double(), anchors_P4=where.anchors_P4.double())


def boxes_of(truth: Tensor) -> list[tuple[int, Box]]:
    """(row, box) of an image's true objects."""
    return [(row, tuple(one[:4])) for row, one in enumerate(truth.tolist()) if one[4] >= 0]


def iou(a: Box, b: Box) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    both = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return width * height / (both - width * height)


def levels_of(where: Positions) -> list[range]:
    ends = torch.tensor(where.level_sizes).cumsum(0).tolist()
    return [range(end - size, end) for end, size in zip(ends, where.level_sizes, strict=True)]


def atss_by_loops(boxes: list[tuple[int, Box]], where: Positions) -> list[int]:
    anchors = [tuple(one) for one in where.anchors_P4.tolist()]
    points = where.points_P2.tolist()
    answer, quality = [-1] * len(anchors), [-1.0] * len(anchors)
    for row, (x1, y1, x2, y2) in boxes:
        centre = (x1 + x2) / 2, (y1 + y2) / 2
        near: list[int] = []
        for level in levels_of(where):
            near += sorted(level, key=lambda p: math.dist(points[p], centre))[:9]
        overlaps = {p: iou((x1, y1, x2, y2), anchors[p]) for p in near}
        least = statistics.mean(overlaps.values()) + statistics.stdev(overlaps.values())
        for p, overlap in overlaps.items():
            x, y = points[p]
            inside = min(x - x1, y - y1, x2 - x, y2 - y) > 0.01
            if overlap >= least and inside and overlap > quality[p]:
                answer[p], quality[p] = row, overlap
    return answer


def max_iou_by_loops(boxes: list[tuple[int, Box]], where: Positions) -> list[int]:
    anchors = [tuple(one) for one in where.anchors_P4.tolist()]
    table = [[iou(box, anchor) for anchor in anchors] for _, box in boxes]
    answer = []
    for p in range(len(anchors)):
        overlap, row = max(
            ((line[p], -row) for (row, _), line in zip(boxes, table, strict=True)), default=(0.0, 0)
        )
        answer.append(-row if overlap >= 0.5 else -2 if overlap >= 0.4 else -1)
    claims: dict[int, tuple[float, int]] = {}
    for (row, _), line in zip(boxes, table, strict=True):
        for p in (p for p, overlap in enumerate(line) if overlap == max(line) > 0):
            if p not in claims or line[p] > claims[p][0]:
                claims[p] = line[p], row
    for p, (_, row) in claims.items():
        answer[p] = row
    return answer


def fcos_by_loops(boxes: list[tuple[int, Box]], where: Positions) -> list[int]:
    answer = []
    points = where.points_P2.tolist()
    ranges = [(-1.0, 64.0), (64.0, 128.0), (128.0, math.inf)]
    for level, stride, (least, most) in zip(levels_of(where), where.strides_L, ranges, strict=True):
        for x, y in (points[p] for p in level):
            best, row = math.inf, -1
            for number, (x1, y1, x2, y2) in boxes:
                middle = (x1 + x2) / 2, (y1 + y2) / 2
                near = max(abs(x - middle[0]), abs(y - middle[1])) < 1.5 * stride
                sides = x - x1, y - y1, x2 - x, y2 - y
                size = (x2 - x1) * (y2 - y1)
                if near and min(sides) > 0 and least <= max(sides) <= most and size < best:
                    best, row = size, number
            answer.append(row)
    return answer


LOOPS = {"atss": atss_by_loops, "max_iou": max_iou_by_loops, "fcos": fcos_by_loops}


@SEEDS
@pytest.mark.parametrize("name", ["gfl", "retinanet", "fcos"])
def test_all_objects_at_once_are_assigned_as_one_by_one(name: str, seed: int) -> None:
    """In float64, the loops' own: a box inside several anchors overlaps them alike but for the last bit."""
    grid = GRIDS[name]
    where, truth = wide(where_of(grid)), random_truth(seed, num_images=3).double()
    got = assign(truth, grid.assigner, where)
    for image, row in zip(truth, got, strict=True):
        assert row.tolist() == LOOPS[grid.assigner](boxes_of(image), where)


@pytest.mark.parametrize("name", ["gfl", "retinanet", "fcos"])
def test_images_taken_in_groups_are_assigned_as_all_at_once(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid, truth = GRIDS[name], random_truth(3, num_images=5)
    whole = assign(truth, grid.assigner, where_of(grid))
    monkeypatch.setattr(module, "_MOST_PAIRS", 1)
    assert torch.equal(assign(truth, grid.assigner, where_of(grid)), whole)
    assert (whole >= 0).any()


@SEEDS
def test_fcos_points_are_those_that_torchvision_matches(seed: int) -> None:
    """It compares strictly where a side is exactly at the end of a level's range: no random box is."""
    grid = GRIDS["fcos"]
    where, truth = where_of(grid), random_truth(seed)
    strides = torch.cat(
        [torch.full((n,), float(s)) for s, n in zip(where.strides_L, where.level_sizes, strict=True)]
    )
    cells = torch.cat([where.points_P2 - strides[:, None] / 2, where.points_P2 + strides[:, None] / 2], dim=1)
    matched: list[list[Tensor]] = []
    head = SimpleNamespace(compute_loss=lambda targets, outputs, anchors, indices: matched.append(indices))
    detector = cast(Any, SimpleNamespace(center_sampling_radius=1.5, head=head))
    targets = [{"boxes": image[image[:, 4] >= 0][:, :4]} for image in truth]
    FCOS.compute_loss(detector, targets, {}, [cells] * len(truth), list(where.level_sizes))
    assert torch.equal(torch.stack(matched[0]), assign(truth, "fcos", where))


@SEEDS
def test_retinanet_anchors_are_those_that_torchvision_matches(seed: int) -> None:
    """But for an anchor that overlaps one object more than any other anchor does, and another object even
    more: there torchvision keeps the other one."""
    grid = GRIDS["retinanet"]
    where, truth = where_of(grid), random_truth(seed)
    matched: list[list[Tensor]] = []
    head = SimpleNamespace(compute_loss=lambda targets, outputs, anchors, indices: matched.append(indices))
    matcher = Matcher(0.5, 0.4, allow_low_quality_matches=True)
    detector = cast(Any, SimpleNamespace(proposal_matcher=matcher, head=head))
    targets = [{"boxes": image[image[:, 4] >= 0][:, :4]} for image in truth]
    RetinaNet.compute_loss(detector, targets, {}, [where.anchors_P4] * len(truth))
    ours = assign(truth, "max_iou", where)
    for image, (theirs_P, ours_P) in enumerate(zip(matched[0], ours, strict=True)):
        assert torch.equal(theirs_P.clamp(max=0), ours_P.clamp(max=0))
        for p in (theirs_P != ours_P).nonzero().flatten().tolist():
            overlaps = {
                row: iou(box, tuple(where.anchors_P4[p].tolist())) for row, box in boxes_of(truth[image])
            }
            assert overlaps[int(theirs_P[p])] > overlaps[int(ours_P[p])]


def test_an_object_as_large_as_an_anchor_is_answered_for_where_it_stands() -> None:
    """A square of 64 pixels around (32, 32) is the anchor of stride 8 there: the level's nine cells around it
    are candidates, and the one in the middle overlaps it wholly."""
    grid = GRIDS["gfl"]
    where = where_of(grid)
    (row,) = assign(truth_BM5([(0.0, 0.0, 64.0, 64.0, 1.0)]), "atss", where)
    positives = {tuple(where.points_P2[p].tolist()) for p in (row == 0).nonzero().flatten().tolist()}
    assert (32.0, 32.0) in positives and all(abs(x - 32) <= 8 and abs(y - 32) <= 8 for x, y in positives)


def test_of_two_objects_the_one_that_overlaps_an_anchor_more_gets_it() -> None:
    """Both are centred on the same cell; 60 pixels a side are nearer to the anchor's 64 than 48 are."""
    grid = GRIDS["gfl"]
    where = where_of(grid)
    small, large = (8.0, 8.0, 56.0, 56.0, 0.0), (2.0, 2.0, 62.0, 62.0, 1.0)
    middle = int((where.points_P2[:96] == 32).all(1).nonzero()[0])
    for order, winner in (((small, large), 1), ((large, small), 0)):
        assert int(assign(truth_BM5(list(order)), "atss", where)[0, middle]) == winner


def test_of_two_objects_around_a_point_fcos_takes_the_smaller() -> None:
    where = where_of(GRIDS["fcos"])
    (row,) = assign(truth_BM5([(2.0, 2.0, 62.0, 62.0, 0.0), (20.0, 20.0, 44.0, 44.0, 1.0)]), "fcos", where)
    middle = int((where.points_P2[:96] == 32).all(1).nonzero()[0])
    assert int(row[middle]) == 1


@pytest.mark.parametrize(("farthest", "level"), [(63.0, 0), (65.0, 1), (127.0, 1), (129.0, 2), (600.0, 2)])
def test_the_level_of_an_object_is_that_of_its_farthest_side(farthest: float, level: int) -> None:
    """Of 64 and 128 pixels: the published ranges of strides 8, 16, 32."""
    grid = DenseGrid(levels=(3, 4, 5), strides=(8, 16, 32), assigner="fcos")
    where = positions(grid, 512, 512)
    box = (256 - farthest, 256 - farthest, 256 + farthest, 256 + farthest, 0.0)
    (row,) = assign(truth_BM5([box]), "fcos", where)
    at_centre = [
        p for p in (row == 0).nonzero().flatten().tolist() if where.points_P2[p].tolist() == [256, 256]
    ]
    assert [sum(p >= levels.start for levels in levels_of(where)) - 1 for p in at_centre] == [level]


def test_between_the_two_thresholds_an_anchor_is_ignored_and_weighs_nothing() -> None:
    grid = GRIDS["retinanet"]
    matched = match(random_truth(1, num_images=4), grid, where_of(grid))
    assert (matched.labels_BP == -2).any()
    assert torch.equal(matched.weights_BP == 0, matched.labels_BP == -2)
    assert set(matched.weights_BP.unique().tolist()) == {0.0, 1.0}


def test_an_object_that_no_anchor_reaches_takes_none() -> None:
    """It overlaps all anchors equally, by nothing."""
    grid = GRIDS["retinanet"]
    far = truth_BM5([(9000.0, 9000.0, 9010.0, 9010.0, 0.0)])
    assert set(assign(far, "max_iou", where_of(grid)).flatten().tolist()) == {-1}


@pytest.mark.parametrize("name", GRIDS)
def test_what_is_matched_is_the_objects_class_box_and_centerness(name: str) -> None:
    grid, truth = GRIDS[name], random_truth(7, num_images=3)
    where = where_of(grid)
    objects, matched = assign(truth, grid.assigner, where), match(truth, grid, where)
    assert matched.level_sizes == where.level_sizes and (objects >= 0).any()
    for image in range(3):
        for p, row in enumerate(objects[image].tolist()):
            label, box = int(matched.labels_BP[image, p]), matched.boxes_BP4[image, p].tolist()
            if row < 0:
                assert (label, box, float(matched.centerness_BP[image, p])) == (row, [0, 0, 0, 0], 0)
                continue
            assert [*box, label] == truth[image, row].tolist()
            x, y = where.points_P2[p].tolist()
            sides = [max(0.0, side) for side in (x - box[0], box[2] - x, y - box[1], box[3] - y)]
            ratios = [min(pair) / max(pair) for pair in (sides[:2], sides[2:])]
            wanted = math.sqrt(ratios[0] * ratios[1])
            assert float(matched.centerness_BP[image, p]) == pytest.approx(wanted, abs=1e-6)
    levels = [bool((objects[:, level.start : level.stop] >= 0).any()) for level in levels_of(where)]
    assert matched.positive_levels.tolist() == levels


@pytest.mark.parametrize("name", GRIDS)
def test_the_number_counts_an_image_without_a_positive_as_one_but_for_fcos(name: str) -> None:
    grid = GRIDS[name]
    empty: list[tuple[float, ...]] = []
    truth = truth_BM5([(10.0, 10.0, 50.0, 50.0, 0.0)], empty, empty)
    matched = match(truth, grid, where_of(grid))
    own = int((matched.labels_BP >= 0).sum())
    assert own > 0 and float(matched.num_positives) == own + (0 if name == "fcos" else 2)


@pytest.mark.parametrize("num_images", [1, 3])
@pytest.mark.parametrize("name", GRIDS)
def test_a_batch_without_any_object_is_background_and_divides_by_one_or_its_images(
    name: str, num_images: int
) -> None:
    for truth in (torch.zeros(num_images, 0, 5), truth_BM5(*[[(0.0, 0.0, 0.0, 0.0, -1.0)]] * num_images)):
        matched = match(truth, GRIDS[name], where_of(GRIDS[name]))
        assert set(matched.labels_BP.flatten().tolist()) == {-1} and not matched.positive_levels.any()
        assert float(matched.num_positives) == (1 if name == "fcos" else num_images)
        assert all(torch.isfinite(part).all() for part in matched if isinstance(part, Tensor))


def test_one_cell_a_level_is_enough_to_be_assigned() -> None:
    """One candidate deviates from itself by 0."""
    grid = DenseGrid(levels=(3,), strides=(32,))
    (row,) = assign(truth_BM5([(-8.0, -8.0, 20.0, 20.0, 2.0)]), "atss", positions(grid, 32, 32))
    assert row.tolist() == [0]
