"""Labels: from the values a dataset stores to train ids, by one lookup table, as 8-bit grey PNG.

A label whose bytes already are that PNG is passed through untouched. Traps that are handled here: Pillow
spreads grey PNGs of 2 and 4 bits over 0..255, and a palette PNG is read by index, never by colour.

Shapes: H W height and width in pixels.
"""

import io
import re
import warnings
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from kdcache.cache.errors import LEAVE_OUT, BadSample
from kdcache.cache.files.picture import MAX_PIXELS, TooManyPixels, check_picture_size
from kdcache.cache.spec import IGNORE

OUTSIDE = -1  # in the lookup table: a value that is not in the class map
# What Pillow raises for damaged files, besides OSError: SyntaxError for PNG chunks, ValueError for sizes.
DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, IndexError, Image.DecompressionBombError)
_PNG_START = b"\x89PNG\r\n\x1a\n"
_BIT_DEPTH, _COLOUR_TYPE, _GREY = 24, 25, 0  # byte offsets in a PNG, whose first chunk is always IHDR
_SPREAD = {2: 85, 4: 17}  # factor by which Pillow enlarges grey values of that many bits


class ClassMap:
    """Stored value -> train id, for values 0..255. What is not named is outside the map."""

    def __init__(self, train_ids: Mapping[int, int]) -> None:
        self.table = np.full(256, OUTSIDE, dtype=np.int16)
        self.table[list(train_ids)] = list(train_ids.values())

    @cached_property
    def text(self) -> str:
        """'0>255 1>0 2>1': the map in one line, for identity."""
        return " ".join(f"{value}>{self.table[value]}" for value in self._legal)

    def require(self, ids_HW: np.ndarray, *, key: str, path: Path) -> np.ndarray:
        """The distinct values of a label, ascending. Raises BadSample when one is outside the map."""
        present = _distinct(ids_HW)
        inside = (present >= 0) & (present <= 255)
        inside[inside] = self.table[present[inside]] != OUTSIDE
        if not inside.all():
            strange = present[~inside]
            shown = ", ".join(str(v) for v in strange[:5]) + (", ..." if len(strange) > 5 else "")
            num_pixels = int(np.isin(ids_HW, strange).sum())
            raise BadSample(
                f"the label of '{key}' holds values outside the class map: {shown} ({num_pixels} pixels)",
                where=str(path),
                fix=f"legal values are {_ranges(self._legal)}; correct the label, or the list of classes",
            )
        return present

    def apply(self, ids_HW: np.ndarray) -> np.ndarray:
        """uint8 (H, W) of train ids; call `require` before."""
        return np.asarray(self.table.astype(np.uint8)[ids_HW])

    def keeps(self, present: np.ndarray) -> bool:
        """True when every one of these (legal) values is its own train id."""
        return bool((self.table[present] == present).all())

    @property
    def _legal(self) -> list[int]:
        return [int(v) for v in np.flatnonzero(self.table != OUTSIDE)]


def identity_map(num_classes: int) -> ClassMap:
    """Labels that hold train ids already, and 255 where a pixel is ignored."""
    return ClassMap({**{i: i for i in range(num_classes)}, IGNORE: IGNORE})


class Label(NamedTuple):
    ids_HW: np.ndarray  # integers as stored
    grey8: bool  # its file is an 8-bit grey PNG


def decode_label(encoded: bytes, *, key: str, path: Path) -> Label:
    """Decode one label completely. Raises BadSample for what is no one-channel PNG."""
    if not encoded.startswith(_PNG_START):
        raise BadSample(
            f"the label of '{key}' is {'not a PNG' if encoded else 'an empty file'}",
            where=str(path),
            fix="store labels as PNG, one channel of class ids; other formats may change values",
        )
    try:
        with open_intact(encoded) as image:
            mode, plain = image.mode, "transparency" not in image.info
            ids = np.asarray(image)
    except DECODE_ERRORS as error:
        raise unreadable("label", key, path, error) from error
    if ids.ndim != 2:
        raise BadSample(
            f"the label of '{key}' has {ids.shape[-1]} channels ({mode})",
            where=str(path),
            fix="store class ids as one channel: 8-bit grey, or a palette whose index is the class",
        )
    depth, grey = encoded[_BIT_DEPTH], encoded[_COLOUR_TYPE] == _GREY
    if grey and depth in _SPREAD:
        ids = ids // _SPREAD[depth]
    if ids.dtype == np.bool_:
        ids = ids.astype(np.uint8)
    return Label(ids, grey8=grey and depth == 8 and plain)


def train_id_png(
    encoded: bytes, class_map: ClassMap, *, key: str, path: Path, label: Label | None = None
) -> bytes:
    """8-bit grey PNG of train ids; the given bytes themselves when they already are one. `label` is what they
    decode to, where that is known. Raises BadSample."""
    label = label or decode_label(encoded, key=key, path=path)
    present = class_map.require(label.ids_HW, key=key, path=path)
    if label.grey8 and class_map.keeps(present):
        return encoded
    return encode_label(class_map.apply(label.ids_HW))


def encode_label(train_ids_HW: np.ndarray) -> bytes:
    """PNG of a uint8 map."""
    buffer = io.BytesIO()
    Image.fromarray(train_ids_HW).save(buffer, "PNG")
    return buffer.getvalue()


def open_intact(encoded: bytes) -> Image.Image:
    """The decoded image. Raises one of DECODE_ERRORS.

    Decoding alone lets a damaged PNG pass as other pixels: Pillow compares its checksums only in `verify`,
    after which that image can no longer be decoded.
    """
    if not encoded:
        raise ValueError("the file is empty")
    check_picture_size(encoded)
    with warnings.catch_warnings():  # half of what is decoded is where Pillow warns
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(io.BytesIO(encoded)) as unchecked:
            unchecked.verify()
        image = Image.open(io.BytesIO(encoded))
        image.load()
    return image


def unreadable(kind: str, key: str, path: Path, error: BaseException) -> BadSample:
    """The error for a file that Pillow refused."""
    why = str(error) or type(error).__name__
    if isinstance(error, TooManyPixels | Image.DecompressionBombError):
        return BadSample(
            f"the {kind} of '{key}' is too large: {_pixels(error)}",
            where=str(path),
            fix="cut it into pieces or shrink it, or leave it out with 'kdcache build --skip-bad'",
        )
    if isinstance(error, UnidentifiedImageError):  # its own text shows the address of a buffer
        why = "it is no image of a known format"
    return BadSample(
        f"the {kind} of '{key}' cannot be read: {why}",
        where=str(path),
        fix=f"replace the file with an intact copy, or {LEAVE_OUT}",
    )


def _pixels(error: BaseException) -> str:
    """Of a picture that Pillow found too large; of other formats it alone knows the size."""
    if isinstance(error, TooManyPixels):
        return str(error)
    numbers = [int(word) for word in re.findall(r"\d+", str(error))]
    have = f"{numbers[0]} pixels" if numbers else "more pixels than that"
    return f"{have}, at most {MAX_PIXELS} are decoded"


def _distinct(ids_HW: np.ndarray) -> np.ndarray:
    if ids_HW.dtype == np.uint8:  # counting is many times faster than sorting
        return np.flatnonzero(np.bincount(ids_HW.reshape(-1), minlength=256))
    return np.unique(ids_HW).astype(np.int64)


def _ranges(values: list[int]) -> str:
    """'0-10, 255' for ascending values."""
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
