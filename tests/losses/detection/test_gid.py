"""GID: which instances are chosen, what is cut out and compared there, against loops and torchvision."""

from collections.abc import Mapping
from dataclasses import replace

import dense_by_hand as by_hand
import numpy as np
import pytest
import torch
import torchvision
from dense_inputs import CANVAS, FCOS, GFL, GRIDS, RETINANET, Scene, dense_set, scene
from torch import Tensor

from kdcache.cache.grid import DenseGrid
from kdcache.cache.positions import anchors, boxes_at, level_rows, points
from kdcache.losses.detection.gid import GeneralInstances, deltas_of
from kdcache.losses.detection.rois import Instances, greedy_suppression, levels_for, roi_align
from kdcache.losses.loss_set import LossSet


def drawn_boxes(count: int, size: float, seed: int = 0) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=source) * size - size / 10
    return torch.cat([corner, corner + 2 + torch.rand(count, 2, generator=source) * size / 2], 1)


def term_of(losses: LossSet) -> GeneralInstances:
    term = losses.terms["gid"]
    assert isinstance(term, GeneralInstances)
    return term


@pytest.mark.parametrize("stride", [4, 8])
def test_a_cut_is_that_of_torchvision_also_over_the_border(stride: int) -> None:
    features = torch.randn(3, 5, 12, 10, generator=torch.Generator().manual_seed(0))
    boxes, images = drawn_boxes(20, 12 * stride), torch.arange(20) % 3
    ours = roi_align(features, Instances(boxes, images), stride=stride, bins=7)
    rois = torch.cat([images[:, None].float(), boxes], 1)
    wanted = torchvision.ops.roi_align(features, rois, 7, 1 / stride, sampling_ratio=2, aligned=True)
    torch.testing.assert_close(ours, wanted)


def test_the_gradient_of_a_cut_is_its_slope() -> None:
    source = torch.Generator().manual_seed(0)
    features = torch.randn(2, 2, 4, 5, generator=source, dtype=torch.float64).requires_grad_()
    instances = Instances(drawn_boxes(3, 30).double(), torch.tensor([0, 1, 1]))
    assert torch.autograd.gradcheck(lambda m: roi_align(m, instances, stride=8, bins=3), features)


def test_no_instance_is_cut_from_a_map_without_an_error() -> None:
    empty = Instances(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    assert roi_align(torch.randn(2, 3, 4, 5), empty, stride=8, bins=10).shape == (0, 3, 10, 10)


def test_suppression_keeps_what_torchvision_keeps() -> None:
    boxes = torch.stack([drawn_boxes(60, 40, seed) for seed in range(3)])
    scores = torch.arange(60, 0, -1).float()
    chosen, there = greedy_suppression(boxes, torch.ones(3, 60, dtype=torch.bool), overlap=0.3, most=10)
    for image in range(3):
        kept = torchvision.ops.nms(boxes[image], scores, 0.3)[:10]
        assert torch.equal(chosen[image][there[image]], boxes[image][kept])


def test_what_is_not_usable_neither_stays_nor_suppresses() -> None:
    box = torch.tensor([0.0, 0.0, 10.0, 10.0])
    boxes = torch.stack([box, box + 1, box + 100])[None]
    chosen, there = greedy_suppression(boxes, torch.tensor([[False, True, True]]), overlap=0.3, most=3)
    assert there.tolist() == [[True, True, False]]
    assert torch.equal(chosen[0, :2], boxes[0, 1:])


@pytest.mark.parametrize(("side", "stride"), [(20, 8), (111, 8), (113, 8), (224, 16), (448, 32), (5000, 32)])
def test_larger_instances_are_cut_from_coarser_maps(side: float, stride: int) -> None:
    """As detectron2: 224 pixels from stride 16, half of it and less from stride 8, within the pyramid."""
    index = levels_for(torch.tensor([[0.0, 0.0, side, side]]), (8, 16, 32))
    assert (8, 16, 32)[int(index)] == stride


def test_the_first_map_may_have_another_stride() -> None:
    boxes = torch.tensor([[0.0, 0.0, 230.0, 230.0], [0.0, 0.0, 60.0, 60.0]])
    assert levels_for(boxes, (4, 8, 16)).tolist() == [2, 0]
    assert levels_for(torch.zeros(1, 4), (8, 16)).tolist() == [0]


def test_deltas_are_shifts_in_sides_of_the_anchor_and_logarithms_of_ratios() -> None:
    anchor, box = torch.tensor([[0.0, 0.0, 10.0, 20.0]]), torch.tensor([[2.0, 5.0, 22.0, 15.0]])
    wanted = torch.tensor([[0.7, 0.0, np.log(2), np.log(0.5)]], dtype=torch.float32)
    torch.testing.assert_close(deltas_of(box, anchor), wanted)
    turned = torch.tensor([[5.0, 5.0, 1.0, 1.0]])
    assert deltas_of(turned, anchor).isfinite().all()


def chosen_by_loop(given: Scene, grid: DenseGrid) -> list[list[list[float]]]:
    """Instances of each image: gap by gap, the box of the more certain side, suppressed one by one."""
    height, width = CANVAS
    ours, theirs = (
        {kind: [level_rows(side[tap].detach(), grid.anchors_per_cell) for tap in grid.groups[kind]]
         for kind in ("cls", "box")}
        for side in (given.inputs.student, given.inputs.teacher)
    )  # fmt: skip
    instances = []
    for image in range(len(given.inputs.truth)):
        listed: list[tuple[float, list[float]]] = []
        for level, (xy, stride) in enumerate(zip(points(grid, *CANVAS), grid.strides, strict=True)):
            for p in range(len(xy)):
                best = [
                    max(by_hand.sigmoid(float(z)) for z in side["cls"][level][image, p])
                    for side in (ours, theirs)
                ]
                side = theirs if best[1] > best[0] else ours
                box = boxes_at(xy[p], side["box"][level][image, p], stride).tolist()
                box = [min(max(v, 0), limit) for v, limit in zip(box, (width, height) * 2, strict=True)]
                if box[2] - box[0] >= 10 and box[3] - box[1] >= 10:
                    listed.append((abs(best[1] - best[0]), box))
        kept: list[list[float]] = []
        for _, box in sorted(listed, key=lambda one: -one[0]):
            if len(kept) < 10 and all(by_hand.iou(box, other) <= 0.3 for other in kept):
                kept.append(box)
        instances.append(kept)
    return instances


@pytest.mark.parametrize("detector", ["gfl", "retinanet"])
def test_instances_are_where_the_scores_are_furthest_apart(detector: str) -> None:
    grid = GRIDS[detector]
    given = scene(grid)
    term = term_of(dense_set("gid", given.maps))
    student, teacher = term._answers(given.inputs.student, 0), term._answers(given.inputs.teacher, 1)
    boxes, there = term.select(student, teacher)
    wanted = chosen_by_loop(given, grid)
    for image, listed in enumerate(wanted):
        torch.testing.assert_close(
            boxes[image][there[image]], torch.tensor(listed, dtype=boxes.dtype), rtol=1e-5, atol=1e-4
        )
    assert max(map(len, wanted)) > 3


def test_anchors_answer_for_an_instance_with_enough_overlap_and_each_has_its_best() -> None:
    term = term_of(dense_set("gid", scene(RETINANET).maps))
    boxes = torch.tensor([[[8.0, 8.0, 40.0, 40.0], [60.0, 0.0, 71.0, 60.0], [0.0, 0.0, 9.0, 9.0]]])
    chosen = term.anchors_of(boxes, torch.tensor([[True, True, False]]))[0].tolist()
    overlaps = [
        [by_hand.iou(anchor, box) for box in boxes[0, :2].tolist()]
        for anchor in torch.cat(anchors(RETINANET, *CANVAS)).tolist()
    ]
    best = [max(row[n] for row in overlaps) for n in range(2)]
    wanted = [
        max(row) >= 0.5 or any(v == pytest.approx(b, abs=1e-9) for v, b in zip(row, best, strict=True))
        for row in overlaps
    ]
    assert chosen == wanted and 1 < sum(wanted) < 100


def cut_by_torchvision(
    maps: Mapping[str, Tensor], grid: DenseGrid, boxes: Tensor, there: Tensor
) -> np.ndarray:
    """(R, C, 10, 10): each instance from the map of its level."""
    cuts = []
    for image in range(len(boxes)):
        for box in boxes[image][there[image]]:
            level = int(levels_for(box[None], grid.strides))
            tap, stride = grid.groups["fpn"][level], grid.strides[level]
            rois = torch.cat([torch.tensor([float(image)]), box])[None].double()
            options = {"sampling_ratio": 2, "aligned": True}
            cuts.append(torchvision.ops.roi_align(maps[tap].detach(), rois, 10, 1 / stride, **options))
    return torch.cat(cuts).numpy()


def regressed(sides: Tensor, grid: DenseGrid) -> Tensor:
    """(B, P, 4): what a head regresses, from the sides that it answers."""
    if grid.num_bins or grid.assigner == "fcos":
        return sides
    places = points(grid, *CANVAS)
    strides = torch.cat(
        [torch.full((len(xy), 1), float(s)) for xy, s in zip(places, grid.strides, strict=True)]
    )
    xy = torch.cat(places)
    pixels = torch.cat([xy - sides[..., :2] * strides, xy + sides[..., 2:] * strides], -1)
    return deltas_of(pixels, torch.cat(anchors(grid, *CANVAS)))


@pytest.mark.parametrize("detector", GRIDS)
def test_the_terms_are_those_of_the_chosen_instances(detector: str) -> None:
    grid = GRIDS[detector]
    given = scene(grid)
    losses = dense_set("gid", given.maps)
    term = term_of(losses)
    values = {k: v.item() for k, v in losses(given.inputs).unweighted.items()}
    student, teacher = term._answers(given.inputs.student, 0), term._answers(given.inputs.teacher, 1)
    boxes, there = term.select(student, teacher)
    ours, theirs = (
        cut_by_torchvision(maps, grid, boxes, there) for maps in (given.inputs.student, given.inputs.teacher)
    )
    mask = term.anchors_of(boxes, there)
    cls = [torch.cat(side.cls, 1).detach()[mask].flatten().tolist() for side in (student, teacher)]
    summed = sum(by_hand.bce(s, by_hand.sigmoid(t)) for s, t in zip(*cls, strict=True))
    boxes_of = [regressed(torch.cat(side.box, 1).detach(), grid) for side in (student, teacher)]
    apart = (boxes_of[0] - boxes_of[1])[mask].abs().sum().item()
    wanted = {
        "gid.feature": ((ours - theirs) ** 2).sum() / (len(ours) * 100),
        "gid.relation": by_hand.relation(ours, theirs),
        "gid.cls": summed / int(mask.sum()),
        "gid.box": apart / int(mask.sum()),
    }
    assert values == pytest.approx(wanted, rel=1e-5)


def test_every_term_enters_with_its_weight() -> None:
    given = scene()
    values = dense_set("gid(feature=2,relation=3,cls=5,box=7)", given.maps)(given.inputs)
    bare = {name.removeprefix("gid."): value.item() for name, value in values.unweighted.items()}
    wanted = 2 * bare["feature"] + 3 * bare["relation"] + 5 * bare["cls"] + 7 * bare["box"]
    assert values.total.item() == pytest.approx(wanted)


def test_one_or_two_instances_have_no_relation_and_none_costs_nothing() -> None:
    given = scene()
    values = dense_set("gid(instances=1)", given.maps)(given.inputs).unweighted
    assert values["gid.relation"].item() == 0 and values["gid.feature"].item() > 0
    single = scene(objects=((),))
    values = dense_set("gid(instances=1)", single.maps)(single.inputs).unweighted
    assert values["gid.relation"].item() == 0 and values["gid.feature"].item() > 0
    tiny = {
        tap: torch.zeros_like(v) + (0 if tap.startswith("box") else v)
        for tap, v in given.inputs.student.items()
    }
    small = given.inputs._replace(
        student={tap: v.detach().requires_grad_() for tap, v in tiny.items()},
        teacher={tap: v.detach() for tap, v in tiny.items()},
    )
    losses = dense_set("gid", given.maps)
    values = losses(small)
    values.total.backward()
    assert values.total.item() == 0
    assert all(v.grad is None or not v.grad.any() for v in small.student.values())


def test_the_boxes_of_the_instances_have_no_gradient_and_the_cut_features_have() -> None:
    given = scene()
    dense_set("gid(cls=0,box=0)", given.maps)(given.inputs).total.backward()
    for tap, value in given.inputs.student.items():
        reached = value.grad is not None and bool(value.grad.any())
        assert not (reached and not tap.startswith("p")), tap
    slopes = [given.inputs.student[tap].grad for tap in GFL.groups["fpn"]]
    assert any(slope is not None and slope.any() for slope in slopes)


def test_other_channels_are_aligned_level_by_level() -> None:
    given = scene(channels=(6, 8))
    losses = dense_set("gid", given.maps)
    assert [name for name, _ in losses.named_parameters() if name.endswith("weight")] == [
        f"terms.gid.align.{level}.weight" for level in range(3)
    ]
    assert losses(given.inputs).total.isfinite()


def test_scores_that_mean_another_thing_are_told() -> None:
    assert len(dense_set("gid", scene(FCOS, replace(FCOS, score="sigmoid")).maps).notes) == 1
