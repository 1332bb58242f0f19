"""Objects in boxes from a COCO json: COCO 2017 (Lin et al. 2014; 118287 / 5000 images, 80 classes), and any
other json of that form beside a folder of images.

Classes are the json's categories in their order, numbered from 0 whatever their ids; ids go back into files
of results. Crowds are left out of training and judged as crowds.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from kdcache.cache.boxes import usable
from kdcache.cache.errors import LEAVE_OUT, BadSample, Missing
from kdcache.cache.fingerprint import digest16
from kdcache.cache.sources.boxes import LONG_SIDE_PX, BoxSource, Usable, canvas_of, check_box
from kdcache.cache.sources.coco_json import UNKNOWN, read_coco
from kdcache.cache.sources.contract import indented, stamp_of_files
from kdcache.cache.sources.listing import require_text
from kdcache.cache.sources.tree import SPLITS
from kdcache.cache.tasks.detection import AREA, CLASS, CROWD, ID, NUM_STORED

YEAR = "2017"
_JSONS = ("annotations/instances_{split}2017.json", "annotations/instances_{split}.json", "{split}.json",
          "annotations/{split}.json")  # fmt: skip
_FOLDERS = ("{split}2017", "images/{split}2017", "images/{split}", "images", "{split}", ".")


class Coco(BoxSource):
    """Raises BadSample for annotations of nothing, and where two splits have other classes."""

    name = "coco"
    layout = """
        annotations/instances_{train,val}2017.json and {train,val}2017/*.jpg
        or {train,val,test}.json and images/*.jpg (or .png): any COCO json, its images below that folder
    """

    def __init__(self, root: Path, split: str) -> None:
        super().__init__(root, split)
        self._json = _json_of(self.root, split)
        self._index = read_coco(self._json, self.layout)
        self.class_names = tuple(self._index.category_names.tolist())
        self._check_classes()
        self._names: list[str] = self._index.file_names.tolist()
        self._places = np.arange(len(self._names))
        self.keys: Sequence[str] = self._checked_keys()
        self._folder = self._images_folder()
        self.default_crop = self._canvas()

    @property
    def label(self) -> str:
        """The folder's own name where it is not COCO 2017: of your data there may be several."""
        return self.name if self._published else self.root.name

    @classmethod
    def splits_in(cls, root: Path) -> tuple[str, ...]:
        return tuple(split for split in SPLITS if _json_of(root, split).is_file())

    @property
    def category_ids(self) -> tuple[int, ...]:
        return tuple(self._index.category_ids.tolist())

    def image_id(self, index: int) -> int:
        return int(self._index.image_ids[self._places[index]])

    def image_path(self, index: int) -> Path:
        return self._folder / self._names[int(self._places[index])]

    def annotation_path(self, index: int) -> Path:
        return self._json

    def claimed_size(self, index: int) -> tuple[int, int] | None:
        height, width = self._index.sizes_N2[self._places[index]].tolist()
        return (height, width) if height else None

    def objects(self, index: int) -> np.ndarray:
        rows, x = self._rows(index), self._index
        objects_M8 = np.empty((rows.stop - rows.start, NUM_STORED))
        objects_M8[:, 0:2] = x.boxes_A4[rows, :2]
        objects_M8[:, 2:4] = x.boxes_A4[rows, :2] + x.boxes_A4[rows, 2:]
        objects_M8[:, CLASS], objects_M8[:, CROWD] = x.classes[rows], x.crowds[rows]
        objects_M8[:, AREA], objects_M8[:, ID] = x.areas[rows], x.ids[rows]
        if self._bad_places[rows].any():
            self._report(objects_M8, rows, self.keys[index])
        return objects_M8

    def stamp(self, index: int) -> list[int]:
        """The image's, and a digest of its own annotations: a json that was touched is not another one."""
        image = stamp_of_files([self.image_path(index)])
        rows, x = self._rows(index), self._index
        columns = (x.ids, x.boxes_A4, x.classes, x.areas, x.crowds)
        digest = digest16(
            *(np.ascontiguousarray(c[rows]).tobytes() for c in columns),
            str(x.sizes_N2[self._places[index]]).encode(),
        )
        return [*image, int.from_bytes(digest[:7], "little"), 0] if image else []

    def keep(self, indices: Sequence[int]) -> None:
        self._places = self._places[list(indices)]
        self.keys = [self.keys[index] for index in indices]

    @cached_property
    def usable_boxes(self) -> Usable:
        """All at once; one by one only where the json says no sizes."""
        x = self._index
        if not x.sizes_N2.all():
            return super().usable_boxes
        counts = np.diff(x.first)
        sizes_A2 = np.repeat(x.sizes_N2, counts, axis=0)
        boxes_A4 = np.concatenate([x.boxes_A4[:, :2], x.boxes_A4[:, :2] + x.boxes_A4[:, 2:]], axis=1)
        # Boxes as if each were of an image of one size: sides stay as they are inside, and so what is cut.
        scale_A4 = np.concatenate([sizes_A2[:, ::-1]] * 2, axis=1)
        inside_A4 = np.clip(np.nan_to_num(boxes_A4), 0, scale_A4)
        good_A = usable(inside_A4, (int(1e9), int(1e9)))
        single_A = (x.crowds == 0) & ~self._bad_places
        image_A = np.repeat(np.arange(len(counts)), counts)
        per_image = np.bincount(image_A[single_A & good_A], minlength=len(counts))
        per_image[image_A[self._bad_places]] += 1  # reported when it is packed or read, never left out
        bad = np.isin(self._places, image_A[self._bad_places]).nonzero()[0].tolist()
        bad_keys = frozenset(self.keys[index] for index in bad)
        return Usable(per_image[self._places], int((single_A & ~good_A).sum()), bad_keys)

    @cached_property
    def _bad_places(self) -> np.ndarray:
        """(A,) bool: annotations that no training and no judge can use."""
        x = self._index
        finite = np.isfinite(x.boxes_A4).all(axis=1) & np.isfinite(x.areas)
        negative = (np.nan_to_num(x.boxes_A4[:, 2:]) < 0).any(axis=1)
        return np.asarray((x.classes == UNKNOWN) | ~finite | negative)

    def _report(self, objects_M8: np.ndarray, rows: slice, key: str) -> None:
        for objects_8, category in zip(objects_M8, self._index.categories[rows].tolist(), strict=True):
            what = f"annotation {int(objects_8[ID])} of '{key}'"
            check_box(objects_8[:4].tolist(), what, str(self._json))
            if objects_8[CLASS] == UNKNOWN:
                raise BadSample(
                    f"{what} is of category {category}, which is not in the list",
                    where=str(self._json),
                    fix=f"ids of categories are {_listed(self._index.category_ids.tolist())}; correct it, or "
                    f"{LEAVE_OUT}",
                )
        raise BadSample(
            f"an annotation of '{key}' has an area that is no number",
            where=str(self._json),
            fix=f"correct it, or {LEAVE_OUT}",
        )

    def _rows(self, index: int) -> slice:
        place = int(self._places[index])
        return slice(int(self._index.first[place]), int(self._index.first[place + 1]))

    @property
    def _published(self) -> bool:
        return self._json.name == f"instances_{self.split}{YEAR}.json"

    def _check_classes(self) -> None:
        """Raises BadSample where another split numbers other classes."""
        for split in self.splits_in(self.root):
            other = _json_of(self.root, split)
            names = self.class_names
            if split != self.split:
                names = tuple(read_coco(other, self.layout).category_names.tolist())
            if names != self.class_names:
                raise BadSample(
                    f"the classes of '{self.split}' and '{split}' differ: {_listed(self.class_names)} and "
                    f"{_listed(names)}",
                    where=f"{self._json} and {other}",
                    fix="give both files the same categories in the same order",
                )

    def _checked_keys(self) -> list[str]:
        keys = [name[: name.rindex(".")] for name in self._names]
        if len(set(keys)) < len(keys):
            seen: dict[str, str] = {}
            for key, name in zip(keys, self._names, strict=True):
                if key in seen:
                    raise BadSample(
                        f"two images have the key '{key}': {seen[key]} and {name}",
                        where=str(self._json),
                        fix="a key is the path without suffix; rename or remove one of the two",
                    )
                seen[key] = name
        for key in keys:
            require_text(key, self._json)
        return keys

    def _images_folder(self) -> Path:
        folders = [self.root / one.format(split=self.split) for one in _FOLDERS]
        holding = next((one for one in folders if (one / self._names[0]).is_file()), None)
        existing = holding or next((one for one in folders[:-1] if one.is_dir()), None)
        if existing is None:
            raise Missing(
                f"the images of {self.name} split '{self.split}' are not there: no '{self._names[0]}'",
                where=str(self.root),
                fix=f"the layout is\n{indented(self.layout)}",
            )
        return existing

    def _canvas(self) -> tuple[int, int]:
        sizes_N2 = self._index.sizes_N2
        if self._published or not sizes_N2.any():
            return LONG_SIDE_PX, LONG_SIDE_PX
        height, width = sizes_N2[sizes_N2.prod(axis=1).argmax()].tolist()
        return canvas_of((height, width))


def _json_of(root: Path, split: str) -> Path:
    """The json of a split; where there is none, the path of the published one."""
    paths = [root / one.format(split=split) for one in _JSONS]
    return next((path for path in paths if path.is_file()), paths[0])


def _listed(values: Sequence[object]) -> str:
    shown = ", ".join(str(value) for value in values[:10])
    return shown + (", ..." if len(values) > 10 else "")
