"""Maps to detections against torchvision's own postprocessing; each number of the rule by a small case."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOS
from torchvision.models.detection.retinanet import RetinaNet

from kdcache.cache.grid import DenseGrid
from kdcache.cache.networks.families.detectors.assemble import GRIDS
from kdcache.cache.networks.families.detectors.decode import Detections, decode
from kdcache.cache.networks.families.detectors.heads import sides_of_deltas
from kdcache.cache.positions import anchor_sizes, anchors, level_rows

SIZE = (128, 256)
CLASSES = 4


class NoBackbone(torch.nn.Module):
    out_channels = 256


def noise(
    grid: DenseGrid, kind: str, channels: int, seed: int, scale: float, shift: float
) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        tap: torch.randn(2, channels, *cells, generator=generator) * scale + shift
        for tap, cells in zip(grid.groups[kind], grid.cells(*SIZE), strict=True)
    }


def rows(grid: DenseGrid, maps: Mapping[str, Tensor], kind: str) -> list[Tensor]:
    return [level_rows(maps[tap], grid.anchors_per_cell) for tap in grid.groups[kind]]


def test_retinanet_detects_what_torchvisions_postprocessing_detects() -> None:
    grid = GRIDS["retinanet"]
    maps = noise(grid, "cls", 9 * CLASSES, 0, 1.5, -3.5)
    deltas = noise(grid, "box", 36, 1, 0.3, 0.0)
    sides = {tap: sides_of_deltas(value, anchor_sizes(grid, 1)) for tap, value in deltas.items()}
    answers = decode({**maps, **sides}, grid, CLASSES, SIZE)
    theirs = RetinaNet(NoBackbone(), CLASSES, topk_candidates=1000, detections_per_img=100)
    level_anchors = anchors(grid, *SIZE)
    expected = theirs.postprocess_detections(
        {"cls_logits": rows(grid, maps, "cls"), "bbox_regression": rows(grid, deltas, "box")},
        [level_anchors, level_anchors],
        [SIZE, SIZE],
    )
    compare(answers, expected)


def test_fcos_detects_what_torchvisions_postprocessing_detects() -> None:
    grid = GRIDS["fcos"]
    maps = noise(grid, "cls", CLASSES, 0, 2.0, -2.0)
    maps |= noise(grid, "box", 4, 1, 2.0, 3.0) | noise(grid, "ctr", 1, 2, 1.0, 0.0)
    answers = decode(maps, grid, CLASSES, SIZE)
    sizes = AnchorGenerator(((8,), (16,), (32,), (64,), (128,)), ((1.0,),) * 5)
    theirs = FCOS(NoBackbone(), CLASSES, anchor_generator=sizes, score_thresh=0.05, nms_thresh=0.5)
    theirs.detections_per_img = 100
    points = sizes.grid_anchors(
        [list(cells) for cells in grid.cells(*SIZE)],
        [[torch.tensor(s), torch.tensor(s)] for s in grid.strides],
    )
    expected = theirs.postprocess_detections(
        {
            "cls_logits": rows(grid, maps, "cls"),
            "bbox_regression": rows(grid, maps, "box"),
            "bbox_ctrness": rows(grid, maps, "ctr"),
        },
        [points, points],
        [SIZE, SIZE],
    )
    compare(answers, expected)


def compare(answers: list[Detections], expected: list[dict[str, Tensor]]) -> None:
    for own, theirs in zip(answers, expected, strict=True):
        assert 20 < len(own.scores_N) <= 100
        assert torch.equal(own.scores_N, theirs["scores"]) and torch.equal(own.classes_N, theirs["labels"])
        assert torch.allclose(own.boxes_N4, theirs["boxes"], atol=1e-3)


GRID = DenseGrid(levels=(3,), strides=(8,))


def scene(
    placed: list[tuple[int, int, float, tuple[float, float, float, float]]],
    grid: DenseGrid = GRID,
    num_classes: int = 2,
    cells: tuple[int, int] = (8, 16),
) -> dict[str, Tensor]:
    """Maps with nothing but these: (cell, class, score, (x1, y1, x2, y2))."""
    maps = {"cls3": torch.full((1, num_classes, *cells), -20.0), "box3": torch.zeros(1, 4, *cells)}
    for cell, class_, score, (x1, y1, x2, y2) in placed:
        row, column = divmod(cell, cells[1])
        maps["cls3"][0, class_, row, column] = torch.logit(torch.tensor(score))
        sides = (column * 8 - x1, row * 8 - y1, x2 - column * 8, y2 - row * 8)
        maps["box3"][0, :, row, column] = torch.tensor(sides) / 8
    return maps


def test_a_box_comes_back_in_pixels_clipped_to_the_canvas() -> None:
    maps = scene([(18, 1, 0.75, (-9.0, 4.0, 60.0, 200.0))])
    (seen,) = decode(maps, GRID, 2, (64, 128))
    assert seen.boxes_N4.tolist() == [pytest.approx([0.0, 4.0, 60.0, 64.0])]
    assert seen.scores_N.tolist() == pytest.approx([0.75]) and seen.classes_N.tolist() == [1]


def test_scores_up_to_a_twentieth_are_nothing() -> None:
    boxes = (0.0, 0.0, 8.0, 8.0), (40.0, 40.0, 60.0, 60.0)
    (seen,) = decode(scene([(0, 0, 0.0499, boxes[0]), (90, 0, 0.0501, boxes[1])]), GRID, 2, (64, 128))
    assert len(seen.scores_N) == 1 and float(seen.scores_N) > 0.05
    (none,) = decode(scene([]), GRID, 2, (64, 128))
    assert none.boxes_N4.shape == (0, 4) and none.scores_N.shape == none.classes_N.shape == (0,)


@pytest.mark.parametrize(("num_bins", "kept"), [(0, 1), (17, 2)])
def test_boxes_that_overlap_by_more_than_the_heads_rule_are_one(num_bins: int, kept: int) -> None:
    grid = DenseGrid(levels=(3,), strides=(8,), num_bins=num_bins)
    # Intersection 70 of union 128 columns: 0.547.
    maps = scene([(20, 0, 0.9, (0.0, 0.0, 99.0, 50.0)), (21, 0, 0.8, (29.0, 0.0, 128.0, 50.0))])
    (seen,) = decode(maps, grid, 2, (64, 128))
    assert len(seen.scores_N) == kept


def test_another_class_suppresses_nothing() -> None:
    same = (0.0, 0.0, 40.0, 40.0)
    (seen,) = decode(scene([(0, 0, 0.9, same), (1, 1, 0.8, same), (2, 0, 0.7, same)]), GRID, 2, (64, 128))
    assert list(zip(seen.classes_N.tolist(), seen.scores_N.tolist(), strict=True)) == [
        (0, pytest.approx(0.9)),
        (1, pytest.approx(0.8)),
    ]


def test_a_hundred_detections_an_image_and_a_thousand_candidates_a_level_stay() -> None:
    cells = (40, 40)
    corners = [(n % 40 * 8.0, n // 40 * 8.0) for n in range(1600)]
    apart = [(n, 0, 0.3 + n / 4000, (x, y, x + 4, y + 4)) for n, (x, y) in enumerate(corners)]
    (seen,) = decode(scene(apart, cells=cells), GRID, 2, (320, 320))
    assert seen.scores_N.tolist() == pytest.approx([0.3 + n / 4000 for n in range(1599, 1499, -1)])
    # The best thousand are all of one place and class; behind them, candidate 1001 is never asked.
    heap = [(n, 0, 0.9, (0.0, 0.0, 300.0, 300.0)) for n in range(1000)]
    late = [(1000, 0, 0.5, (300.0, 300.0, 320.0, 320.0))]
    (seen,) = decode(scene([*heap, *late], cells=cells), GRID, 2, (320, 320))
    assert len(seen.scores_N) == 1
    (seen,) = decode(scene([*heap[1:], *late], cells=cells), GRID, 2, (320, 320))
    assert len(seen.scores_N) == 2


def test_nothing_but_nan_detects_nothing() -> None:
    maps = {name: torch.full_like(value, torch.nan) for name, value in scene([]).items()}
    (seen,) = decode(maps, GRID, 2, (64, 128))
    assert seen.boxes_N4.shape == (0, 4)


def test_half_precision_maps_are_decoded_in_float32() -> None:
    maps = scene([(18, 1, 0.75, (3.0, 4.0, 60.0, 50.0))])
    (seen,) = decode({name: value.half() for name, value in maps.items()}, GRID, 2, (64, 128))
    assert seen.boxes_N4.dtype == seen.scores_N.dtype == torch.float32
    assert seen.boxes_N4.tolist() == [pytest.approx([3.0, 4.0, 60.0, 50.0], abs=0.05)]
