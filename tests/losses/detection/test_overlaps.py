"""Overlaps of boxes against areas by hand and against torchvision's."""

import dense_by_hand as by_hand
import pytest
import torch
from torchvision.ops import box_iou, generalized_box_iou

from kdcache.losses.detection.boxes import area, centres, paired_giou, paired_iou

UNIT = torch.tensor([0.0, 0.0, 2.0, 2.0])
CASES = [  # box, IoU with the box from 0 to 2, GIoU
    ((1, 1, 3, 3), 1 / 7, 1 / 7 - 2 / 9),
    ((0, 0, 2, 2), 1.0, 1.0),
    ((2, 0, 4, 2), 0.0, 0.0),
    ((4, 0, 6, 2), 0.0, -4 / 12),
    ((0, 0, 1, 1), 1 / 4, 1 / 4),
    ((1, 1, 1, 1), 0.0, 0.0),
]


@pytest.mark.parametrize(("box", "iou", "giou"), CASES)
def test_overlaps_are_those_of_the_areas(box: tuple[float, ...], iou: float, giou: float) -> None:
    other = torch.tensor(box, dtype=torch.float32)
    assert paired_iou(UNIT, other).item() == pytest.approx(iou, abs=1e-6)
    assert paired_giou(UNIT, other).item() == pytest.approx(giou, abs=1e-6)


def test_pairs_of_all_with_all_are_those_of_torchvision() -> None:
    source = torch.Generator().manual_seed(0)
    corner = torch.rand(20, 2, generator=source) * 20
    boxes = torch.cat([corner, corner + 1 + torch.rand(20, 2, generator=source) * 20], 1)
    a, b = boxes[:12], boxes[12:]
    torch.testing.assert_close(paired_iou(a[:, None], b), box_iou(a, b))
    torch.testing.assert_close(paired_giou(a[:, None], b), generalized_box_iou(a, b))
    assert paired_giou(a[0], b[0]).item() == pytest.approx(
        by_hand.giou(a[0].tolist(), b[0].tolist()), rel=1e-5
    )


def test_boxes_without_area_have_a_finite_overlap_and_slope() -> None:
    a = torch.tensor([[1.0, 1.0, 1.0, 1.0], [3.0, 3.0, 2.0, 2.0]], requires_grad=True)
    value = paired_giou(a, torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]]))
    value.sum().backward()
    assert value.isfinite().all() and a.grad is not None and a.grad.isfinite().all()


def test_boxes_that_do_not_meet_still_pull_at_each_other() -> None:
    apart = torch.tensor([10.0, 10.0, 12.0, 12.0], requires_grad=True)
    paired_giou(apart, UNIT).backward()
    assert apart.grad is not None and (apart.grad[:2] < 0).all()


@pytest.mark.parametrize("kind", [paired_iou, paired_giou])
def test_the_gradient_is_the_slope(kind: object) -> None:
    a = torch.tensor([[1.0, 1, 4, 5], [8, 8, 9, 11]], dtype=torch.float64, requires_grad=True)
    b = torch.tensor([[2.0, 0.5, 6, 4], [1, 1, 3, 2]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda one: kind(one, b), a)  # type: ignore[operator]


def test_area_and_centre() -> None:
    box = torch.tensor([[1.0, 2.0, 4.0, 10.0]])
    assert area(box).item() == 24 and centres(box).tolist() == [[2.5, 6.0]]
