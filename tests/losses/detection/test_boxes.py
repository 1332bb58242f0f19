"""Overlaps and the coding of boxes, with torchvision's and with closed forms."""

import pytest
import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import box_iou, generalized_box_iou

from kdcache.losses.detection.boxes import centerness, encode, paired_giou, paired_iou

BOTH = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)


def boxes(count: int, dtype: torch.dtype, seed: int) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, generator=draws, dtype=torch.float64) * 60
    sides = 1 + torch.rand(count, 2, generator=draws, dtype=torch.float64) * 40
    return torch.cat([corners, corners + sides], dim=1).to(dtype)


@BOTH
def test_overlaps_are_those_of_torchvision_in_either_precision(dtype: torch.dtype) -> None:
    some, others = boxes(40, dtype, 0), boxes(30, dtype, 1)
    pairs = paired_iou(some[:, None], others)
    assert pairs.dtype == dtype
    torch.testing.assert_close(pairs, box_iou(some, others))
    torch.testing.assert_close(paired_giou(some[:, None], others), generalized_box_iou(some, others))


def test_boxes_apart_have_a_gradient_that_brings_them_together() -> None:
    """Two unit squares with one unit between them: I = 0, U = 2, E = 3, GIoU = -1/3."""
    left = torch.tensor([[0.0, 0.0, 1.0, 1.0]], dtype=torch.float64, requires_grad=True)
    right = torch.tensor([[2.0, 0.0, 3.0, 1.0]], dtype=torch.float64)
    value = paired_giou(left, right)
    assert float(value.detach()) == pytest.approx(-1 / 3)
    (slope,) = torch.autograd.grad(value.sum(), left)
    assert slope[0, 2] > 0, "the right edge wants to go right"


@pytest.mark.parametrize("function", [paired_iou, paired_giou])
def test_boxes_without_an_area_are_finite_with_a_finite_gradient(function: object) -> None:
    assert callable(function)
    flat = torch.tensor(
        [[3.0, 3.0, 3.0, 3.0], [1.0, 2.0, 1.0, 5.0], [5.0, 5.0, 4.0, 4.0]], requires_grad=True
    )
    value = function(flat, flat.detach().clone())
    (slope,) = torch.autograd.grad(value.sum(), flat)
    assert torch.isfinite(value).all() and torch.isfinite(slope).all()


@BOTH
def test_deltas_are_those_of_torchvision_without_its_weights(dtype: torch.dtype) -> None:
    some, anchors = boxes(20, dtype, 2), boxes(20, dtype, 3)
    coder = BoxCoder(weights=(1.0, 1.0, 1.0, 1.0))
    torch.testing.assert_close(encode(some, anchors), coder.encode_single(some, anchors))
    torch.testing.assert_close(coder.decode_single(encode(some, anchors), anchors), some)


def test_a_box_without_a_side_has_finite_deltas() -> None:
    flat = torch.tensor([[3.0, 3.0, 3.0, 9.0]], requires_grad=True)
    value = encode(flat, torch.tensor([[0.0, 0.0, 4.0, 4.0]]))
    (slope,) = torch.autograd.grad(value.sum(), flat)
    assert torch.isfinite(value).all() and torch.isfinite(slope).all()


def test_centerness_is_one_at_the_centre_and_nothing_on_the_edge_or_outside() -> None:
    """Left 1, top 2, right 3, bottom 8: sqrt(1/3 * 2/8)."""
    sides = [[5, 5, 5, 5], [1, 2, 3, 8], [0, 5, 9, 5], [-1, 5, 9, 5], [0, 0, 0, 0]]
    assert centerness(torch.tensor(sides).double()).tolist() == pytest.approx(
        [1.0, (1 / 12) ** 0.5, 0.0, 0.0, 0.0]
    )
