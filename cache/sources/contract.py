"""What a source gives: keys, encoded images, and labels: grey PNGs of train ids, the image's class, or boxes.

`Source` is the contract. `BaseSource` carries what all sources of this project share. `FileSource` is the
base of segmentation datasets: a dataset adds where its folders are (`trees`), what its classes are called and
which train id each stored value becomes (`class_map_of`). Classification lies in `arrays` and `imagefolder`,
detection in `boxes`.
Opening lists one folder or reads one list or array file, and opens no image; `check` decodes one sample.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np

from kdcache.cache.errors import BadSample, Missing
from kdcache.cache.files.system import user_path
from kdcache.cache.sources.labels import ClassMap, Label, decode_label, train_id_png
from kdcache.cache.sources.listing import (
    absent,
    find_images,
    header_size,
    image_size,
    listed_keys,
    read_bytes,
    require_text,
    transposed_by_exif,
)
from kdcache.cache.sources.remarks import depth_remarks, label_remarks
from kdcache.cache.sources.tree import Tree
from kdcache.cache.spec import Task
from kdcache.cache.tasks.table import SEGMENTATION
from kdcache.cache.visible import INDENT

Described = dict[str, str | int | list[str]]


class Source(Protocol):
    """Constructed as `Class(root, split)`. An index counts samples from 0, in the order of `keys`."""

    @property
    def name(self) -> str: ...  # as in SOURCES: 'camvid'

    @property
    def task(self) -> Task: ...

    @property
    def augment(self) -> str: ...  # recipe text of the published training; "" is the task's default

    @property
    def label(self) -> str: ...  # what tells two data sets of one kind apart, wherever they lie

    root: Path  # absolute
    split: str
    class_names: tuple[str, ...]  # by train id
    default_crop: tuple[int, int]  # (height, width) in pixels of a network's training input
    keys: Sequence[str]  # unique: a posix path without suffix, or 'train/00012' for a row of an array

    def image_bytes(self, index: int) -> bytes:
        """The file's own bytes, JPEG or PNG; a row of an array as a lossless PNG. Raises BadSample."""

    def label_bytes(self, index: int) -> bytes:
        """Segmentation: an 8-bit grey PNG of train ids, 255 = ignore. Classification: the class id in
        ASCII, b"7". Detection: JSON of boxes, as `tasks.detection` describes it. Raises BadSample, as `check`
        does for a label."""

    def files(self, index: int) -> tuple[Path, ...]:
        """The files that the sample is read from; rows of one array share theirs."""

    def stamp(self, index: int) -> list[int]:
        """Pairs of numbers that change with the sample: size and time of change (ns) of each of its files,
        or of a file that many samples share the digest of its own part and 0. Opens no image; [] where no
        file is there."""

    def content(self, index: int) -> tuple[bytes, ...]:
        """What the sample's digest is taken over. Raises BadSample when a file is missing."""

    def size(self, index: int) -> tuple[int, int]:
        """The image's (height, width) in pixels, from its header alone. Raises BadSample."""

    def num_bytes(self, index: int) -> int:
        """About the bytes that image and label take, without reading them; 0 where they are missing."""

    def check(self, index: int) -> tuple[int, int]:
        """Decode image and label completely; returns the image's (height, width) in pixels.

        Raises BadSample, naming key and file, for an image or label that is missing or cannot be decoded,
        for two different sizes, and for a label value outside the class map.
        """

    def refuse_unusable(self) -> None:
        """Raises BadSample, naming the first and how many, for samples of which the folders' listings and the
        annotations alone show that they cannot be read. Opens no image but where boxes are shares of it."""

    def describe(self) -> Described:
        """What a cache's identity holds of its source: name, split, classes, class map, and the task where
        it is not segmentation. No directory."""

    @property
    def classes_hint(self) -> str: ...  # as BaseSource has it

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person who trains on these data should know, a line each; may read all labels once."""


class ClassSource(Source, Protocol):
    """A source of classification: one class for a whole image."""

    def class_of(self, index: int) -> int:
        """The class id, 0 .. len(class_names) - 1."""


class BaseSource(ABC):
    """Shared by all sources. Raises Missing where the folder or the split is not there."""

    name: ClassVar[str]
    layout: ClassVar[str]  # the files that are expected, one per line, for the error of a missing one
    task: Task
    augment: str = ""
    class_names: tuple[str, ...]
    default_crop: tuple[int, int]
    keys: Sequence[str]

    def __init__(self, root: Path, split: str) -> None:
        self.root = user_path(root).absolute()
        require_text(str(self.root), self.root)
        existing = self.splits_in(self.root) if self.root.exists() else ()
        if not existing:
            raise self.missing_folder(self.root)
        if split not in existing:
            raise self._missing_split(split, existing)
        self.split = split

    @classmethod
    @abstractmethod
    def splits_in(cls, root: Path) -> tuple[str, ...]:
        """Splits that exist below `root`, 'train' first; empty when nothing is recognised."""

    @classmethod
    def missing_folder(cls, root: Path) -> Missing:
        """The error for a root at which `splits_in` finds nothing; shows the expected layout."""
        why = "holds nothing of the expected layout" if root.is_dir() else "does not exist"
        what = "this is a file, and a folder is asked for" if root.is_file() else f"the folder {why}"
        return Missing(
            f"no {cls.name} images: {what}",
            where=str(root),
            fix=f"give the folder that holds\n{indented(cls.layout)}",
        )

    @property
    def label(self) -> str:
        """The name of a published data set, which is the same everywhere."""
        return self.name

    @abstractmethod
    def image_bytes(self, index: int) -> bytes: ...
    @abstractmethod
    def label_bytes(self, index: int) -> bytes: ...
    @abstractmethod
    def files(self, index: int) -> tuple[Path, ...]: ...
    @abstractmethod
    def content(self, index: int) -> tuple[bytes, ...]: ...
    @abstractmethod
    def size(self, index: int) -> tuple[int, int]: ...
    @abstractmethod
    def check(self, index: int) -> tuple[int, int]: ...
    @abstractmethod
    def describe(self) -> Described: ...

    def stamp(self, index: int) -> list[int]:
        return stamp_of_files(self.files(index))

    def unusable(self) -> list[int]:
        """Samples that `refuse_unusable` refuses, in order; none where whatever is listed was found there."""
        return []

    def refuse_unusable(self) -> None:
        bad = self.unusable()
        if not bad:
            return
        try:
            self.check(bad[0])
            self.label_bytes(bad[0])
        except BadSample as error:
            many = f" ({len(bad)} of {len(self.keys)} samples of '{self.split}' cannot be used)"
            raise BadSample(error.what + many, where=error.where, fix=error.fix) from error

    @property
    def notes(self) -> tuple[str, ...]:
        return ()

    @property
    def classes_hint(self) -> str:
        """Which file would have named these classes, where they are a published set's for want of it; ''
        where the data name their own, or could not."""
        return ""

    def leave_out_empty(self) -> int:
        """Drop samples from which nothing can be learnt, before any index is used; how many. Raises Missing
        where nothing is left."""
        return 0

    def num_bytes(self, index: int) -> int:
        return sum(path.stat().st_size for path in self.files(index) if path.is_file())

    def _missing_split(self, split: str, existing: Sequence[str]) -> Missing:
        return Missing(
            f"{self.name} has no split '{split}'",
            where=str(self.root),
            fix=f"splits that exist: {', '.join(existing)}; to add one, the layout is\n"
            f"{indented(self.layout)}",
        )


class FileSource(BaseSource):
    """Segmentation: one image and one label file a sample. Raises Missing where the label folder is not
    there."""

    task: Task = SEGMENTATION

    def __init__(self, root: Path, split: str) -> None:
        super().__init__(root, split)
        self._tree = self.trees(self.root)[split]
        if not self._tree.labels.is_dir():
            raise self._missing_labels()
        self.class_map = self.class_map_of(self._tree)
        self._images = find_images(self._tree.images, self._tree.image_ending)
        listed = listed_keys(self._tree.list_file) if self._tree.list_file else None
        self.keys: Sequence[str] = sorted(self._images) if listed is None else listed
        if not self.keys:
            raise self._no_samples()

    @classmethod
    @abstractmethod
    def trees(cls, root: Path) -> dict[str, Tree]:
        """Splits that exist below `root`, in the order train, val, test; empty when nothing is recognised."""

    @classmethod
    def splits_in(cls, root: Path) -> tuple[str, ...]:
        return tuple(cls.trees(root))

    @abstractmethod
    def class_map_of(self, tree: Tree) -> ClassMap:
        """Which train id each value stored in this tree's labels becomes."""

    def image_path(self, index: int) -> Path:
        key = self.keys[index]
        # A listed image that no file matches gets the usual name, so that the error can say what was looked
        # for.
        return self._tree.images / self._images.get(key, f"{key}{self._tree.image_ending}.jpg")

    def label_path(self, index: int) -> Path:
        return self._tree.labels / f"{self.keys[index]}{self._tree.label_ending}"

    def image_bytes(self, index: int) -> bytes:
        return read_bytes(self.image_path(index), key=self.keys[index], kind="image")

    def label_bytes(self, index: int) -> bytes:
        key, path = self.keys[index], self.label_path(index)
        stored = self._stored_label(index)
        label = self._decoded(stored, index)
        # Here and not in `check` alone: who reads samples without building a cache checks none.
        if label.ids_HW.shape != (size := self.size(index)):
            raise self._sizes_differ(index, size, label.ids_HW.shape)
        return train_id_png(stored, self.class_map, key=key, path=path, label=label)

    def files(self, index: int) -> tuple[Path, ...]:
        return self.image_path(index), self.label_path(index)

    def content(self, index: int) -> tuple[bytes, ...]:
        return self.image_bytes(index), self._stored_label(index)

    def size(self, index: int) -> tuple[int, int]:
        return header_size(self.image_path(index), key=self.keys[index])

    def check(self, index: int) -> tuple[int, int]:
        key, path = self.keys[index], self.label_path(index)
        size = image_size(self.image_path(index), key=key)
        label = self._decoded(self._stored_label(index), index)
        if label.ids_HW.shape != size:
            raise self._sizes_differ(index, size, label.ids_HW.shape)
        self.class_map.require(label, key=key, path=path)
        return size

    def unusable(self) -> list[int]:
        return absent(self.files(index) for index in range(len(self.keys)))

    def describe(self) -> Described:
        return {
            "name": self.name,
            "split": self.split,
            "class_names": list(self.class_names),
            "class_map": self.class_map.text,
        }

    @property
    def notes(self) -> tuple[str, ...]:
        """Of some labels and images: what is ignored, a class 0 without pixels, 16 bits hardly used."""
        images = [self.image_path(index) for index in range(len(self.keys))]
        labels = label_remarks(self._train_ids, len(self.keys), self.class_names)
        return (*labels, *depth_remarks(images))

    def _train_ids(self, index: int) -> np.ndarray:
        key, path = self.keys[index], self.label_path(index)
        label = self._decoded(self._stored_label(index), index)
        self.class_map.require(label, key=key, path=path)
        return self.class_map.apply(label)

    def _decoded(self, stored: bytes, index: int) -> Label:
        key, path = self.keys[index], self.label_path(index)
        return decode_label(stored, key=key, path=path, class_map=self.class_map)

    def _stored_label(self, index: int) -> bytes:
        return read_bytes(self.label_path(index), key=self.keys[index], kind="label")

    def _missing_labels(self) -> Missing:
        return Missing(
            f"the labels of {self.name} split '{self.split}' are not there",
            where=str(self._tree.labels),
            fix=f"the layout is\n{indented(self.layout)}",
        )

    def _no_samples(self) -> Missing:
        return Missing(
            f"{self.name} split '{self.split}' has no samples",
            where=str(self._tree.list_file or self._tree.images),
            fix=f"the layout is\n{indented(self.layout)}",
        )

    def _sizes_differ(self, index: int, image: tuple[int, int], label: tuple[int, ...]) -> BadSample:
        turned = image[::-1] == label and transposed_by_exif(self.image_path(index))
        why = "; the image's EXIF turns it, which is ignored here: store it turned" if turned else ""
        return BadSample(
            f"image and label of '{self.keys[index]}' differ in size: "
            f"{image[0]}x{image[1]} and {label[0]}x{label[1]} pixels (height x width)",
            where=f"{self.image_path(index)} and {self.label_path(index)}",
            fix=f"give the label the size of its image, resampled with nearest neighbour{why}",
        )


def stamp_of_files(paths: Sequence[Path]) -> list[int]:
    """Size and time of change (ns) of each file that is there."""
    stats = [path.stat() for path in paths if path.exists()]
    return [number for s in stats for number in (s.st_size, s.st_mtime_ns)]


def indented(layout: str) -> str:
    """A layout's lines below each other in an error."""
    return "\n".join(INDENT + line.strip() for line in layout.strip().splitlines())
