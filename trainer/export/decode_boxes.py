"""Maps of a detector to boxes, with numpy alone: what lies beside an exported graph as `decode.py`.

    import json, numpy as np, onnxruntime
    from decode import decode
    said = json.load(open("export.json"))
    names = said["outputs"]
    values = onnxruntime.InferenceSession("model.onnx").run(names, {"images": images})
    boxes = decode(dict(zip(names, values)), said["grid"], images.shape[2:])

`images` are float RGB of 0..255, (batch, 3, height, width), each resized until it fits the canvas that
`export.json` names as "crop", at the top left, the rest in the colour (124, 116, 104). Boxes are in pixels of
the canvas: divide by the factor of the resizing.

The rules: per level the positions and classes with a score above 0.05, of them the best 1,000; boxes are cut
to the canvas; of all levels together the weaker of two boxes of one class that overlap goes; the best 100
stay.

Axes: P positions of a level, K classes, N boxes.
"""

from typing import Any

import numpy as np

MIN_SCORE = 0.05
MOST_PER_LEVEL = 1000
MOST_PER_IMAGE = 100
OVERLAP, OVERLAP_OF_BINS = 0.5, 0.6  # intersection over union


def decode(
    maps: dict[str, np.ndarray], grid: dict[str, Any], size: tuple[int, int]
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Per image boxes (N, 4) x1 y1 x2 y2, scores (N,), classes (N,), the best first. `maps` are 'cls3' ...,
    'box3' ... and, where the score reads it, 'ctr3' ..., (B, C, H, W); `size` is (height, width)."""
    first = maps[f"cls{grid['levels'][0]}"]
    return [
        _of_image({name: value[i] for name, value in maps.items()}, grid, size) for i in range(len(first))
    ]


def _of_image(
    maps: dict[str, np.ndarray], grid: dict[str, Any], size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    levels = [
        _of_level(maps, grid, level, stride, size)
        for level, stride in zip(grid["levels"], grid["strides"])  # noqa: B905
    ]
    boxes_N4, scores_N, classes_N = (np.concatenate(parts) for parts in zip(*levels))  # noqa: B905
    overlap = OVERLAP_OF_BINS if grid["num_bins"] else OVERLAP
    keep = _kept(boxes_N4, scores_N, classes_N, overlap)[:MOST_PER_IMAGE]
    return boxes_N4[keep], scores_N[keep], classes_N[keep]


def _of_level(
    maps: dict[str, np.ndarray], grid: dict[str, Any], level: int, stride: int, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    anchors = grid["anchors_per_cell"]
    width = maps[f"box{level}"].shape[2]
    scores_PK = _sigmoid(_rows(maps[f"cls{level}"], anchors))
    if grid["score"] == "sigmoid*ctr":
        scores_PK = np.sqrt(scores_PK * _sigmoid(_rows(maps[f"ctr{level}"], anchors)))
    sides_P4 = _rows(maps[f"box{level}"], anchors) * np.float32(stride)
    flat = scores_PK.ravel()
    chosen = np.flatnonzero(flat > MIN_SCORE)
    chosen = chosen[np.argsort(-flat[chosen], kind="stable")][:MOST_PER_LEVEL]
    position, number = np.divmod(chosen, scores_PK.shape[1])
    cell = position // anchors
    point_N2 = np.stack([cell % width, cell // width], axis=1).astype(np.float32) * np.float32(stride)
    boxes_N4 = np.concatenate([point_N2 - sides_P4[position, :2], point_N2 + sides_P4[position, 2:]], axis=1)
    high = np.array([size[1], size[0]] * 2, dtype=np.float32)
    return np.clip(boxes_N4, np.float32(0), high), flat[chosen], number


def _rows(map_CHW: np.ndarray, anchors: int) -> np.ndarray:
    """(A * C, H, W), channel = anchor * C + c, to (H * W * A, C)."""
    channels = map_CHW.shape[0] // anchors
    return map_CHW.astype(np.float32).transpose(1, 2, 0).reshape(-1, channels)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -80, 80))))


def _kept(boxes_N4: np.ndarray, scores_N: np.ndarray, classes_N: np.ndarray, overlap: float) -> np.ndarray:
    """Places of the boxes that stay, the best first."""
    order = np.argsort(-scores_N, kind="stable")
    area_N = (boxes_N4[:, 2:] - boxes_N4[:, :2]).prod(axis=1)
    keep = []
    while len(order):
        best, rest = order[0], order[1:]
        keep.append(best)
        low = np.maximum(boxes_N4[best, :2], boxes_N4[rest, :2])
        high = np.minimum(boxes_N4[best, 2:], boxes_N4[rest, 2:])
        shared_N = np.clip(high - low, 0, None).prod(axis=1)
        union_N = area_N[best] + area_N[rest] - shared_N
        gone = (classes_N[rest] == classes_N[best]) & (shared_N > np.maximum(overlap * union_N, 0))
        order = rest[~gone]
    return np.array(keep, dtype=np.int64)
