"""Images with boxes, and a network that says what a test wants of each: for judges of detection.

The red channel of an image is its number; the network reads it and answers a map that holds its boxes, which
`decode` takes out again in the form of the detectors' own `decode`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from encoded_images import encode
from torch import Tensor, nn

from kdcache.cache.grid import DenseGrid
from kdcache.cache.spec import Task
from kdcache.trainer.judge import detection
from kdcache.trainer.judge.detection_metrics import DetectionMetrics
from kdcache.trainer.judge.judge import judge

CLASSES = ("cell", "disc", "rod")
CANVAS = (64, 96)
GRID = DenseGrid(levels=(3,), strides=(8,))


def truth_of(*rows: Sequence[float]) -> np.ndarray:
    """Rows x1 y1 x2 y2 class, then crowd and area where they are given, as a parsed truth (M, 8)."""
    full = []
    for number, (x1, y1, x2, y2, kind, *more) in enumerate(rows):
        crowd = more[0] if more else 0
        area = more[1] if len(more) > 1 else (x2 - x1) * (y2 - y1)
        full.append([x1, y1, x2, y2, kind, crowd, area, 100 + number])
    return np.array(full, dtype=np.float64).reshape(-1, 8)


class BoxSamples:
    """Samples of these truths and sizes (height, width)."""

    task: Task = "detection"

    def __init__(self, truths: Sequence[np.ndarray], sizes: Sequence[tuple[int, int]] | None = None) -> None:
        self.truths = truths
        self.sizes = sizes or [CANVAS] * len(truths)
        self.num_samples = len(truths)
        self.invalid = np.zeros(0, dtype=np.int64)

    def image(self, index: int) -> np.ndarray:
        return encode(np.full((*self.sizes[index], 3), (index, 0, 0), dtype=np.uint8))

    def truth(self, index: int) -> np.ndarray:
        return self.truths[index]

    def key(self, index: int) -> str:
        return f"drawn/{index}"

    def size(self, index: int) -> tuple[int, int]:
        return self.sizes[index]


class Says(nn.Module):
    """Answers rows x1 y1 x2 y2 score class on the canvas: those of the image whose number it sees."""

    def __init__(self, rows: Sequence[Sequence[Sequence[float]]]) -> None:
        super().__init__()
        self.rows = [torch.tensor(one, dtype=torch.float32).reshape(-1, 6) for one in rows]
        self.grid = GRID

    def forward(self, images_BHWC: Tensor, taps: tuple[str, ...]) -> dict[str, Tensor]:
        assert taps == ("cls3", "box3") and tuple(images_BHWC.shape[1:3]) == CANVAS
        most = max(len(one) for one in self.rows)
        numbers = images_BHWC[:, 0, 0, 0].tolist()
        padded = [
            nn.functional.pad(self.rows[n], (0, 0, 0, most - len(self.rows[n])), value=-1) for n in numbers
        ]
        return {"cls3": torch.stack(padded), "box3": torch.stack(padded)}


def decode(
    maps: Mapping[str, Tensor], grid: DenseGrid, num_classes: int, size: tuple[int, int]
) -> list[tuple[Tensor, Tensor, Tensor]]:
    assert (grid, num_classes, size) == (GRID, len(CLASSES), CANVAS)
    rows = [one[one[:, 4] >= 0] for one in maps["cls3"]]
    return [(one[:, :4], one[:, 4], one[:, 5].long()) for one in rows]


def judged_boxes(
    samples: BoxSamples, network: nn.Module, monkeypatch: Any, **options: Any
) -> DetectionMetrics:
    monkeypatch.setattr(detection, "_decode", lambda: decode)
    named = {"task": "detection", "device": "cpu", "class_names": CLASSES, "input_size": CANVAS}
    metrics = judge(network, samples, **{**named, **options})
    assert isinstance(metrics, DetectionMetrics)
    return metrics
