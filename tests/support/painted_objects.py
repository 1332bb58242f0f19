"""Data whose objects are painted, each in a colour of its own: what pixels show of an object can be counted.

Images are of several sizes, and of both orientations. Objects lie on integer edges, never touch each other,
and differ from the background and from each other by so much that a cell of any view belongs to whom its
colour is nearest to. `write_coco` lays them out as a COCO json beside a folder.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

CLASSES = ("disc", "bar", "cross")
SIZES = ((96, 128), (150, 100), (64, 64), (120, 200))  # (height, width) of the images, in turn
GREY = (124, 116, 104)  # the background, as padding: what is cut away and what is beside look alike
# Corners and edges of the colour cube, far from the background and from each other, also in another light.
COLOURS = np.array(
    [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255), (0, 255, 255), (255, 255, 255)],
    dtype=np.uint8,
)


class Painted(NamedTuple):
    """One image and its objects, in the order of their colours."""

    pixels_HWC: np.ndarray  # uint8
    boxes_M4: np.ndarray  # x1 y1 x2 y2, integers
    classes_M: np.ndarray


def paint(seed: int, size: tuple[int, int], num_objects: int = len(COLOURS)) -> Painted:
    """At most one object in each cell of a grid of 3x3, which it may reach the border of the image from."""
    rng = np.random.default_rng(seed)
    pixels_HWC = np.empty((*size, 3), dtype=np.uint8)
    pixels_HWC[...] = GREY
    cells = rng.permutation(9)[:num_objects]
    boxes = []
    for cell, colour in zip(cells, COLOURS, strict=False):
        x1, x2 = _span(rng, int(cell) % 3, size[1])
        y1, y2 = _span(rng, int(cell) // 3, size[0])
        pixels_HWC[y1:y2, x1:x2] = colour
        boxes.append((x1, y1, x2, y2))
    classes = rng.integers(0, len(CLASSES), len(boxes))
    return Painted(pixels_HWC, np.array(boxes, dtype=np.float64).reshape(-1, 4), classes)


def _span(rng: np.random.Generator, third: int, length: int) -> tuple[int, int]:
    """Two edges within a third of a side, at least 8 pixels apart; outer ones may be those of the image."""
    low, high = third * length // 3 + (2 if third else 0), (third + 1) * length // 3 - (2 if third < 2 else 0)
    start = int(rng.integers(low, high - 8 + 1))
    return start, int(rng.integers(start + 8, high + 1))


def painted_set(count: int, first_seed: int = 0) -> list[Painted]:
    """Images of all sizes, every fourth without any object."""
    numbers = (len(COLOURS), 3, 5, 0)
    return [paint(first_seed + i, SIZES[i % len(SIZES)], numbers[i % len(numbers)]) for i in range(count)]


def write_coco(root: Path, images: list[Painted], split: str = "train") -> Path:
    """`SPLIT.json` and lossless `images/`; ids: images from 10, boxes from 100, categories 3, 5, 90."""
    folder = root / "images"
    folder.mkdir(parents=True, exist_ok=True)
    listed, annotations = [], []
    for number, one in enumerate(images):
        name = f"{split}{number:02d}.png"
        Image.fromarray(one.pixels_HWC).save(folder / name)
        height, width = one.pixels_HWC.shape[:2]
        listed.append({"id": 10 + number, "file_name": name, "height": height, "width": width})
        for (x1, y1, x2, y2), kind in zip(one.boxes_M4.tolist(), one.classes_M.tolist(), strict=True):
            annotations.append(
                {
                    "id": 100 + len(annotations),
                    "image_id": 10 + number,
                    "category_id": (3, 5, 90)[kind],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                }  # fmt: skip
            )
    categories = [{"id": number, "name": name} for number, name in zip((3, 5, 90), CLASSES, strict=True)]
    (root / f"{split}.json").write_text(
        json.dumps({"images": listed, "annotations": annotations, "categories": categories})
    )
    return root
