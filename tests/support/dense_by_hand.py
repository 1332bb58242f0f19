"""Losses of dense detectors in plain loops over numbers, from their formulas; nothing of the library is used.

Arguments are arrays or lists, answers are float64. R rows, K classes, M objects, C channels, H W cells.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Rows = Any  # a nested list or an array of numbers
EPSILON = 1e-6


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z)) if z >= 0 else math.exp(z) / (1 + math.exp(z))


def bce(logit: float, target: float) -> float:
    return max(logit, 0.0) - logit * target + math.log1p(math.exp(-abs(logit)))


def log_softmax(values: Rows) -> list[float]:
    highest = max(values)
    total = highest + math.log(sum(math.exp(v - highest) for v in values))
    return [v - total for v in values]


def class_distance(student: Rows, teacher: Rows, beta: float = 1.0) -> list[float]:
    rows = []
    for s_row, t_row in zip(student, teacher, strict=True):
        pairs = [(float(s), sigmoid(float(t))) for s, t in zip(s_row, t_row, strict=True)]
        rows.append(sum(abs(t - sigmoid(s)) ** beta * bce(s, t) for s, t in pairs))
    return rows


def largest_gap(student: Rows, teacher: Rows) -> list[float]:
    return [
        max(abs(sigmoid(float(s)) - sigmoid(float(t))) for s, t in zip(s_row, t_row, strict=True))
        for s_row, t_row in zip(student, teacher, strict=True)
    ]


def iou(a: Rows, b: Rows) -> float:
    overlap, union = _areas(a, b)
    return overlap / max(union, EPSILON)


def giou(a: Rows, b: Rows) -> float:
    overlap, union = _areas(a, b)
    union = max(union, EPSILON)
    wide = max(0.0, max(a[2], b[2]) - min(a[0], b[0]))
    high = max(0.0, max(a[3], b[3]) - min(a[1], b[1]))
    around = max(wide * high, EPSILON)
    return overlap / union - (around - union) / around


def _areas(a: Rows, b: Rows) -> tuple[float, float]:
    wide = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    high = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    both = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return wide * high, both - wide * high


def mean_divergence(student: Rows, teacher: Rows, temperature: float) -> list[float]:
    rows = []
    for s_row, t_row in zip(student, teacher, strict=True):
        log_s, log_t = (log_softmax([float(z) / temperature for z in row]) for row in (s_row, t_row))
        addends = [math.exp(t) * (t - s) for s, t in zip(log_s, log_t, strict=True)]
        rows.append(temperature**2 * sum(addends) / len(addends))
    return rows


def regions(anchors: Rows, objects: Rows, level_sizes: Sequence[int], nearest: int = 9) -> list[float]:
    values = [0.0] * len(anchors)
    for box in objects:
        overlaps = [iou(anchor, box) for anchor in anchors]
        chosen: list[float] = []
        start = 0
        for size in level_sizes:
            order = sorted(range(start, start + size), key=lambda p: _apart(anchors[p], box))
            chosen += [overlaps[p] for p in order[:nearest]]
            start += size
        mean = sum(chosen) / len(chosen)
        limit = mean + math.sqrt(sum((v - mean) ** 2 for v in chosen) / max(len(chosen) - 1, 1))
        for p, anchor in enumerate(anchors):
            if 0.25 * limit <= as_coded(anchor, box) < limit:
                values[p] = max(values[p], overlaps[p])
    return values


def as_coded(anchor: Rows, box: Rows) -> float:
    overlap, _ = _areas(anchor, box)
    wide = max(anchor[2], box[2]) - min(anchor[0], box[0])
    high = max(anchor[3], box[3]) - min(anchor[1], box[1])
    area = (anchor[2] - anchor[0]) * (anchor[3] - anchor[1])
    return overlap / max(area, EPSILON) - _apart(anchor, box) / max(wide**2 + high**2, EPSILON)


def _apart(a: Rows, b: Rows) -> float:
    """Squared distance of the centres."""
    return ((a[0] + a[2] - b[0] - b[2]) / 2) ** 2 + ((a[1] + a[3] - b[1] - b[3]) / 2) ** 2


def masks(objects: Rows, cells: tuple[int, int], canvas: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(H, W) each, for the objects x1 y1 x2 y2 of one image."""
    high, wide = cells
    inside = np.zeros(cells)
    for x1, y1, x2, y2 in objects:
        left, right = math.floor(x1 / canvas[1] * wide), math.ceil(x2 / canvas[1] * wide)
        top, bottom = math.floor(y1 / canvas[0] * high), math.ceil(y2 / canvas[0] * high)
        share = 1 / ((right + 1 - left) * (bottom + 1 - top))
        for y in range(max(top, 0), min(bottom, high - 1) + 1):
            for x in range(max(left, 0), min(right, wide - 1) + 1):
                inside[y, x] = max(inside[y, x], share)
    outside = (inside == 0).astype(float)
    return inside, outside / max(outside.sum(), 1)


def attention(features: np.ndarray, temp: float) -> tuple[np.ndarray, np.ndarray]:
    """S (H, W) and A (C,) of one image (C, H, W)."""
    channels, high, wide = features.shape
    over_channels, over_cells = np.abs(features).mean(0), np.abs(features).mean((1, 2))
    spatial = np.exp(log_softmax((over_channels / temp).ravel())).reshape(high, wide)
    return high * wide * spatial, channels * np.exp(log_softmax(over_cells / temp))


def context_block(features: np.ndarray, weights: Mapping[str, np.ndarray]) -> np.ndarray:
    """G of one image; weights by layer: attend, first, norm, last."""
    flat = features.reshape(len(features), -1)
    scores = weights["attend.weight"].reshape(1, -1) @ flat + weights["attend.bias"]
    context = flat @ np.exp(log_softmax(scores[0]))
    hidden = weights["first.weight"][:, :, 0, 0] @ context + weights["first.bias"]
    normed = (hidden - hidden.mean()) / np.sqrt(hidden.var() + 1e-5)
    normed = normed * weights["norm.weight"].ravel() + weights["norm.bias"].ravel()
    added = weights["last.weight"][:, :, 0, 0] @ np.maximum(normed, 0) + weights["last.bias"]
    return features + added[:, None, None]


def focal_global(
    student: np.ndarray, teacher: np.ndarray, objects: Sequence[Rows], canvas: tuple[int, int], temp: float
) -> dict[str, float]:
    """fg, bg and mask of one level; maps (B, C, H, W), the student's aligned already."""
    sums = {"fg": 0.0, "bg": 0.0, "mask": 0.0}
    for ours, theirs, boxes in zip(student, teacher, objects, strict=True):
        spatial_s, channel_s = attention(ours, temp)
        spatial_t, channel_t = attention(theirs, temp)
        inside, outside = masks(boxes, ours.shape[1:], canvas)
        for c, y, x in np.ndindex(ours.shape):
            square = spatial_t[y, x] * channel_t[c] * (ours[c, y, x] - theirs[c, y, x]) ** 2
            sums["fg"] += square * inside[y, x]
            sums["bg"] += square * outside[y, x]
        sums["mask"] += np.abs(channel_s - channel_t).sum() + np.abs(spatial_s - spatial_t).sum()
    return {name: value / len(student) for name, value in sums.items()}


def relation(student: np.ndarray, teacher: np.ndarray) -> float:
    """GID's, of instances (R, ...)."""
    count = len(student)
    if count < 3:
        return 0.0
    sides = []
    for side in (student, teacher):
        flat = side.reshape(count, -1)
        apart = np.array([[math.dist(a, b) for b in flat] for a in flat])
        sides.append(apart / apart[apart > 0].mean())
    gaps = np.abs(sides[0] - sides[1]).ravel()
    return sum(g**2 / 2 if g < 1 else g - 0.5 for g in gaps) / (count**2 - count)


def pearson(student: np.ndarray, teacher: np.ndarray) -> float:
    """PKD of maps (B, C, H, W) of one size."""
    total, count = 0.0, 0
    for channel in range(student.shape[1]):
        rows = []
        for side in (student, teacher):
            values = side[:, channel].ravel()
            rows.append((values - values.mean()) / (values.std(ddof=1) + 1e-6))
        total += float(((rows[0] - rows[1]) ** 2).sum())
        count += rows[0].size
    return total / count / 2
