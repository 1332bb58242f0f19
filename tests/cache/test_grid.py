"""The grid of a dense detector: cells of any canvas, points, anchors, rows of maps, sides in strides."""

import pytest
import torch

from kdcache.cache.grid import DenseGrid, tap_of
from kdcache.cache.positions import anchor_sizes, anchors, boxes_at, level_rows, points, sides_of

GRID = DenseGrid(levels=(3, 4), strides=(8, 16), num_bins=17)
NINE = DenseGrid(levels=(3,), strides=(8,), anchors_per_cell=9, assigner="max_iou")


def test_taps_are_named_by_kind_and_level() -> None:
    assert GRID.groups == {
        "fpn": ("p3", "p4"),
        "cls": ("cls3", "cls4"),
        "box": ("box3", "box4"),
        "bins": ("bins3", "bins4"),
    }
    assert tap_of("fpn", 7) == "p7"
    assert "bins" not in NINE.groups and "ctr" not in NINE.groups
    assert DenseGrid(levels=(3,), strides=(8,), score="sigmoid*ctr").groups["ctr"] == ("ctr3",)


def test_points_run_row_by_row_and_stand_at_multiples_of_the_stride() -> None:
    first, second = points(GRID, 20, 40)
    assert GRID.cells(20, 40) == [(3, 5), (2, 3)]
    assert first[:7].tolist() == [[0, 0], [8, 0], [16, 0], [24, 0], [32, 0], [0, 8], [8, 8]]
    assert second[-1].tolist() == [32, 16]


def test_anchors_of_a_cell_follow_each_other_and_are_centred_on_its_point() -> None:
    (boxes,) = anchors(NINE, 16, 16)
    assert boxes.shape == (4 * 9, 4)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    assert torch.allclose(centres[9:18], torch.tensor([[8.0, 0.0]]).expand(9, 2), atol=1e-5)
    sizes = anchor_sizes(NINE, 8)
    assert torch.allclose(sizes[3], torch.tensor([32.0, 32.0]))  # ratio 1, the first scale: four strides
    areas = sizes.prod(1).reshape(3, 3)
    assert torch.allclose(areas[:, 1] / areas[:, 0], torch.full((3,), 2 ** (2 / 3)))
    assert torch.allclose(sizes[:, 1] / sizes[:, 0], torch.tensor([0.5, 1.0, 2.0]).repeat_interleave(3))
    (square,) = anchors(DenseGrid(levels=(3,), strides=(8,)), 8, 8)
    assert square.tolist() == [[-32, -32, 32, 32]]


def test_rows_of_a_map_are_positions_and_channels_of_an_anchor() -> None:
    map_BCHW = torch.arange(2 * 6 * 2 * 3).reshape(2, 6, 2, 3)
    rows = level_rows(map_BCHW, 3)
    assert rows.shape == (2, 2 * 3 * 3, 2)
    # cell (1, 2) is the sixth, its anchor 1 has channels 2 and 3
    assert torch.equal(rows[1, 5 * 3 + 1], map_BCHW[1, 2:4, 1, 2])


def test_sides_and_boxes_are_inverses() -> None:
    point = torch.tensor([[16.0, 8.0]])
    box = torch.tensor([[10.0, 9.0, 40.0, 24.0]])  # begins below the point
    sides = sides_of(point, box, 8)
    assert sides.tolist() == [[0.75, -0.125, 3.0, 2.0]]
    assert torch.equal(boxes_at(point, sides, 8), box)


def test_a_grid_survives_its_record_and_nothing_else_is_one() -> None:
    assert DenseGrid.from_dict(GRID.to_dict()) == GRID
    for broken in ({}, {**GRID.to_dict(), "strides": [8]}, {**GRID.to_dict(), "levels": [3, "4"]}):
        with pytest.raises((KeyError, TypeError, ValueError)):
            DenseGrid.from_dict(broken)
