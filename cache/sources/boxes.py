"""What sources of objects in boxes share: truths as JSON, sizes that must be those of the images, what is
left out of training.

A dataset says where the image of a sample is, which objects are annotated (`objects`), and what size the
annotation claims. Objects are (M, 8) float64, as `tasks.detection` describes them, in the order of their ids.
Training uses boxes that are no crowds and have at least a pixel of both sides inside the image; images
without one are left out of it (`leave_out_empty`).
"""

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kdcache.cache.boxes import usable
from kdcache.cache.errors import LEAVE_OUT, BadSample, Missing
from kdcache.cache.sources.contract import BaseSource, Described, stamp_of_files
from kdcache.cache.sources.listing import absent, header_size, image_size, read_bytes, transposed_by_exif
from kdcache.cache.spec import Task
from kdcache.cache.tasks.detection import AREA, CLASS, CROWD, ID, NUM_STORED, encode_objects
from kdcache.cache.tasks.table import DETECTION

LONG_SIDE_PX = 640  # of the canvas of data whose canvas no paper gives
STEP_PX = 32  # both sides of a canvas are multiples of it
_BOX_BYTES, _LABEL_BYTES = 90, 60  # of the JSON of one box, and of none


class Usable(NamedTuple):
    """What training may use of a split."""

    per_sample: (
        np.ndarray
    )  # (samples,) int64; of a sample that cannot be used 1: it is reported, not left out
    num_flat: int  # boxes that are no crowds and have no area inside their image
    bad: frozenset[str]  # keys of the samples that cannot be used


class BoxSource(BaseSource):
    """Raises BadSample for an annotation whose size is not that of its image, and for boxes that are none."""

    task: Task = DETECTION
    _left_out = 0  # images

    @abstractmethod
    def image_path(self, index: int) -> Path: ...

    @abstractmethod
    def annotation_path(self, index: int) -> Path:
        """The file that holds the sample's boxes."""

    @abstractmethod
    def objects(self, index: int) -> np.ndarray:
        """(M, 8) float64 as written. Raises BadSample for what is no box or no class."""

    @abstractmethod
    def claimed_size(self, index: int) -> tuple[int, int] | None:
        """(height, width) that the annotation says; None where it says none."""

    @abstractmethod
    def keep(self, indices: Sequence[int]) -> None:
        """Forget all other samples."""

    @property
    def category_ids(self) -> tuple[int, ...]:
        """What a class is called in files of results: its number, where the data have none of their own."""
        return tuple(range(len(self.class_names)))

    def image_id(self, index: int) -> int | str:
        """What an image is called in files of results."""
        return self.keys[index]

    def image_bytes(self, index: int) -> bytes:
        return read_bytes(self.image_path(index), key=self.keys[index], kind="image")

    def label_bytes(self, index: int) -> bytes:
        objects_M8 = self.objects(index)
        return encode_objects(objects_M8[np.argsort(objects_M8[:, ID], kind="stable")])

    def files(self, index: int) -> tuple[Path, ...]:
        return self.image_path(index), self.annotation_path(index)

    def content(self, index: int) -> tuple[bytes, ...]:
        """The image and its own annotations in the order of their ids, wherever these are written."""
        return self.image_bytes(index), self.label_bytes(index)

    def size(self, index: int) -> tuple[int, int]:
        return self._agreed(index, header_size(self.image_path(index), key=self.keys[index]))

    def unusable(self) -> list[int]:
        """Those without an image, and those whose boxes are none."""
        missing = absent((self.image_path(index),) for index in range(len(self.keys)))
        bad = [index for index, key in enumerate(self.keys) if key in self.usable_boxes.bad]
        return sorted({*missing, *bad})

    def check(self, index: int) -> tuple[int, int]:
        size = self._agreed(index, image_size(self.image_path(index), key=self.keys[index]))
        self.objects(index)
        return size

    def num_bytes(self, index: int) -> int:
        try:
            num_boxes = len(self.objects(index))
        except BadSample:
            num_boxes = 0
        return sum(stamp_of_files([self.image_path(index)])[:1]) + num_boxes * _BOX_BYTES + _LABEL_BYTES

    def describe(self) -> Described:
        return {
            "name": self.name,
            "split": self.split,
            "task": self.task,
            "class_names": list(self.class_names),
        }

    @property
    def notes(self) -> tuple[str, ...]:
        flat = self.usable_boxes.num_flat
        said = [f"{flat} {'box has' if flat == 1 else 'boxes have'} no area"] if flat else []
        if self._left_out:
            images = "image has" if self._left_out == 1 else "images have"
            said.append(f"{self._left_out} {images} no usable box; --keep-empty keeps them")
        return tuple(said)

    def leave_out_empty(self) -> int:
        counts = self.usable_boxes.per_sample
        kept = np.flatnonzero(counts).tolist()
        if not kept:
            raise Missing(
                f"no image of {self.name} split '{self.split}' has a box that training can use",
                where=str(self.root),
                fix="add boxes, or train on images without any with --keep-empty",
            )
        whole = self.usable_boxes
        self._left_out = len(counts) - len(kept)
        self.keep(kept)
        self.usable_boxes = whole._replace(per_sample=counts[kept])
        return self._left_out

    @cached_property
    def usable_boxes(self) -> Usable:
        """Reads every annotation once, and headers where annotations say no size."""
        counts, num_flat = np.ones(len(self.keys), dtype=np.int64), 0
        bad = set()
        for index in range(len(self.keys)):
            try:
                objects_M8 = self.objects(index)
                single_M4 = objects_M8[objects_M8[:, CROWD] == 0][:, :4]
                size = (self.claimed_size(index) or self.size(index)) if len(single_M4) else (1, 1)
            except BadSample:  # reported with its name when it is packed or read, or by `refuse_unusable`
                bad.add(self.keys[index])
                continue
            counts[index] = usable(single_M4, size).sum()
            num_flat += len(single_M4) - int(counts[index])
        return Usable(counts, num_flat, frozenset(bad))

    def _agreed(self, index: int, size: tuple[int, int]) -> tuple[int, int]:
        claimed = self.claimed_size(index)
        if claimed is None or claimed == size:
            return size
        path = self.image_path(index)
        turned = claimed[::-1] == size and transposed_by_exif(path)
        raise BadSample(
            f"the image of '{self.keys[index]}' has {size[0]}x{size[1]} pixels, its annotation says "
            f"{claimed[0]}x{claimed[1]} (height x width)",
            where=f"{path} and {self.annotation_path(index)}",
            fix="the image's EXIF turns it, which is ignored here: store it turned"
            if turned
            else f"write the image's own size, and boxes in its pixels; or {LEAVE_OUT}",
        )


def objects_of(boxes_M4: np.ndarray, classes: Sequence[int], crowd: Sequence[int]) -> np.ndarray:
    """(M, 8) of boxes in the order of a file: the id is the place, from 1, the area that of the box."""
    objects_M8 = np.zeros((len(classes), NUM_STORED))
    objects_M8[:, :CLASS] = boxes_M4.reshape(-1, 4)
    objects_M8[:, CLASS], objects_M8[:, CROWD] = classes, crowd
    objects_M8[:, AREA] = (objects_M8[:, 2:4] - objects_M8[:, :2]).prod(axis=1)
    objects_M8[:, ID] = np.arange(1, len(classes) + 1)
    return objects_M8


def check_box(box: Sequence[float], what: str, where: str) -> None:
    """Raises BadSample for x1 y1 x2 y2 that are no box; `what` names the annotation."""
    if not np.isfinite(box).all():
        raise BadSample(
            f"{what} has a number that is none: {', '.join(f'{side:g}' for side in box)}",
            where=where,
            fix=f"correct it, or {LEAVE_OUT}",
        )
    width, height = box[2] - box[0], box[3] - box[1]
    if min(width, height) < 0:
        raise BadSample(
            f"{what} is {width:g} wide and {height:g} high",
            where=where,
            fix="give left, top, right and bottom in this order, or the corner and two sides of 0 or more; "
            f"or {LEAVE_OUT}",
        )


def canvas_of(largest: tuple[int, int]) -> tuple[int, int]:
    """A canvas of the aspect of an image of (height, width) pixels, its longer side 640."""
    longer = max(largest)
    height, width = (
        max(STEP_PX, round(side / longer * LONG_SIDE_PX / STEP_PX) * STEP_PX) for side in largest
    )
    return height, width
