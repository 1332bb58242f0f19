"""Sources of somebody's own, one of each task, as a module that a command line names: 'own_data:Streets'.

`Streets` is a plain child of FileSource; `Patches` gives every image one class; `Blobs` gives each a box.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from kdcache.cache.sources.arrays import ArraySource, Rows
from kdcache.cache.sources.boxes import BoxSource, objects_of
from kdcache.cache.sources.contract import FileSource
from kdcache.cache.sources.labels import ClassMap
from kdcache.cache.sources.tree import Tree
from kdcache.cache.spec import IGNORE

COUNTS = {"train": 8, "val": 4}


class Streets(FileSource):
    """Pictures and masks side by side; values 10, 20 and 30 are the classes."""

    layout = "{train,val}/*.png and {train,val}-masks/*.png"
    class_names = ("sky", "ground", "thing")
    default_crop = (48, 64)

    @classmethod
    def trees(cls, root: Path) -> dict[str, Tree]:
        present = [split for split in ("train", "val") if (root / split).is_dir()]
        return {split: Tree(root / split, root / f"{split}-masks") for split in present}

    def class_map_of(self, tree: Tree) -> ClassMap:
        return ClassMap({10: 0, 20: 1, 30: 2, 0: IGNORE})


class Patches(ArraySource):
    """Computed pictures of two classes, bright and dark."""

    layout = "any folder"
    class_names = ("dark", "bright")

    @classmethod
    def parts_in(cls, root: Path) -> tuple[str, ...]:
        return ("train", "val") if root.is_dir() else ()

    def read_part(self, part: str) -> Rows:
        labels = np.arange(COUNTS[part]) % 2
        pixels = np.full((len(labels), 32, 32, 3), 60, np.uint8)
        pixels[labels == 1] = 200
        return Rows(part, pixels, labels, (self.root,))


class Blobs(BoxSource):
    """A bright rectangle in each picture, and the box around it in a text file."""

    layout = "{train,val}/*.png and {train,val}/*.txt with x1 y1 x2 y2"
    class_names = ("blob",)
    default_crop = (64, 96)

    def __init__(self, root: Path, split: str) -> None:
        super().__init__(root, split)
        self.keys = sorted(path.stem for path in (self.root / split).glob("*.png"))

    @classmethod
    def splits_in(cls, root: Path) -> tuple[str, ...]:
        return tuple(split for split in COUNTS if (root / split).is_dir())

    def image_path(self, index: int) -> Path:
        return self.root / self.split / f"{self.keys[index]}.png"

    def annotation_path(self, index: int) -> Path:
        return self.image_path(index).with_suffix(".txt")

    def objects(self, index: int) -> np.ndarray:
        box = [float(word) for word in self.annotation_path(index).read_text().split()]
        return objects_of(np.array([box]), [0], [0])

    def claimed_size(self, index: int) -> tuple[int, int] | None:
        return None

    def keep(self, indices: Sequence[int]) -> None:
        self.keys = [self.keys[index] for index in indices]


def draw(root: Path) -> Path:
    """Files for all three below `root`, which is returned."""
    rng = np.random.default_rng(0)
    for split, count in COUNTS.items():
        for folder in (split, f"{split}-masks"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = rng.integers(0, 120, (64, 96, 3)).astype(np.uint8)
            x, y = (int(n) for n in rng.integers(4, 40, 2))
            pixels[y : y + 20, x : x + 24] = 230
            Image.fromarray(pixels).save(root / split / f"p{number}.png")
            (root / split / f"p{number}.txt").write_text(f"{x} {y} {x + 24} {y + 20}")
            mask = np.full((64, 96), 20, np.uint8)
            mask[:30], mask[y : y + 20, x : x + 24], mask[:2] = 10, 30, 0
            Image.fromarray(mask).save(root / f"{split}-masks" / f"p{number}.png")
    return root
