"""Objects in boxes as PASCAL VOC writes them: one XML per image (Everingham et al. 2010), 20 classes.

Where `<database>` names VOC, corners count pixels from 1 and belong to the box: left and top become less by
1, right and bottom are edges then. Any other file is taken as written; `notes` says which it was.
`<difficult>` objects are left out of training and judged as crowds.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from kdcache.cache.errors import LEAVE_OUT, BadSample, Missing
from kdcache.cache.sources.boxes import BoxSource, check_box, objects_of
from kdcache.cache.sources.contract import indented
from kdcache.cache.sources.folder import NAMES_FILE, class_names_in
from kdcache.cache.sources.listing import find_images, listed_keys, read_bytes
from kdcache.cache.sources.tree import SPLITS

MAX_BYTES = 16 << 20  # of one annotation

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
_INSIDE = ("", "VOC2012", "VOC2007", "VOCdevkit/VOC2012", "VOCdevkit/VOC2007")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_MAX_CLASSES = 1 << 16


class VocBoxes(BoxSource):
    """Raises Missing where annotations or images are not there, BadSample for an XML that cannot be read."""

    name = "voc-boxes"
    layout = """
        JPEGImages/*.jpg
        Annotations/*.xml
        ImageSets/Main/{train,val,test}.txt
        classes.txt where the classes are not VOC's 20: one name per line
        (the folder itself, or one that holds it as VOC2012, VOC2007 or below VOCdevkit)
    """
    default_crop = (512, 512)

    def __init__(self, root: Path, split: str) -> None:
        super().__init__(root, split)
        inside = _inside(self.root)
        assert inside is not None, "splits_in looked there"
        self._images_at, self._annotations_at = inside / "JPEGImages", inside / "Annotations"
        if not self._annotations_at.is_dir():
            raise Missing(
                f"the annotations of {self.name} split '{split}' are not there",
                where=str(self._annotations_at),
                fix=f"the layout is\n{indented(self.layout)}",
            )
        own = next((at for at in (self.root, inside) if (at / NAMES_FILE).is_file()), None)
        self.class_names = class_names_in(own, limit=_MAX_CLASSES) if own else CLASSES
        self._named = bool(own)
        self._images = find_images(self._images_at, "")
        list_file = _list_of(inside, split)
        self.keys: Sequence[str] = listed_keys(list_file)
        if not self.keys:
            raise Missing(
                f"{self.name} split '{split}' has no samples",
                where=str(list_file),
                fix=f"the layout is\n{indented(self.layout)}",
            )
        # Size and objects are asked for one after the other: each file is read once for both.
        self._annotation = lru_cache(maxsize=16)(self._read)

    @property
    def label(self) -> str:
        """The folder's own name where the classes are yours: there may be several."""
        return self.root.name if self._named else self.name

    @property
    def classes_hint(self) -> str:
        if self._named:
            return ""
        return (
            f"its classes are taken for VOC's 20: write yours, one name per line, to {self.root / NAMES_FILE}"
        )

    @classmethod
    def splits_in(cls, root: Path) -> tuple[str, ...]:
        inside = _inside(root)
        return tuple(s for s in SPLITS if _list_of(inside, s).is_file()) if inside else ()

    @property
    def notes(self) -> tuple[str, ...]:
        try:
            counted = _counts_from_one(self._annotation(self.keys[0]))
        except BadSample:  # reported with its name when samples are checked
            return super().notes
        how = "counted from 1 with both ends, as VOC does" if counted else "taken as written"
        return (f"corners are {how}: that is what <database> of '{self.keys[0]}' says", *super().notes)

    def image_path(self, index: int) -> Path:
        key = self.keys[index]
        return self._images_at / self._images.get(key, f"{key}.jpg")

    def annotation_path(self, index: int) -> Path:
        return self._path_of(self.keys[index])

    def objects(self, index: int) -> np.ndarray:
        key = self.keys[index]
        annotation, where = self._annotation(key), str(self._path_of(key))
        shift = 1.0 if _counts_from_one(annotation) else 0.0
        boxes, classes, hard = [], [], []
        for number, one in enumerate(annotation.iter("object"), start=1):
            what = f"object {number} of '{key}'"
            box = [self._corner(one, name, what, where) for name in _CORNERS]
            box[0], box[1] = box[0] - shift, box[1] - shift
            check_box(box, what, where)
            boxes.append(box)
            classes.append(self._class_of(one, what, where))
            hard.append(int((one.findtext("difficult") or "0").strip() == "1"))
        return objects_of(np.array(boxes, dtype=np.float64), classes, hard)

    def claimed_size(self, index: int) -> tuple[int, int] | None:
        size = self._annotation(self.keys[index]).find("size")
        sides = [] if size is None else [(size.findtext(name) or "").strip() for name in ("height", "width")]
        if not all(side.isdecimal() and int(side) for side in sides) or not sides:
            return None  # some tools write 0
        return int(sides[0]), int(sides[1])

    def keep(self, indices: Sequence[int]) -> None:
        self.keys = [self.keys[index] for index in indices]

    def _path_of(self, key: str) -> Path:
        return self._annotations_at / f"{key}.xml"

    def _read(self, key: str) -> ElementTree.Element:
        encoded = read_bytes(self._path_of(key), key=key, kind="annotation")
        try:
            if len(encoded) > MAX_BYTES:
                raise ValueError(f"it has {len(encoded)} bytes, at most {MAX_BYTES} are read")
            if b"<!ENTITY" in encoded:  # names that stand for others, many times over
                raise ValueError("it defines entities")
            return ElementTree.fromstring(encoded)
        except (ElementTree.ParseError, ValueError) as error:
            raise BadSample(
                f"the annotation of '{key}' cannot be read: {error}",
                where=str(self._path_of(key)),
                fix=f"replace the file with an intact copy, or {LEAVE_OUT}",
            ) from error

    def _corner(self, one: ElementTree.Element, name: str, what: str, where: str) -> float:
        text = one.findtext(f"bndbox/{name}") or ""
        try:
            return float(text)
        except ValueError as error:
            raise BadSample(
                f"{what} has no number as its {name}: '{text.strip()}'",
                where=where,
                fix=f"correct it, or {LEAVE_OUT}",
            ) from error

    def _class_of(self, one: ElementTree.Element, what: str, where: str) -> int:
        name = (one.findtext("name") or "").strip()
        if name not in self.class_names:
            shown = ", ".join(self.class_names[:5]) + (", ..." if len(self.class_names) > 5 else "")
            raise BadSample(
                f"{what} is of class '{name}', which is not in the list",
                where=where,
                fix=f"classes are {shown}; correct it, or name all classes in {self.root / NAMES_FILE}",
            )
        return self.class_names.index(name)


def _counts_from_one(annotation: ElementTree.Element) -> bool:
    return "VOC" in (annotation.findtext("source/database") or "")


def _inside(root: Path) -> Path | None:
    """The folder that holds images and lists of boxes."""
    places = (root / name for name in _INSIDE)
    return next(
        (at for at in places if (at / "JPEGImages").is_dir() and (at / "ImageSets/Main").is_dir()), None
    )


def _list_of(inside: Path, split: str) -> Path:
    return inside / "ImageSets/Main" / f"{split}.txt"
