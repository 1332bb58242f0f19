"""Objects in boxes as YOLO writes them: a text file per image, a line per object, numbers as shares of its
size.

A line is `class x y width height`, the centre first. More numbers are a polygon, `class x1 y1 x2 y2 ...`,
whose extremes are the box. An image without a text file has no objects. Names of the classes come from
data.yaml or classes.txt; of data.yaml only `names` is read, in the forms that are in use.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kdcache.cache.errors import LEAVE_OUT, BadOption, BadSample, Missing, Refused
from kdcache.cache.files.regular import read_text
from kdcache.cache.sources.boxes import LONG_SIDE_PX, BoxSource, canvas_of, check_box, objects_of
from kdcache.cache.sources.contract import indented
from kdcache.cache.sources.folder import NAMES_FILE, class_names_in
from kdcache.cache.sources.listing import ABSENT, find_images, header_size
from kdcache.cache.sources.tree import SPLITS

YAML_FILE = "data.yaml"
MAX_CLASSES = 1 << 16
_MEASURED = 256  # images whose headers are read for the canvas
_NAMES = re.compile(r"^names\s*:[ \t]*(.*)$", re.MULTILINE)
_ITEM = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)'|([^,'"\[\]{}]+))\s*(?:,|$)""")
_ENTRY = re.compile(r"^\s*(?:-|(\d+)\s*:)\s*(.+?)\s*$")


class Yolo(BoxSource):
    """Raises Missing where no file names the classes, BadSample for a line that is no box."""

    name = "yolo"
    layout = """
        data.yaml with names, or classes.txt: one class name per line
        images/{train,val,test}/*.jpg (or .png)
        labels/{train,val,test}/*.txt: class x y width height, as shares of the image
    """

    def __init__(self, root: Path, split: str) -> None:
        super().__init__(root, split)
        self.class_names = _class_names(self.root)
        self._images_at, self._labels_at = self.root / "images" / split, self.root / "labels" / split
        if not self._labels_at.is_dir():
            raise Missing(
                f"the labels of {self.name} split '{split}' are not there",
                where=str(self._labels_at),
                fix=f"the layout is\n{indented(self.layout)}",
            )
        self._images = find_images(self._images_at, "")
        self.keys: Sequence[str] = sorted(self._images)
        if not self.keys:
            raise Missing(
                f"{self.name} split '{split}' has no samples",
                where=str(self._images_at),
                fix=f"the layout is\n{indented(self.layout)}",
            )
        self._sizes: dict[str, tuple[int, int]] = {}
        self.default_crop = self._canvas()

    @property
    def label(self) -> str:
        """The folder's own name: of your data there may be several."""
        return self.root.name

    @classmethod
    def splits_in(cls, root: Path) -> tuple[str, ...]:
        return tuple(split for split in SPLITS if (root / "images" / split).is_dir())

    def image_path(self, index: int) -> Path:
        return self._images_at / self._images[self.keys[index]]

    def annotation_path(self, index: int) -> Path:
        return self._labels_at / f"{self.keys[index]}.txt"

    def objects(self, index: int) -> np.ndarray:
        """Boxes in pixels, which the image's header has to tell where there are any."""
        lines = self._lines(index)
        boxes, classes = [], []
        for number, line in lines:
            class_id, shares = self._read_line(line, f"line {number} of '{self.keys[index]}'", index)
            boxes.append(shares)
            classes.append(class_id)
        if not boxes:
            return objects_of(np.zeros((0, 4)), [], [])
        height, width = self.size(index)
        boxes_M4 = np.array(boxes) * [width, height, width, height]
        return objects_of(boxes_M4, classes, [0] * len(classes))

    def claimed_size(self, index: int) -> tuple[int, int] | None:
        del index
        return None

    def size(self, index: int) -> tuple[int, int]:
        key = self.keys[index]
        if key not in self._sizes:
            self._sizes[key] = super().size(index)
        return self._sizes[key]

    def keep(self, indices: Sequence[int]) -> None:
        self.keys = [self.keys[index] for index in indices]

    def _lines(self, index: int) -> list[tuple[int, str]]:
        """Number from 1 and text of the lines that are not empty."""
        path = self.annotation_path(index)
        try:
            text = read_text(path, what=f"the label of '{self.keys[index]}'")
        except FileNotFoundError:
            return []
        except (*ABSENT, ValueError) as error:
            raise BadSample(
                f"the label of '{self.keys[index]}' cannot be read: {error}",
                where=str(path),
                fix=f"replace the file with an intact copy, or {LEAVE_OUT}",
            ) from error
        return [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]

    def _read_line(self, line: str, what: str, index: int) -> tuple[int, list[float]]:
        """The class, and x1 y1 x2 y2 as shares of the image."""
        where = str(self.annotation_path(index))
        try:
            first, *numbers = [float(word) for word in line.split()]
        except ValueError as error:
            raise _no_box(what, line, where) from error
        if len(numbers) < 4 or len(numbers) % 2:
            raise _no_box(what, line, where)
        if len(numbers) == 4:
            x, y, width, height = numbers
            box = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
        else:
            box = [min(numbers[0::2]), min(numbers[1::2]), max(numbers[0::2]), max(numbers[1::2])]
        check_box(numbers if not np.isfinite(numbers).all() else box, what, where)
        if not first.is_integer() or not 0 <= first < len(self.class_names):
            raise BadSample(
                f"{what} is of class {first:g}, and there are {len(self.class_names)}",
                where=where,
                fix=f"classes are 0..{len(self.class_names) - 1}; correct it, or name every class",
            )
        return int(first), box

    def _canvas(self) -> tuple[int, int]:
        """Of the largest of the first images: no file lists the sizes."""
        sizes = []
        for key in self.keys[:_MEASURED]:
            try:
                sizes.append(header_size(self._images_at / self._images[key], key=key))
            except BadSample:  # reported with its name when samples are checked
                continue
        return canvas_of(max(sizes, key=lambda s: s[0] * s[1])) if sizes else (LONG_SIDE_PX, LONG_SIDE_PX)


def _no_box(what: str, line: str, where: str) -> BadSample:
    return BadSample(
        f"{what} is no box: '{line.strip()[:60]}'",
        where=where,
        fix=f"write 'class x y width height', or the class and pairs of a polygon; or {LEAVE_OUT}",
    )


def _class_names(root: Path) -> tuple[str, ...]:
    path = root / YAML_FILE
    if not path.is_file():
        return class_names_in(root, limit=MAX_CLASSES)
    try:
        names = names_in_yaml(read_text(path))
    except Refused:
        raise
    except (OSError, ValueError) as error:
        raise BadOption(
            f"'{path.name}' cannot be read: {error}", where=str(path), fix="write it in UTF-8, or restore it"
        ) from error
    if not names or len(set(names)) != len(names):
        raise BadOption(
            f"'names' of {YAML_FILE} gives {len(names)} names, {len(set(names))} of them different",
            where=str(path),
            fix=f"write names: [one, two], or a line '- one' or '0: one' for each; or write {NAMES_FILE} and "
            f"remove {YAML_FILE}",
        )
    return names


def names_in_yaml(text: str) -> tuple[str, ...]:
    """`names` of a data.yaml: a list in brackets, perhaps over several lines, or a line for each, '- name' or
    '0: name' with numbers from 0. () for anything else."""
    start = _NAMES.search(text)
    if start is None:
        return ()
    rest = f" {start[1]}".partition(" #")[0].strip()
    if rest.startswith("["):
        inside, bracket, _ = text[start.start(1) :].strip()[1:].partition("]")
        return tuple(_items(" ".join(inside.split()))) if bracket else ()
    if rest:
        return ()
    names: list[str] = []
    for line in text[start.end() :].splitlines()[1:]:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        entry = _ENTRY.match(line)
        if entry is None or (entry[1] is not None and int(entry[1]) != len(names)):
            if line[:1].isspace() or line.startswith("-"):
                return ()
            break  # the next key of the file
        names.append(_unquoted(entry[2].partition(" #")[0].strip()))
    return tuple(names)


def _items(text: str) -> list[str]:
    """Items of a list between brackets; [] for text that is none."""
    names: list[str] = []
    place = 0
    while place < len(text):
        item = _ITEM.match(text, place)
        if item is None or item.end() == place:
            return []
        names.append(next(one for one in item.groups() if one is not None).strip())
        place = item.end()
    return names


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text
