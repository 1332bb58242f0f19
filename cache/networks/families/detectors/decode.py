"""Maps to detections: one function for evaluation, `peek` and pictures.

As torchvision's and mmdet's dense detectors do: per image and level the positions and classes with a score
above 0.05, of them the best 1,000; boxes clipped to the canvas; of all levels together the overlapping boxes
of one class suppressed (at 0.6 where the boxes come from bins, 0.5 otherwise); the best 100 stay.

Axes: B images, P positions of a level, K classes, N detections of an image.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import batched_nms, clip_boxes_to_image

from kdcache.cache.grid import BOX, CLS, CTR, SIGMOID_CTR, DenseGrid, tap_of
from kdcache.cache.positions import boxes_at, level_rows, points

MIN_SCORE = 0.05
MOST_PER_LEVEL = 1000
MOST_PER_IMAGE = 100
OVERLAP = 0.5  # intersection over union above which the weaker box goes
OVERLAP_OF_BINS = 0.6


class Detections(NamedTuple):
    """Of one image, the best first."""

    boxes_N4: Tensor  # float32 x1 y1 x2 y2 in pixels of the canvas
    scores_N: Tensor  # float32
    classes_N: Tensor  # int64


@torch.no_grad()
def decode(
    maps: Mapping[str, Tensor], grid: DenseGrid, num_classes: int, size: tuple[int, int]
) -> list[Detections]:
    """`maps`: the grid's class and box taps (and centerness, where the score reads it), (B, C, H, W), of a
    canvas of `size` (height, width) pixels. Where a score is NaN nothing is detected."""
    first = maps[tap_of(CLS, grid.levels[0])]
    per_level = points(grid, *size, device=first.device)
    kept: list[list[Detections]] = [[] for _ in range(len(first))]
    for level, stride, points_P2 in zip(grid.levels, grid.strides, per_level, strict=True):
        scores_BPK = _scores(maps, grid, level)
        sides_BP4 = level_rows(maps[tap_of(BOX, level)].float(), grid.anchors_per_cell)
        assert scores_BPK.shape[1:] == (len(points_P2), num_classes), f"level {level}: {scores_BPK.shape}"
        for image, scores_PK in enumerate(scores_BPK):
            kept[image].append(_best(scores_PK, sides_BP4[image], points_P2, stride, size))
    overlap = OVERLAP_OF_BINS if grid.num_bins else OVERLAP
    return [_suppressed(levels, overlap) for levels in kept]


def _scores(maps: Mapping[str, Tensor], grid: DenseGrid, level: int) -> Tensor:
    """(B, P, K): the probability, or its geometric mean with the centerness."""
    scores_BPK = level_rows(maps[tap_of(CLS, level)].float(), grid.anchors_per_cell).sigmoid()
    if grid.score != SIGMOID_CTR:
        return scores_BPK
    centre_BP1 = level_rows(maps[tap_of(CTR, level)].float(), grid.anchors_per_cell).sigmoid()
    return (scores_BPK * centre_BP1).sqrt()


def _best(
    scores_PK: Tensor, sides_P4: Tensor, points_P2: Tensor, stride: int, size: tuple[int, int]
) -> Detections:
    flat = scores_PK.flatten()
    above = torch.where(flat > MIN_SCORE)[0]
    scores_N, order_N = flat[above].topk(min(len(above), MOST_PER_LEVEL))
    chosen_N = above[order_N]
    positions_N = chosen_N // scores_PK.shape[1]
    boxes_N4 = boxes_at(points_P2[positions_N], sides_P4[positions_N], stride)
    return Detections(clip_boxes_to_image(boxes_N4, size), scores_N, chosen_N % scores_PK.shape[1])


def _suppressed(levels: list[Detections], overlap: float) -> Detections:
    boxes_N4, scores_N, classes_N = (torch.cat(parts) for parts in zip(*levels, strict=True))
    keep = batched_nms(boxes_N4, scores_N, classes_N, overlap)[:MOST_PER_IMAGE]
    return Detections(boxes_N4[keep], scores_N[keep], classes_N[keep])
