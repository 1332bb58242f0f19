"""Our own heads on two towers of convolutions: GFL, and ATSS without its bins.

GFL (Li et al. 2020, arXiv 2006.04388): classes with their quality in one score, and per side a distribution
over 0, 1, ... n strides whose expectation is the side. ATSS (Zhang et al. 2020, arXiv 1912.02424): one square
anchor a cell, deltas against it, centerness. Both learn one factor per level.

Axes: B images, K classes, C channels, H W cells.
"""

import math

import torch
from torch import Tensor, nn

from kdcache.cache.grid import BINS, BOX, CLS, CTR, DenseGrid
from kdcache.cache.networks.families.detectors.heads import (
    DenseHead,
    Size,
    at_least_float32,
    sides_of_deltas,
)
from kdcache.cache.positions import anchor_sizes

NUM_BINS = 17  # 0 to 16 strides, as published
NUM_GROUPS = 32  # of a normalisation, as published; fewer in narrow towers
WEIGHT_STD = 0.01
PRIOR = 0.01  # probability of a class before anything is learned: bias -log(99)
DELTA_STDS = (0.1, 0.1, 0.2, 0.2)  # of ATSS's deltas, in its published configuration


class GflHead(DenseHead):
    """`cls`: K logits; `bins`: logits, channel = side * num_bins + bin; `box`: their expectation."""

    def __init__(self, grid: DenseGrid, num_classes: int, width: int, num_convs: int) -> None:
        super().__init__(grid)
        self.cls_tower, self.box_tower = tower(width, num_convs), tower(width, num_convs)
        self.cls = nn.Conv2d(width, num_classes, 3, padding=1)
        self.bins = nn.Conv2d(width, 4 * grid.num_bins, 3, padding=1)
        self.scales_L = nn.Parameter(torch.ones(len(grid.levels)))
        begin(self, self.cls)

    def level(self, map_BCHW: Tensor, index: int, size: Size) -> dict[str, Tensor]:
        del size
        bins_BCHW = self.bins(self.box_tower(map_BCHW)) * self.scales_L[index]
        return {CLS: self.cls(self.cls_tower(map_BCHW)), BOX: expected_sides(bins_BCHW), BINS: bins_BCHW}


class AtssHead(DenseHead):
    """`cls`: K logits, `box`: sides of deltas against a square of eight strides, `ctr`: a logit."""

    def __init__(self, grid: DenseGrid, num_classes: int, width: int, num_convs: int) -> None:
        super().__init__(grid)
        self.cls_tower, self.box_tower = tower(width, num_convs), tower(width, num_convs)
        self.cls = nn.Conv2d(width, num_classes, 3, padding=1)
        self.deltas = nn.Conv2d(width, 4, 3, padding=1)
        self.ctr = nn.Conv2d(width, 1, 3, padding=1)
        self.scales_L = nn.Parameter(torch.ones(len(grid.levels)))
        self.register_buffer("size_12", anchor_sizes(grid, 1), persistent=False)  # in strides
        self.register_buffer("stds_411", torch.tensor(DELTA_STDS)[:, None, None], persistent=False)
        self.size_12: Tensor
        self.stds_411: Tensor
        begin(self, self.cls)

    def level(self, map_BCHW: Tensor, index: int, size: Size) -> dict[str, Tensor]:
        del size
        features_BCHW = self.box_tower(map_BCHW)
        deltas_B4HW = at_least_float32(self.deltas(features_BCHW)) * self.scales_L[index] * self.stds_411
        return {
            CLS: self.cls(self.cls_tower(map_BCHW)),
            BOX: sides_of_deltas(deltas_B4HW, self.size_12),
            CTR: self.ctr(features_BCHW),
        }


def expected_sides(bins_BCHW: Tensor) -> Tensor:
    """(B, 4 * n, H, W) logits to (B, 4, H, W) sides in strides: the expectation of each side's distribution
    over 0 ... n - 1. In float32 at least."""
    num_images, channels, height, width = bins_BCHW.shape
    bins_B4NHW = at_least_float32(bins_BCHW).reshape(num_images, 4, channels // 4, height, width)
    strides_N11 = torch.arange(channels // 4, device=bins_BCHW.device)[:, None, None]
    sides_B4HW: Tensor = (bins_B4NHW.softmax(dim=2) * strides_N11).sum(dim=2)
    return sides_B4HW


def tower(width: int, num_convs: int) -> nn.Sequential:
    """(B, width, H, W) to the same shape: `num_convs` times 3x3 convolution, GroupNorm, ReLU."""
    groups = math.gcd(NUM_GROUPS, width // 2)  # of two channels at least: P7 may have one cell
    layers: list[nn.Module] = []
    for _ in range(num_convs):
        layers += [nn.Conv2d(width, width, 3, padding=1, bias=False), nn.GroupNorm(groups, width), nn.ReLU()]
    return nn.Sequential(*layers)


def begin(head: nn.Module, classes: nn.Conv2d) -> None:
    """Weights N(0, 0.01), biases 0, but for the classes: each has the prior probability at first."""
    for layer in head.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=WEIGHT_STD)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    assert classes.bias is not None
    nn.init.constant_(classes.bias, -math.log((1 - PRIOR) / PRIOR))
