"""A tiny set of objects in each layout that a source accepts: what their contract is tested on.

Every tree holds the same three images and the same objects, one of them hard (a crowd) where the form can say
so, and one image without any object.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image


class Thing(NamedTuple):
    """An object: edges in pixels, and what it is."""

    box: tuple[float, float, float, float]
    name: str
    crowd: int = 0


SIZES = {"b_01": (40, 60), "c": (32, 32), "a.v2": (64, 48)}  # key -> (height, width)
THINGS: dict[str, tuple[Thing, ...]] = {
    "b_01": (Thing((4, 8, 24, 32), "cat"), Thing((30, 2, 60, 40), "dog", crowd=1)),
    "c": (),
    "a.v2": (Thing((0, 0, 12, 16), "owl"), Thing((6, 8, 48, 64), "cat")),
}
NAMES = ("cat", "owl", "dog")
IDS = (90, 3, 7)  # of the categories of a json: neither sorted nor without gaps


class BoxTree(NamedTuple):
    """How one layout lies on disk."""

    spec: str  # the name of the source
    image: str  # path with {key}
    write: Callable[[Path, dict[str, tuple[Thing, ...]]], None]
    listed: bool = True  # keys come in the order of a list, else sorted
    crowds: bool = True
    split: str = "train"


def things_json(things: dict[str, tuple[Thing, ...]]) -> dict[str, list[dict[str, object]]]:
    """A COCO json; ids of images from 5, of annotations falling from 99."""
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for number, (key, objects) in enumerate(things.items(), start=5):
        height, width = SIZES[key]
        images.append({"id": number, "file_name": f"{key}.png", "height": height, "width": width})
        for one in objects:
            x1, y1, x2, y2 = one.box
            annotations.append(
                {
                    "id": 99 - len(annotations),
                    "image_id": number,
                    "category_id": IDS[NAMES.index(one.name)],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1) / 2,
                    "iscrowd": one.crowd,
                    "segmentation": [[1, 2, 3, 4, 5, 6]],
                }
            )
    categories: list[dict[str, object]] = [{"id": i, "name": n} for i, n in zip(IDS, NAMES, strict=True)]
    return {"images": images, "annotations": annotations, "categories": categories}


def json_at(name: str) -> Callable[[Path, dict[str, tuple[Thing, ...]]], None]:
    def write(root: Path, things: dict[str, tuple[Thing, ...]]) -> None:
        put(root / name, json.dumps(things_json(things)))

    return write


def voc_xml(key: str, objects: tuple[Thing, ...], *, database: str = "mine") -> str:
    """Corners as VOC writes them where the database is VOC's: from 1, both inside."""
    height, width = SIZES[key]
    shift = 1 if "VOC" in database else 0
    told = "".join(
        f"<object><name>{escape(one.name)}</name><difficult>{one.crowd}</difficult><bndbox>"
        f"<xmin>{one.box[0] + shift}</xmin><ymin>{one.box[1] + shift}</ymin>"
        f"<xmax>{one.box[2]}</xmax><ymax>{one.box[3]}</ymax></bndbox></object>"
        for one in objects
    )
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation><source><database>{database}</database></source>{size}{told}</annotation>"


def voc_at(folder: str, database: str) -> Callable[[Path, dict[str, tuple[Thing, ...]]], None]:
    def write(root: Path, things: dict[str, tuple[Thing, ...]]) -> None:
        for key, objects in things.items():
            put(root / folder / "Annotations" / f"{key}.xml", voc_xml(key, objects, database=database))
        put(root / folder / "ImageSets/Main/train.txt", "\n".join(things) + "\n")
        put(root / "classes.txt", "\n".join(NAMES))

    return write


def yolo_text(key: str, objects: tuple[Thing, ...]) -> str:
    height, width = SIZES[key]
    lines = []
    for one in objects:
        x1, y1, x2, y2 = one.box
        shares = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
        lines.append(" ".join([str(NAMES.index(one.name)), *(f"{share:.17g}" for share in shares)]))
    return "\n".join(lines)


def yolo_with(file: str, text: str) -> Callable[[Path, dict[str, tuple[Thing, ...]]], None]:
    def write(root: Path, things: dict[str, tuple[Thing, ...]]) -> None:
        (root / "labels/train").mkdir(parents=True, exist_ok=True)
        for key, objects in things.items():
            if objects:  # an image without a text file has no objects
                put(root / "labels/train" / f"{key}.txt", yolo_text(key, objects))
        put(root / file, text)

    return write


TREES = {
    "coco": BoxTree("coco", "train2017/{key}.png", json_at("annotations/instances_train2017.json")),
    "coco json beside images": BoxTree("coco", "images/{key}.png", json_at("train.json")),
    "coco json beside its images": BoxTree("coco", "{key}.png", json_at("train.json")),
    "voc": BoxTree("voc-boxes", "JPEGImages/{key}.png", voc_at(".", "The VOC2007 Database")),
    "voc of one's own": BoxTree(
        "voc-boxes", "VOCdevkit/VOC2012/JPEGImages/{key}.png", voc_at("VOCdevkit/VOC2012", "blood cells")
    ),
    "yolo": BoxTree(
        "yolo",
        "images/train/{key}.png",
        yolo_with("data.yaml", "nc: 3\nnames: [cat, 'owl', \"dog\"]\n"),
        listed=False,
        crowds=False,
    ),
    "yolo classes": BoxTree(
        "yolo",
        "images/train/{key}.png",
        yolo_with("classes.txt", "cat\nowl\ndog\n"),
        listed=False,
        crowds=False,
    ),
}


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def draw_image(path: Path, size: tuple[int, int], seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def draw_tree(tree: BoxTree, root: Path, things: dict[str, tuple[Thing, ...]] = THINGS) -> Path:
    for number, key in enumerate(things):
        draw_image(root / tree.image.format(key=key), SIZES[key], seed=number)
    tree.write(root, things)
    return root
