"""A dataset of a few drawn images for tests, in the layout of the `folder` source."""

from pathlib import Path

import numpy as np
from PIL import Image

SIZES = ((75, 100), (67, 100))  # (height, width) in pixels: two sizes, neither a multiple of a stride
CLASSES = ("sky", "ground", "thing")


def draw_folder(
    root: Path, count: int = 6, split: str = "train", sizes: tuple[tuple[int, int], ...] = SIZES
) -> Path:
    """`count` smooth JPEG images with labels of three classes and some ignored pixels; returns `root`."""
    for kind in ("images", "labels"):
        (root / split / kind).mkdir(parents=True, exist_ok=True)
    (root / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    for number in range(count):
        draw_sample(root, split, f"scene{number:02d}", sizes[number % len(sizes)], seed=number)
    return root


def draw_sample(root: Path, split: str, key: str, size: tuple[int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    waves = [
        np.sin(x / rng.uniform(4, 15) + rng.uniform(0, 6)) + np.cos(y / rng.uniform(4, 15)) for _ in range(3)
    ]
    image = np.clip(128 + 50 * np.stack(waves, -1), 0, 255).astype(np.uint8)
    label = ((y // 16 + x // 20 + seed) % 3).astype(np.uint8)
    label[:3] = 255
    Image.fromarray(image).save(root / split / "images" / f"{key}.jpg", quality=92)
    Image.fromarray(label).save(root / split / "labels" / f"{key}.png")
