"""Labels: from the values or colours a dataset stores to train ids, by lookup tables, as 8-bit grey PNG.

A label whose bytes already are that PNG is passed through untouched. Traps that are handled here: Pillow
spreads grey PNGs of 2 and 4 bits over 0..255 and cuts 16 bits a colour to 8, and a palette PNG is read by
index, by colour only where the class map has nothing but colours.

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
MOST_VALUE = (1 << 16) - 1  # of a PNG with one channel
_NUM_COLOURS = 1 << 24
_COLOUR_ENTRY = re.compile(r"#([0-9a-f]{6})>(\d{1,3})\b")  # of `ClassMap.text`
_SHOWN = 5  # values or colours that an error names

Colour = tuple[int, int, int]  # red, green, blue, each 0..255


class Label(NamedTuple):
    ids_HW: np.ndarray  # integers as stored; of colours `packed`, uint32
    grey8: bool  # its file is an 8-bit grey PNG
    coloured: bool = False


def packed(colour: Colour) -> int:
    """A colour as one number of 24 bits, red in the lowest: as the bytes of a picture lie in memory."""
    red, green, blue = colour
    return red | green << 8 | blue << 16


def colour_text(number: int) -> str:
    """'#804080' of a packed colour."""
    return f"#{number & 255:02x}{number >> 8 & 255:02x}{number >> 16 & 255:02x}"


class ClassMap:
    """Stored value -> train id, for values 0..65535, and stored colour -> train id. What is not named is
    outside the map."""

    def __init__(
        self,
        train_ids: Mapping[int, int],
        *,
        of_colours: Mapping[Colour, int] | None = None,
    ) -> None:
        self.table = np.full(256 if max(train_ids, default=0) <= 255 else MOST_VALUE + 1, OUTSIDE, np.int16)
        self.table[list(train_ids)] = list(train_ids.values())
        self._of_colours = {packed(colour): train_id for colour, train_id in (of_colours or {}).items()}
        self.by_colour = bool(self._of_colours) and not train_ids  # also grey and palette PNGs

    @cached_property
    def text(self) -> str:
        """'0>255 1>0 2>1 #804080>0': the map in one line, for identity."""
        values = [f"{value}>{self.table[value]}" for value in self._legal]
        return " ".join([*values, *(f"{colour_text(c)}>{i}" for c, i in self._of_colours.items())])

    @property
    def colours(self) -> tuple[Colour | None, ...]:
        """The colour that a picture shows each class in, by train id."""
        return shown_colours({"class_map": self.text})

    def reads_colours(self, mode: str) -> bool:
        """Whether a picture of this mode of Pillow's is looked up by colour."""
        return self.by_colour or bool(self._of_colours) and mode in ("RGB", "RGBA")

    def require(self, label: Label, *, key: str, path: Path) -> np.ndarray:
        """The distinct values of a label, ascending; of colours none. Raises BadSample when one is outside
        the map."""
        if label.coloured:
            self._require_colours(label.ids_HW, key, path)
            return np.empty(0, np.int64)
        present = _distinct(label.ids_HW)
        inside = (present >= 0) & (present < len(self.table))
        inside[inside] = self.table[present[inside]] != OUTSIDE
        if not inside.all():
            strange = present[~inside]
            shown = ", ".join(str(v) for v in strange[:_SHOWN]) + (", ..." if len(strange) > _SHOWN else "")
            num_pixels = int(np.isin(label.ids_HW, strange).sum())
            raise BadSample(
                f"the label of '{key}' holds values outside the class map: {shown} ({num_pixels} pixels)",
                where=str(path),
                fix=f"legal values are {_ranges(self._legal)}; correct the label, or the list of classes",
            )
        return present

    def apply(self, label: Label) -> np.ndarray:
        """uint8 (H, W) of train ids; call `require` before."""
        table = self._colour_table if label.coloured else self.table
        return np.asarray(table[label.ids_HW].astype(np.uint8))

    def keeps(self, present: np.ndarray) -> bool:
        """True when every one of these (legal) values is its own train id."""
        return bool((self.table[present] == present).all())

    @cached_property
    def _colour_table(self) -> np.ndarray:
        """32 MiB, made when the first label of colours is read: one step a pixel, whatever the number of
        colours."""
        table = np.full(_NUM_COLOURS, OUTSIDE, np.int16)
        table[list(self._of_colours)] = list(self._of_colours.values())
        return table

    def _require_colours(self, packed_HW: np.ndarray, key: str, path: Path) -> None:
        strange = packed_HW[self._colour_table[packed_HW] == OUTSIDE]
        if not strange.size:
            return
        distinct, counts = np.unique(strange, return_counts=True)
        most = np.argsort(-counts, kind="stable")[:_SHOWN]
        said = [
            f"{colour_text(int(distinct[i]))} ({counts[i]} pixel{'s' if counts[i] > 1 else ''}, nearest "
            f"{colour_text(self._nearest(int(distinct[i])))})"
            for i in most
        ]
        more = f" and {len(distinct) - len(most)} more" if len(distinct) > len(most) else ""
        raise BadSample(
            f"the label of '{key}' holds colours outside the class map: {', '.join(said)}{more}",
            where=str(path),
            fix="correct the label, or name the colour in classes.toml, of a class or under [ignore]; many "
            "colours that are nearly right come from JPEG or from smooth resizing: use PNG and nearest "
            "neighbour",
        )

    def _nearest(self, colour: int) -> int:
        """The packed colour of the map with the smallest sum of squared differences of the channels."""

        def distance(other: int) -> int:
            return sum(((colour >> s & 255) - (other >> s & 255)) ** 2 for s in (0, 8, 16))

        return min(self._of_colours, key=distance)

    @property
    def _legal(self) -> list[int]:
        return [int(v) for v in np.flatnonzero(self.table != OUTSIDE)]


def shown_colours(described: Mapping[str, object]) -> tuple[Colour | None, ...]:
    """Of what a source, or a cache of it, says of itself: the first colour that stands for each class, by
    train id; None, or nothing at the end, where no colour does."""
    first: dict[int, Colour] = {}
    for packed_text, train_id in _COLOUR_ENTRY.findall(str(described.get("class_map", ""))):
        red, green, blue = bytes.fromhex(packed_text)
        first.setdefault(int(train_id), (red, green, blue))
    first.pop(IGNORE, None)
    return tuple(first.get(number) for number in range(max(first, default=-1) + 1))


def identity_map(num_classes: int) -> ClassMap:
    """Labels that hold train ids already, and 255 where a pixel is ignored."""
    return ClassMap({**{i: i for i in range(num_classes)}, IGNORE: IGNORE})


def decode_label(encoded: bytes, *, key: str, path: Path, class_map: ClassMap | None = None) -> Label:
    """Decode one label completely. Raises BadSample for what is no PNG of one channel, or of colours where
    the class map names some."""
    if not encoded.startswith(_PNG_START):
        raise BadSample(
            f"the label of '{key}' is {'not a PNG' if encoded else 'an empty file'}",
            where=str(path),
            fix="store labels as PNG, one channel of class ids; other formats may change values",
        )
    try:
        with open_intact(encoded) as image:
            mode, plain = image.mode, "transparency" not in image.info
            if class_map is not None and class_map.reads_colours(mode):
                return _colours_of(image, encoded[_BIT_DEPTH], key, path)
            ids = np.asarray(image)
    except BadSample:
        raise
    except DECODE_ERRORS as error:
        raise unreadable("label", key, path, error) from error
    if ids.ndim != 2:
        raise BadSample(
            f"the label of '{key}' has {ids.shape[-1]} channels ({mode})",
            where=str(path),
            fix="store class ids as one channel: 8-bit grey, or a palette whose index is the class; of your "
            "own folder, classes.toml may name the colour of each class",
        )
    depth, grey = encoded[_BIT_DEPTH], encoded[_COLOUR_TYPE] == _GREY
    if grey and depth in _SPREAD:
        ids = ids // _SPREAD[depth]
    if ids.dtype == np.bool_:
        ids = ids.astype(np.uint8)
    return Label(ids, grey8=grey and depth == 8 and plain)


def _colours_of(image: Image.Image, depth: int, key: str, path: Path) -> Label:
    """The packed colour of each pixel."""
    if depth > 8:
        raise BadSample(
            f"the label of '{key}' has {depth} bits a channel, and colours of classes have 8",
            where=str(path),
            fix="store it with 8 bits a channel",
        )
    pixels_HW = np.asarray(image.convert("RGBA")).view("<u4")[..., 0]
    alpha = "A" in image.mode or "transparency" in image.info
    if alpha and (see_through := int((pixels_HW >> 24 != 255).sum())):
        raise BadSample(
            f"the label of '{key}' has {see_through} transparent pixels, whose colour nobody sees",
            where=str(path),
            fix="store it without transparency",
        )
    return Label(pixels_HW & (_NUM_COLOURS - 1), grey8=False, coloured=True)


def train_id_png(
    encoded: bytes, class_map: ClassMap, *, key: str, path: Path, label: Label | None = None
) -> bytes:
    """8-bit grey PNG of train ids; the given bytes themselves when they already are one. `label` is what they
    decode to, where that is known. Raises BadSample."""
    label = label or decode_label(encoded, key=key, path=path, class_map=class_map)
    present = class_map.require(label, key=key, path=path)
    if label.grey8 and class_map.keeps(present):
        return encoded
    return encode_label(class_map.apply(label))


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
    if ids_HW.dtype in (np.uint8, np.uint16):  # counting is many times faster than sorting
        return np.flatnonzero(np.bincount(ids_HW.reshape(-1)))
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
