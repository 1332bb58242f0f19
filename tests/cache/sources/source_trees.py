"""A tiny tree of each dataset, in each layout that its source accepts: what the contract is tested on."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

SIZES = ((37, 50), (33, 50))  # (height, width): VOC's 375x500 and 333x500, ten times smaller


@dataclass(frozen=True)
class Layout:
    """How one dataset lies on disk: where sample `key` of the train split is, and what its labels mean."""

    spec: str  # the name of the source
    image: str  # path with {key}
    label: str
    meaning: dict[int, int]  # stored value -> train id
    outside: int  # a value that the class map does not have
    num_classes: int
    palette: bool = False
    prepare: Callable[[Path, list[str]], None] = lambda root, keys: None
    keys: tuple[str, ...] = ("b_01", "a.v2")  # not sorted, and one with a dot


def write_list(name: str) -> Callable[[Path, list[str]], None]:
    def write(root: Path, keys: list[str]) -> None:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(keys) + "\n")

    return write


def write_segnet_list(root: Path, keys: list[str]) -> None:
    lines = [f"/SegNet/CamVid/train/{k}.png /SegNet/CamVid/trainannot/{k}.png" for k in keys]
    (root / "train.txt").write_text("\n".join(lines))


def write_voc_aug_list(root: Path, keys: list[str]) -> None:
    folder = root / "VOCdevkit/VOC2012/ImageSets/Segmentation"
    folder.mkdir(parents=True)
    (folder / "train.txt").write_text(keys[0] + "\n")
    lines = [f"/JPEGImages/{k}.jpg /SegmentationClassAug/{k}.png" for k in keys]
    (folder / "train_aug.txt").write_text("\n".join(lines))


def write_classes(root: Path, keys: list[str]) -> None:
    (root / "classes.txt").write_text("road\ncar\n")


def write_classes_and_list(root: Path, keys: list[str]) -> None:
    write_classes(root, keys)
    write_list("train.txt")(root, keys)


CITY = ("zurich/zurich_000001_000019", "aachen/aachen_000000_000019")
VOC = "VOCdevkit/VOC2012/"
LAYOUTS = {
    "camvid": Layout(
        "camvid", "train/images/{key}.jpg", "train/labels/{key}.png", {0: 0, 10: 10, 255: 255}, 12, 11, True
    ),
    "camvid segnet": Layout(
        "camvid",
        "train/{key}.png",
        "trainannot/{key}.png",
        {3: 3, 11: 255},
        12,
        11,
        prepare=write_segnet_list,
    ),
    "cityscapes": Layout(
        "cityscapes",
        "leftImg8bit/train/{key}_leftImg8bit.png",
        "gtFine/train/{key}_gtFine_labelIds.png",
        {0: 255, 7: 0, 8: 1, 9: 255, 11: 2, 17: 5, 26: 13, 29: 255, 31: 16, 33: 18},
        34,
        19,
        keys=CITY,
    ),
    "cityscapes train ids": Layout(
        "cityscapes",
        "leftImg8bit/train/{key}_leftImg8bit.png",
        "gtFine/train/{key}_gtFine_labelTrainIds.png",
        {0: 0, 18: 18, 255: 255},
        19,
        19,
        keys=CITY,
    ),
    "voc": Layout(
        "voc",
        "JPEGImages/{key}.jpg",
        "SegmentationClass/{key}.png",
        {0: 0, 20: 20, 255: 255},
        21,
        21,
        True,
        prepare=write_list("ImageSets/Segmentation/train.txt"),
    ),
    "voc augmented": Layout(
        "voc",
        VOC + "JPEGImages/{key}.jpg",
        VOC + "SegmentationClassAug/{key}.png",
        {0: 0, 15: 15, 255: 255},
        21,
        21,
        prepare=write_voc_aug_list,
    ),
    "ade20k": Layout(
        "ade20k",
        "images/training/{key}.jpg",
        "annotations/training/{key}.png",
        {0: 255, 1: 0, 150: 149},
        151,
        150,
    ),
    "ade20k outer": Layout(
        "ade20k",
        "ADEChallengeData2016/images/training/{key}.jpg",
        "ADEChallengeData2016/annotations/training/{key}.png",
        {0: 255, 2: 1, 149: 148},
        255,
        150,
    ),
    "cocostuff": Layout(
        "cocostuff",
        "images/train2017/{key}.jpg",
        "stuffthingmaps/train2017/{key}.png",
        {0: 0, 10: 10, 12: 11, 89: 79, 91: 80, 181: 170, 255: 255},
        11,
        171,
    ),
    "cocostuff annotations": Layout(
        "cocostuff",
        "images/train2017/{key}.jpg",
        "annotations/train2017/{key}.png",
        {24: 23, 26: 24, 30: 26, 255: 255},
        90,
        171,
    ),
    "cocostuff train ids": Layout(
        "cocostuff",
        "images/train2017/{key}.jpg",
        "stuffthingmaps_semseg/train2017/{key}.png",
        {11: 11, 170: 170, 255: 255},
        171,
        171,
    ),
    "folder": Layout(
        "folder",
        "train/images/{key}.jpg",
        "train/labels/{key}.png",
        {0: 0, 1: 1, 255: 255},
        2,
        2,
        prepare=write_classes,
        keys=("street/b_01", "a.v2"),
    ),
    "folder with lists": Layout(
        "folder",
        "images/{key}.PNG",
        "labels/{key}.png",
        {0: 0, 1: 1, 255: 255},
        2,
        2,
        True,
        prepare=write_classes_and_list,
    ),
}


def draw_tree(layout: Layout, root: Path) -> None:
    for number, (key, size) in enumerate(zip(layout.keys, SIZES, strict=True)):
        write_image(root / layout.image.format(key=key), size, seed=number)
        write_label(root / layout.label.format(key=key), stored_ids(layout, size), palette=layout.palette)
    layout.prepare(root, list(layout.keys))


def stored_ids(layout: Layout, size: tuple[int, int]) -> np.ndarray:
    """Every value of `meaning`, in vertical stripes."""
    values = np.array(list(layout.meaning), dtype=np.uint8)
    return np.tile(values[np.arange(size[1]) % len(values)], (size[0], 1))


def write_image(path: Path, size: tuple[int, int], *, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_label(path: Path, ids: np.ndarray, *, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(ids.astype(np.uint8))
    if palette:
        image.putpalette(bytes(range(255, -1, -1)) * 3)  # colours that are not their own index
    image.save(path)


def files_of(layout: Layout, root: Path, key: str) -> tuple[Path, Path]:
    return root / layout.image.format(key=key), root / layout.label.format(key=key)
