"""The formulas on the shapes of all golden cases, also of those whose files are not here, with drawn values:
against plain loops, in both precisions.
"""

import dense_by_hand as by_hand
import numpy as np
import pytest
import torch
from golden_case import TOLERANCE, relative_error
from torch import Tensor

from kdcache.losses.detection.bckd import box_distance, class_distance, largest_gap
from kdcache.losses.detection.fgd import Level, object_masks
from kdcache.losses.detection.gid import (
    box_response,
    class_response,
    feature_distance,
    relation_distance,
)
from kdcache.losses.detection.ld import mean_divergence
from kdcache.losses.detection.regions import overlap_less_distance, valuable_regions
from kdcache.losses.features.pkd import pearson_distance

BOTH = pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
REGION_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4}


def drawn(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0, scale: float = 1.0) -> Tensor:
    """Of float32 values, so that both precisions see the same numbers."""
    source = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(shape, generator=source)).to(dtype)


def drawn_boxes(count: int, dtype: torch.dtype, seed: int = 0, size: float = 10.0) -> Tensor:
    corner = torch.rand((count, 2), generator=torch.Generator().manual_seed(seed)) * size
    sides = torch.rand((count, 2), generator=torch.Generator().manual_seed(seed + 100)) * size + 0.5
    return torch.cat([corner, corner + sides], 1).to(dtype)


def agree(ours: Tensor, by_loop: object, tolerance: float) -> None:
    assert relative_error(ours.detach().double().numpy(), np.asarray(by_loop, dtype=np.float64)) <= tolerance


@BOTH
@pytest.mark.parametrize("shape", [(12, 8), (1, 80), (6, 5), (5, 4), (40, 5), (24, 4), (32, 3), (1, 1)])
@pytest.mark.parametrize("beta", [1.0, 2.0])
def test_classes_of_bckd(shape: tuple[int, int], beta: float, dtype: torch.dtype) -> None:
    student, teacher = drawn(shape, dtype, scale=4), drawn(shape, dtype, seed=1, scale=4)
    wanted = by_hand.class_distance(student.double(), teacher.double(), beta)
    agree(class_distance(student, teacher, beta=beta), wanted, TOLERANCE[dtype])
    agree(largest_gap(student, teacher), by_hand.largest_gap(student, teacher), TOLERANCE[dtype])


@BOTH
@pytest.mark.parametrize("count", [9, 1, 6, 4])
def test_boxes_of_bckd(count: int, dtype: torch.dtype) -> None:
    ours, theirs = drawn_boxes(count, dtype), drawn_boxes(count, dtype, seed=1)
    far = theirs + 50
    for target in (theirs, far, ours):
        pairs = zip(ours.double().tolist(), target.double().tolist(), strict=True)
        wanted = [1 - by_hand.giou(a, b) for a, b in pairs]
        agree(box_distance(ours, target) + 1, np.array(wanted) + 1, TOLERANCE[dtype])


@BOTH
@pytest.mark.parametrize(
    ("shape", "temperature"),
    [((12, 17), 10.0), ((1, 17), 10.0), ((8, 9), 2.0), ((4, 17), 10.0), ((9, 80), 2.0), ((20, 1), 2.0)],
)
def test_bins_and_classes_of_ld(shape: tuple[int, int], temperature: float, dtype: torch.dtype) -> None:
    student, teacher = drawn(shape, dtype, scale=3), drawn(shape, dtype, seed=1, scale=3)
    wanted = by_hand.mean_divergence(student.double(), teacher.double(), temperature)
    agree(mean_divergence(student, teacher, temperature=temperature), wanted, TOLERANCE[dtype])


@BOTH
@pytest.mark.parametrize("count", [1, 3, 6])
@pytest.mark.parametrize("sizes", [(256, 64, 16), (20, 8, 1), (1,)])
def test_the_region_of_ld(count: int, sizes: tuple[int, ...], dtype: torch.dtype) -> None:
    anchors = drawn_boxes(sum(sizes), dtype, seed=2, size=60)
    objects = drawn_boxes(count, dtype, seed=3, size=60)
    close = [[by_hand.as_coded(a, b) for b in objects.tolist()] for a in anchors.tolist()]
    agree(overlap_less_distance(anchors[:, None], objects), close, REGION_TOLERANCE[dtype])
    wanted = by_hand.regions(anchors.tolist(), objects.tolist(), sizes)
    agree(valuable_regions(anchors, objects, sizes), wanted, REGION_TOLERANCE[dtype])


@BOTH
@pytest.mark.parametrize(
    ("ours", "theirs", "objects", "canvas", "temp"),
    [
        ((2, 8, 8, 12), 8, 3, (64, 96), 0.5),
        ((1, 6, 4, 6), 8, 1, (64, 96), 0.8),
        ((2, 8, 6, 6), 8, 2, (96, 96), 0.5),
        ((2, 8, 6, 6), 8, 0, (96, 96), 0.5),
        ((1, 2, 1, 1), 2, 1, (32, 32), 0.5),
    ],
)
def test_features_of_fgd(
    ours: tuple[int, ...],
    theirs: int,
    objects: int,
    canvas: tuple[int, int],
    temp: float,
    dtype: torch.dtype,
) -> None:
    torch.manual_seed(0)
    level = Level(ours[1], theirs, temp).to(dtype)
    with torch.no_grad():
        level.student_context.last.weight.normal_()
        level.teacher_context.last.bias.normal_()
    student, teacher = drawn(ours, dtype), drawn((ours[0], theirs, *ours[2:]), dtype, seed=1)
    boxes = torch.stack([drawn_boxes(objects, torch.float32, seed=n, size=40) for n in range(ours[0])])
    truth = torch.cat([boxes, torch.zeros(*boxes.shape[:2], 1)], 2)
    aligned = level.align(student)
    terms = level(student, teacher, object_masks(truth, (ours[2], ours[3]), canvas))
    sides = [side.detach().double().numpy() for side in (aligned, teacher)]
    wanted = by_hand.focal_global(*sides, boxes.tolist(), canvas, temp)
    contexts = []
    for features, block in zip(sides, (level.student_context, level.teacher_context), strict=True):
        weights = {name: value.double().numpy() for name, value in block.state_dict().items()}
        contexts.append(np.stack([by_hand.context_block(image, weights) for image in features]))
    relation = ((contexts[0] - contexts[1]) ** 2).sum() / ours[0]
    for value, by_loop in zip(terms, [*wanted.values(), relation], strict=True):
        agree(value, by_loop, TOLERANCE[dtype])


@BOTH
@pytest.mark.parametrize(
    ("rois", "rows", "chosen"),
    [
        ((10, 4, 5, 5), (12, 8), 6),
        ((2, 4, 3, 3), (6, 5), 3),
        ((5, 3, 4, 4), (8, 80), 2),
        ((0, 3, 10, 10), (8, 1), 0),
        ((1, 3, 10, 10), (1, 1), 1),
    ],
)
def test_instances_of_gid(
    rois: tuple[int, ...], rows: tuple[int, int], chosen: int, dtype: torch.dtype
) -> None:
    ours, theirs = drawn(rois, dtype), drawn(rois, dtype, seed=1)
    wide = [side.double().numpy() for side in (ours, theirs)]
    feature = ((wide[0] - wide[1]) ** 2).sum() / max(rois[0] * rois[2] * rois[3], 1)
    agree(feature_distance(ours, theirs), feature, TOLERANCE[dtype])
    agree(relation_distance(ours, theirs), by_hand.relation(*wide), TOLERANCE[dtype])
    student, teacher = drawn(rows, dtype, seed=2)[:chosen], drawn(rows, dtype, seed=3)[:chosen]
    pairs = zip(student.flatten().tolist(), teacher.flatten().tolist(), strict=True)
    cls = sum(by_hand.bce(s, by_hand.sigmoid(t)) for s, t in pairs)
    agree(class_response(student, teacher), cls, TOLERANCE[dtype])
    apart = np.abs(student.double().numpy() - teacher.double().numpy()).sum()
    agree(box_response(student, teacher), apart, TOLERANCE[dtype])


@BOTH
@pytest.mark.parametrize("shape", [(2, 5, 6, 7), (1, 4, 3, 3), (2, 4, 4, 4), (1, 2, 1, 3)])
def test_patterns_of_pkd(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    ours, theirs = drawn(shape, dtype), drawn(shape, dtype, seed=1)
    wanted = by_hand.pearson(ours.double().numpy(), theirs.double().numpy())
    agree(pearson_distance(ours, theirs), wanted, TOLERANCE[dtype])
