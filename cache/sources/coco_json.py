"""A COCO json of boxes as columns: parsed once with the standard library, kept for the next process.

`instances_train2017.json` holds 860,001 boxes in 450 MB; ranks and runs read it again and again. Its columns
lie as `$KDCACHE_HOME/indexes/<digest of the json>.npz`; without a place to write they are parsed each time.
An index that cannot be read is made anew.

Axes: N images in the order of the json, A annotations by image and then by id, K categories.
"""

import json
import mmap
import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import numpy as np

from kdcache.cache.errors import BadSample, Missing, Refused
from kdcache.cache.files.regular import open_regular, read_regular
from kdcache.cache.files.system import touching
from kdcache.cache.files.unpack import npz_arrays
from kdcache.cache.fingerprint import digest_bytes
from kdcache.cache.record.find import home_dir
from kdcache.cache.sources.contract import indented
from kdcache.cache.sources.listing import IMAGE_SUFFIXES

INDEX_VERSION = 1
UNKNOWN = -1  # category of an annotation that names none of the file
_READ_ERRORS = (OSError, ValueError, KeyError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error)
MAX_BYTES = 4 << 30  # of a json; that of train2017 has 450 MB


class CocoIndex(NamedTuple):
    """What detection reads of a json. Boxes are x, y, width, height as written."""

    file_names: np.ndarray  # (N,) text
    image_ids: np.ndarray  # (N,) int64
    sizes_N2: np.ndarray  # int64 height and width, 0 where the json says none
    first: np.ndarray  # (N + 1,) int64: annotations first[i] .. first[i + 1] - 1 are of image i
    ids: np.ndarray  # (A,) int64
    boxes_A4: np.ndarray  # float64
    categories: np.ndarray  # (A,) int64, the category's id as written
    classes: np.ndarray  # (A,) int64, the category's place in the json, UNKNOWN
    areas: np.ndarray  # (A,) float64
    crowds: np.ndarray  # (A,) int64, 0 or 1
    category_ids: np.ndarray  # (K,) int64
    category_names: np.ndarray  # (K,) text


def read_coco(path: Path, layout: str) -> CocoIndex:
    """The columns of a json. Raises BadSample for what is no COCO json of boxes, Missing for one without
    images or classes."""
    kept = _kept_at(path)
    columns = _read_kept(kept)
    if columns is None:
        columns = _parse(path, layout)
        _keep(kept, columns)
    return columns


def _kept_at(path: Path) -> Path:
    try:
        with (
            touching(f"'{path.name}' cannot be read", path),
            open_regular(path, MAX_BYTES) as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            view = memoryview(content)
            digest = digest_bytes(view)
            view.release()
    except ValueError as error:  # ValueError: an empty file cannot be mapped
        raise _unreadable(path, str(error)) from error
    return home_dir() / "indexes" / f"{digest.partition(':')[2]}-{INDEX_VERSION}.npz"


def _read_kept(path: Path) -> CocoIndex | None:
    try:
        columns = CocoIndex(*npz_arrays(path, CocoIndex._fields))
    except _READ_ERRORS:
        return None
    per_box = {len(columns.ids), len(columns.boxes_A4), len(columns.classes), int(columns.first[-1])}
    whole = len(per_box) == 1 and len(columns.first) == len(columns.file_names) + 1
    return columns if whole else None


def _keep(path: Path, columns: CocoIndex) -> None:
    """Under a name of this process first: ranks that start together each write the same."""
    drawing = path.with_name(f".{path.stem}.{os.getpid()}.npz")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(drawing, allow_pickle=False, **columns._asdict())
        drawing.replace(path)
    except OSError:  # no room, or a home that is only read: the next process parses again
        with suppress(OSError):
            drawing.unlink()


def _parse(path: Path, layout: str) -> CocoIndex:
    try:
        raw = json.loads(read_regular(path, MAX_BYTES))
    except Refused:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(path, f"it is not JSON: {error}") from error
    if not isinstance(raw, dict) or not isinstance(raw.get("images"), list) or not raw["images"]:
        raise Missing(
            "the json names no images: it has no list 'images'",
            where=str(path),
            fix=f"give a COCO json of instances; the layout is\n{indented(layout)}",
        )
    for name in ("annotations", "categories"):
        if not isinstance(raw.get(name), list):
            raise Missing(
                f"the json has no list '{name}'",
                where=str(path),
                fix="give a COCO json of instances, which has images, annotations and categories",
            )
    ids, names = _categories(raw["categories"], path)
    images = _images(raw["images"], path)
    return _columns(_annotations(raw["annotations"], images, path), images, ids, names)


def _categories(raw: Sequence[Any], path: Path) -> tuple[list[int], list[str]]:
    pairs = [(one.get("id"), one.get("name")) for one in raw if isinstance(one, dict)]
    wrong = [pair for pair in pairs if not _is_int(pair[0]) or not isinstance(pair[1], str)]
    if len(pairs) != len(raw) or wrong or not pairs:
        raise _bad("'categories' is no list of {id, name}", path, "write one of each class, ids as numbers")
    ids, names = [int(str(one)) for one, _ in pairs], [str(name) for _, name in pairs]
    for what, values in (("id", ids), ("name", names)):
        if twice := _twice(values):
            raise _bad(f"two categories have the {what} {twice[0]!r}", path, "give each class one of its own")
    return ids, names


class _Images(NamedTuple):
    names: list[str]
    ids: list[int]
    sizes: list[tuple[int, int]]


def _images(raw: Sequence[Any], path: Path) -> _Images:
    images = _Images([], [], [])
    for place, one in enumerate(raw):
        name, number = (one.get("file_name"), one.get("id")) if isinstance(one, dict) else (None, None)
        if not isinstance(name, str) or not _is_int(number):
            raise _bad(f"image {place} of the list has no id or no file_name", path, "give it both")
        if not name.lower().endswith(IMAGE_SUFFIXES):
            raise _bad(
                f"'{name}' is no JPEG or PNG by its name", path, f"read are {', '.join(IMAGE_SUFFIXES)}"
            )
        if name.startswith("/") or ".." in name.split("/"):
            raise _bad(f"'{name}' leaves the folder of the images", path, "name it relative to that folder")
        size = one.get("height", 0), one.get("width", 0)
        images.names.append(name)
        images.ids.append(number)
        images.sizes.append(size if all(_is_int(side) and side > 0 for side in size) else (0, 0))
    for what, values in (("file_name", images.names), ("id", images.ids)):
        if twice := _twice(values):
            raise _bad(f"two images have the {what} {twice[0]!r}", path, "name each image once")
    return images


class _Annotations(NamedTuple):
    numbers: list[tuple[int, int, int, int]]  # image's place, id, category, crowd
    areas: list[float]
    boxes: list[list[float]]


def _annotations(raw: Sequence[Any], images: _Images, path: Path) -> _Annotations:
    image_of = {number: place for place, number in enumerate(images.ids)}
    kept = _Annotations([], [], [])
    for place, one in enumerate(raw):
        number = one.get("id", place + 1) if isinstance(one, dict) else None
        if not _is_int(number):
            raise _bad(f"annotation {place} of the list is none, or its id is no number", path, "correct it")
        image, category, area = one.get("image_id"), one.get("category_id"), one.get("area")
        if not _is_int(image) or image not in image_of:
            raise _bad(
                f"annotation {number} is of image {image}, which is not in the list",
                path,
                "add the image, or remove the annotation",
            )
        box = _box(one, number, path)
        category = category if _is_int(category) else UNKNOWN
        kept.numbers.append((image_of[image], number, category, 1 if one.get("iscrowd") else 0))
        kept.areas.append(area if _is_number(area) else box[2] * box[3])
        kept.boxes.append(box)
    return kept


def _columns(
    raw: _Annotations, images: _Images, category_ids: list[int], category_names: list[str]
) -> CocoIndex:
    class_of = {number: place for place, number in enumerate(category_ids)}
    numbers_A4 = np.array(raw.numbers, dtype=np.int64).reshape(-1, 4)
    order = np.lexsort((numbers_A4[:, 1], numbers_A4[:, 0]))
    counts = np.bincount(numbers_A4[:, 0], minlength=len(images.ids))
    categories = numbers_A4[order, 2]
    return CocoIndex(
        file_names=np.array(images.names),
        image_ids=np.array(images.ids, dtype=np.int64),
        sizes_N2=np.array(images.sizes, dtype=np.int64).reshape(-1, 2),
        first=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        ids=numbers_A4[order, 1],
        boxes_A4=np.array(raw.boxes, dtype=np.float64).reshape(-1, 4)[order],
        categories=categories,
        classes=np.array([class_of.get(one, UNKNOWN) for one in categories.tolist()], dtype=np.int64),
        areas=np.array(raw.areas, dtype=np.float64)[order],
        crowds=numbers_A4[order, 3],
        category_ids=np.array(category_ids, dtype=np.int64),
        category_names=np.array(category_names),
    )


def _box(annotation: Mapping[str, Any], number: int, path: Path) -> list[float]:
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(side) for side in box):
        raise _bad(f"annotation {number} has no bbox of four numbers", path, "give x, y, width and height")
    return [float(side) for side in box]


def _twice(values: Sequence[Any]) -> list[Any]:
    """Those that come a second time."""
    seen: set[Any] = set()
    return [one for one in values if one in seen or seen.add(one)]  # type: ignore[func-returns-value]


def _is_int(value: object) -> TypeGuard[int]:
    return type(value) is int and abs(value) < 1 << 53  # ids are kept as float64 beside the boxes


def _is_number(value: object) -> TypeGuard[float]:
    return type(value) is float or (type(value) is int and abs(value) < 1 << 1000)  # as a float holds


def _bad(what: str, path: Path, fix: str) -> BadSample:
    return BadSample(what, where=str(path), fix=fix)


def _unreadable(path: Path, why: str) -> BadSample:
    return BadSample(f"'{path.name}' cannot be read: {why}", where=str(path), fix="restore the file")
