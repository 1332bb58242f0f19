"""The supervised loss of segmentation: what a pixel counts."""

import pytest
import torch

from kdcache.losses.supervised.segmentation import segmentation_ce


def test_ignored_pixels_do_not_weigh_in_the_mean() -> None:
    logits = torch.zeros(1, 4, 2, 2)
    labels = torch.tensor([[[0, 255], [255, 255]]])
    assert segmentation_ce(logits, labels).item() == pytest.approx(1.3862944)  # log 4, from one pixel of four
