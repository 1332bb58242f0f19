"""Where the files of one split lie."""

from pathlib import Path
from typing import NamedTuple

SPLITS = ("train", "val", "test")


class Tree(NamedTuple):
    """A sample's files are `images/KEY<image_ending>.<jpg|png>` and `labels/KEY<label_ending>`."""

    images: Path
    labels: Path
    image_ending: str = ""
    label_ending: str = ".png"
    list_file: Path | None = None  # one sample per line; None takes every image below `images`


def split_folders(root: Path) -> dict[str, Tree]:
    """`{split}/images` and `{split}/labels`, in the order of `{split}.txt` where there is one."""
    return {
        split: Tree(root / split / "images", root / split / "labels", list_file=list_beside(root, split))
        for split in SPLITS
        if (root / split / "images").is_dir()
    }


def list_beside(root: Path, split: str) -> Path | None:
    path = root / f"{split}.txt"
    return path if path.is_file() else None
