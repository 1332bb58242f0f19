"""Classification from arrays of equal images: what Fashion-MNIST, CIFAR and npz files share.

Splits: `train`, `val`, `trainval` and `test`. Where a dataset has no validation rows of its own, `val` is the
last tenth of the training rows (at least one) and `train` the rest; `trainval` is both, `test` is only read.
A key is the array's name and the row in it, 'train/00012', so a row keeps its key in whatever split it is.

Images become PNGs without loss: grey stays grey. Shapes: N rows, H W pixels, C = 3 colours.
"""

import io
import struct
import zlib
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from kdcache.cache.errors import BadSample, Missing
from kdcache.cache.sources.contract import BaseSource, Described
from kdcache.cache.sources.remarks import class_remarks
from kdcache.cache.spec import Task
from kdcache.cache.tasks.table import CLASSIFICATION

TRAIN, VAL, TEST = "train", "val", "test"
TRAINVAL = "trainval"
HELD_OUT = 10  # one row in this many of the training rows, counted from the end, is the validation split
SMALL_PX = 64  # up to this many pixels a side the recipe of the CIFAR papers is the default
PNG_LEVEL = 1  # of zlib: tiny images gain nothing from more, and packing waits for it

_PNG = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {"L": 0, "RGB": 2}  # https://www.w3.org/TR/png-3/#11IHDR
_ONE_CHUNK_BYTES = 60_000  # of filtered rows: compressed they never fill the 64 KiB of Pillow's chunks


@dataclass(frozen=True, slots=True)
class Rows:
    """Images and classes of one array, or of a run of its rows."""

    part: str  # 'train': the array's name, the first half of its keys
    pixels: np.ndarray  # (N, H, W) or (N, H, W, 3) uint8
    labels: np.ndarray  # (N,) integers
    files: tuple[Path, ...]
    first: int = 0  # row of the array at which this run starts

    def __len__(self) -> int:
        return len(self.labels)

    def key(self, row: int) -> str:
        return f"{self.part}/{self.first + row:05d}"

    def cut(self, start: int, stop: int) -> "Rows":
        return Rows(self.part, self.pixels[start:stop], self.labels[start:stop], self.files, start)


class ArraySource(BaseSource):
    """A dataset says which arrays exist (`parts_in`), reads one (`read_part`), and names its classes there.

    Raises BadSample for arrays that are not images and classes of equal number.
    """

    task: Task = CLASSIFICATION
    augment = "pad=4,flip"

    def __init__(self, root: Path, split: str) -> None:
        super().__init__(root, split)
        self._pieces = self._rows_of(split)
        sizes = {rows.pixels.shape[1:] for rows in self._pieces}
        if len(sizes) > 1:
            raise BadSample(
                f"train and val hold images of two shapes: {' and '.join(str(s) for s in sorted(sizes))}",
                where=self._files_text(self._pieces[0]),
                fix="give both arrays images of one size and one number of channels",
            )
        height, width = self._pieces[0].pixels.shape[1:3]
        self.default_crop = (int(height), int(width))
        self.keys: Sequence[str] = [rows.key(row) for rows in self._pieces for row in range(len(rows))]

    @classmethod
    @abstractmethod
    def parts_in(cls, root: Path) -> tuple[str, ...]:
        """Which of train, val and test have arrays at `root`; reads no pixels."""

    @abstractmethod
    def read_part(self, part: str) -> Rows:
        """The whole array; sets `class_names` where the files give them. Raises BadSample, Missing."""

    @classmethod
    def splits_in(cls, root: Path) -> tuple[str, ...]:
        parts = cls.parts_in(root)
        trained = (TRAIN, VAL, TRAINVAL) if TRAIN in parts else ()
        return (*trained, *((TEST,) if TEST in parts else ()))

    def image_bytes(self, index: int) -> bytes:
        rows, row = self._place(index)
        return encode_png(rows.pixels[row])

    def unpacked_image(self, index: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB: the pixels that `image_bytes` decodes to."""
        rows, row = self._place(index)
        pixels = rows.pixels[row]
        return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)

    def class_of(self, index: int) -> int:
        rows, row = self._place(index)
        return int(rows.labels[row])

    def label_bytes(self, index: int) -> bytes:
        return str(self.class_of(index)).encode()

    def files(self, index: int) -> tuple[Path, ...]:
        return self._place(index)[0].files

    def content(self, index: int) -> tuple[bytes, ...]:
        rows, row = self._place(index)
        return rows.pixels[row].tobytes(), self.label_bytes(index)

    def size(self, index: int) -> tuple[int, int]:
        return self.default_crop

    def num_bytes(self, index: int) -> int:
        """Of the pixels: an upper bound of nearly every PNG."""
        return int(self._pieces[0].pixels[0].nbytes)

    def check(self, index: int) -> tuple[int, int]:
        """Nothing is left to check: all rows were when the arrays were read."""
        return self.default_crop

    @property
    def notes(self) -> tuple[str, ...]:
        labels_N = np.concatenate([rows.labels for rows in self._pieces])
        return tuple(class_remarks(labels_N, self.class_names))

    def describe(self) -> Described:
        about: Described = {
            "name": self.name,
            "split": self.split,
            "task": self.task,
            "class_names": list(self.class_names),
        }
        return about | ({} if self._own_val or self.split == TEST else {"val": "last tenth of train"})

    @cached_property
    def _own_val(self) -> bool:
        return VAL in self.parts_in(self.root)

    def _rows_of(self, split: str) -> tuple[Rows, ...]:
        if split == TEST or (split == VAL and self._own_val):
            return (self._checked_part(split),)
        rows = self._checked_part(TRAIN)
        if self._own_val:
            return (rows,) if split == TRAIN else (rows, self._checked_part(VAL))
        if split == TRAINVAL:
            return (rows,)
        kept = len(rows) - max(1, len(rows) // HELD_OUT)
        if kept < 1:
            raise Missing(
                f"{len(rows)} training rows cannot be parted into train and val",
                where=self._files_text(rows),
                fix="use the split 'trainval', or give validation rows of their own",
            )
        return (rows.cut(0, kept) if split == TRAIN else rows.cut(kept, len(rows)),)

    def _place(self, index: int) -> tuple[Rows, int]:
        for rows in self._pieces:
            if index < len(rows):
                return rows, index
            index -= len(rows)
        raise IndexError(index)

    def _checked_part(self, part: str) -> Rows:
        """A whole array; before it is cut, so that what does not fit is seen."""
        rows = self.read_part(part)
        self._check_rows(rows)
        return rows

    def _check_rows(self, rows: Rows) -> None:
        where = self._files_text(rows)
        check_pixels(rows.pixels, f"images of '{rows.part}'", where)
        if rows.labels.ndim != 1 or rows.labels.dtype.kind not in "iu":
            raise BadSample(
                f"classes of '{rows.part}' are {rows.labels.dtype} of shape {rows.labels.shape}",
                where=where,
                fix="give one integer per image: shape (N,), 0 .. number of classes - 1",
            )
        if len(rows.labels) != len(rows.pixels):
            raise BadSample(
                f"'{rows.part}' holds {len(rows.pixels)} images and {len(rows.labels)} classes",
                where=where,
                fix="give one class per image, in the same order",
            )
        legal = len(self.class_names)
        strange = np.flatnonzero((rows.labels < 0) | (rows.labels >= legal))
        if strange.size:
            raise BadSample(
                f"'{rows.key(int(strange[0]))}' has class {int(rows.labels[strange[0]])}, legal are 0.."
                f"{legal - 1} ({strange.size} rows are outside)",
                where=where,
                fix="correct the classes, or name every class",
            )

    def _files_text(self, rows: Rows) -> str:
        return " and ".join(str(path) for path in rows.files)


def check_pixels(pixels: np.ndarray, what: str, where: str) -> None:
    """Raises BadSample unless these are N > 0 grey or RGB images of 8 bits."""
    grey_or_rgb = pixels.ndim == 3 or (pixels.ndim == 4 and pixels.shape[3] == 3)
    if pixels.dtype == np.uint8 and grey_or_rgb and pixels.size:
        return
    first = pixels.ndim == 4 and pixels.shape[1] == 3
    raise BadSample(
        f"{what} are {pixels.dtype} of shape {pixels.shape}" + (", channels first" if first else ""),
        where=where,
        fix="store uint8 0..255 of shape (N, H, W) for grey or (N, H, W, 3) for RGB, at least one row",
    )


def encode_png(pixels: np.ndarray) -> bytes:
    """PNG of one image, (H, W) grey or (H, W, 3) RGB uint8: the same pixels when decoded. Its bytes are those
    of `Image.save`."""
    image = Image.fromarray(pixels)
    if image.mode not in _COLOUR_TYPES or pixels.size + len(pixels) > _ONE_CHUNK_BYTES:
        buffer = io.BytesIO()
        image.save(buffer, "PNG", compress_level=PNG_LEVEL)
        return buffer.getvalue()
    # What `save` does besides takes longer than compressing a tiny image, and keeps other threads waiting.
    compressed = image.tobytes("zip", (image.mode, False, PNG_LEVEL, -1, b""))
    about = struct.pack(">2I5B", image.width, image.height, 8, _COLOUR_TYPES[image.mode], 0, 0, 0)
    chunks = (_chunk(b"IHDR", about), _chunk(b"IDAT", compressed), _chunk(b"IEND", b""))
    return b"".join((_PNG, *chunks))


def _chunk(name: bytes, content: bytes) -> bytes:
    body = name + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))
