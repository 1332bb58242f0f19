"""The toy task's source: grey images of two halves with noise, drawn when they are asked for."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from kdcache.cache.sources.contract import BaseSource, Described
from kdcache.cache.spec import Task

SIDE_PX = 32
NUM_IMAGES = {"train": 12, "val": 5}


def balance_of(pixels: np.ndarray) -> float:
    """The mean brightness of the right half of (H, W, 3) 0..255 minus that of the left, -1..1."""
    half = pixels.shape[1] // 2
    return float((pixels[:, half:].mean() - pixels[:, :half].mean()) / 255)


class BalanceSource(BaseSource):
    """Below any folder that exists: nothing is read from it."""

    name = "balance"
    layout = "any folder: the images are drawn"
    task: Task = "balance"
    class_names = ("balance",)
    default_crop = (SIDE_PX, SIDE_PX)

    def __init__(self, root: Path, split: str) -> None:
        super().__init__(root, split)
        self.keys = [f"{split}/{number:02d}" for number in range(NUM_IMAGES[split])]

    @classmethod
    def splits_in(cls, root: Path) -> tuple[str, ...]:
        del root
        return tuple(NUM_IMAGES)

    def pixels(self, index: int) -> np.ndarray:
        """(H, W, 3) uint8."""
        rng = np.random.default_rng([index, len(self.keys)])
        left, right = rng.integers(20, 220, 2)
        halves_HW1 = np.where(np.arange(SIDE_PX) < SIDE_PX // 2, left, right)[None, :, None]
        return (halves_HW1 + rng.integers(0, 30, (SIDE_PX, SIDE_PX, 3))).astype(np.uint8)

    def image_bytes(self, index: int) -> bytes:
        file = io.BytesIO()
        Image.fromarray(self.pixels(index)).save(file, "PNG")
        return file.getvalue()

    def label_bytes(self, index: int) -> bytes:
        return f"{balance_of(self.pixels(index)):.6f}".encode()

    def files(self, index: int) -> tuple[Path, ...]:
        del index
        return (Path(__file__),)

    def content(self, index: int) -> tuple[bytes, ...]:
        return self.image_bytes(index), self.label_bytes(index)

    def size(self, index: int) -> tuple[int, int]:
        del index
        return SIDE_PX, SIDE_PX

    def check(self, index: int) -> tuple[int, int]:
        return self.size(index)

    def describe(self) -> Described:
        return {
            "name": self.name,
            "split": self.split,
            "task": self.task,
            "class_names": list(self.class_names),
        }
