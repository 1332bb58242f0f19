"""A view: every number that turns an image's stored bytes into network input.

An ordered list of operations. Geometry comes first and has one canonical order, the order of the image
pipeline: resize the whole image, flip it left-right, crop (cells outside the image are padding; a negative
start is padding above or left). Rectangles are in pixels of the image as the operation before them left it.
What follows are the effects, executed on the cropped uint8 image in the order of the list (`colour`):

    ('turn', k)            k quarter turns counter-clockwise
    ('brightness', m), ('contrast', m), ('saturation', m), ('sharpness', m)      1000 changes nothing
    ('hue', m)             thousandths of the colour circle; 0 changes nothing
    ('posterize', bits), ('solarize', threshold), ('autocontrast',), ('equalize',)
    ('shear_x', m), ('shear_y', m)            thousandths of a pixel per pixel, about the centre
    ('translate_x', m), ('translate_y', m)    thousandths of the width or height, to the right or down
    ('rotate', m)          thousandths of a degree counter-clockwise
    ('erase', y, x, h, w, r, g, b)
    ('mixup', m, key)      m thousandths of this image, the rest of sample `key` in its own view of the same
    ('cutmix', y, x, h, w, key)               number; the rectangle is the other's. At most one, and last.

A `Row` is one sample under one view, as records, streams and the image pipeline hand it on.
"""

from collections.abc import Sequence
from typing import NamedTuple

from kdcache.cache.errors import BadCache, BadOption

VIEW_VERSION = 1
# Views that fit an image onto a canvas, for objects in boxes: these say too which objects are seen. Both
# numbers are part of a view set's digest, for another rule gives a stored view other objects.
FIT_VERSION = 2
MIN_SHARE = 0.1  # of an object's area that the canvas shows
MIN_SIDE_PX = 2.0  # of what the canvas shows of it, both sides

Op = tuple[str | int, ...]
_GEOMETRY = {"resize": 2, "flip": 0, "crop": 4}  # operation -> how many integers it takes, in canonical order
_MIXING = {"mixup": 1, "cutmix": 4}  # and the other sample's key
_EFFECTS = {
    **dict.fromkeys(("autocontrast", "equalize"), 0),
    **dict.fromkeys(("turn", "brightness", "contrast", "saturation", "hue", "sharpness", "posterize"), 1),
    **dict.fromkeys(("solarize", "shear_x", "shear_y", "translate_x", "translate_y", "rotate"), 1),
    "erase": 7,
    **_MIXING,
}
_NUMBERS = {**_GEOMETRY, **_EFFECTS}
_MAX_OPS = 64  # a recipe draws about twenty
_MAX_NUMBER = 1 << 24  # of pixels, thousandths and colours
_RANGES = {"turn": (0, 3), "posterize": (0, 8), "mixup": (0, 1000)}  # of the first integer
_LEGAL = (
    "legal, in this order, each at most once: ('resize', h, w), ('flip',), ('crop', y, x, h, w); then "
    f"effects: {', '.join(_EFFECTS)}; a mixing one is the last"
)


class Geometry(NamedTuple):
    """The canonical form that the image pipeline executes: resize, flip, crop padded on every side."""

    resize_h: int
    resize_w: int
    flip: int  # 0 or 1, left-right
    crop_y: int  # negative: so many rows of padding above
    crop_x: int
    crop_h: int
    crop_w: int


class Window(NamedTuple):
    """A rectangle in pixels of a stored view: corner and size."""

    y: int
    x: int
    height: int
    width: int


class Row(NamedTuple):
    """One sample under one view: what a row of a batch shows."""

    sample: int  # index in what is read: a cache, a source, one block
    view: int  # number of the view
    geometry: Geometry
    effects: tuple[Op, ...] = ()  # what follows the crop, in order; the mixing included
    partner: "Row | None" = None  # the sample that is mixed in, in its own view of the same number
    window: Window | None = None  # the part of a stored map that the pixels show; None: all of it

    def mixed_with(self, partner: "Row") -> "Row":
        """This row with the pixels of `partner`, which keeps its effects but is not mixed itself."""
        return self._replace(partner=partner._replace(effects=unmixed(partner.effects), partner=None))

    @property
    def own_share(self) -> float:
        """The share of the image that is its own sample's: 1 when nothing is mixed in."""
        name, *numbers = self.effects[-1] if self.effects else ("",)
        if name == "mixup":
            return int(numbers[0]) / 1000
        if name == "cutmix":
            g = self.geometry
            return 1.0 - int(numbers[2]) * int(numbers[3]) / (g.crop_h * g.crop_w)
        return 1.0


class View(NamedTuple):
    """Operations in order, each a name and its integers: ('resize', h, w), ('flip',), ('crop', y, x, h, w).

    No operations: the whole image as it is.
    """

    ops: tuple[Op, ...]

    @property
    def effects(self) -> tuple[Op, ...]:
        """What happens after the crop, in order; the mixing included."""
        return tuple(op for op in self.ops if op[0] not in _GEOMETRY)

    def geometry(self, height: int, width: int) -> Geometry:
        """The canonical numbers for an image of `height` x `width` pixels; no crop is all of the resized.

        Raises BadOption for an unknown operation, one twice or in another order, or numbers that leave no
        pixel.
        """
        names = [op[0] if op else "" for op in self.ops]
        numbers = {str(op[0]): _integers(op, self) for op in self.ops if op}
        if not _in_order(names):
            raise _bad(f"operations {names} cannot be executed", self)
        resize_h, resize_w = numbers.get("resize", (height, width))
        y, x, crop_h, crop_w = numbers.get("crop", (0, 0, resize_h, resize_w))
        if min(resize_h, resize_w, crop_h, crop_w) < 1:
            raise _bad("sizes are at least 1 pixel", self)
        if not (-crop_h < y < resize_h and -crop_w < x < resize_w):
            raise _bad(
                f"the crop starts at ({y}, {x}), outside the image of {resize_h}x{resize_w} pixels", self
            )
        return Geometry(resize_h, resize_w, int("flip" in numbers), y, x, crop_h, crop_w)

    def row(self, sample: int, number: int, size: tuple[int, int]) -> Row:
        """This view, number `number`, of a sample of `size` = (height, width) pixels; nobody is mixed in yet.

        Raises BadOption as `geometry`.
        """
        return Row(sample, number, self.geometry(*size), self.effects)

    def to_json(self) -> list[list[str | int]]:
        """Operations as plain lists, ready for json.dumps; [] is the whole image."""
        return [list(op) for op in self.ops]

    @staticmethod
    def from_json(plain: object) -> "View":
        """The view that `to_json` wrote. Raises BadCache for anything but known operations in their order."""
        if not isinstance(plain, list):
            raise _torn(plain)
        if len(plain) > _MAX_OPS:
            raise _torn(f"a list of {len(plain)}")
        for op in plain:
            known = isinstance(op, list) and op and isinstance(op[0], str) and op[0] in _NUMBERS
            if not known or not _well_formed(op):
                raise _torn(op)
        if not _in_order([op[0] for op in plain]):
            raise _torn(plain)
        return View(tuple(tuple(op) for op in plain))


def partner_key(effects: Sequence[Op]) -> str | None:
    """The key of the sample that is mixed in, None when nothing is."""
    return str(effects[-1][-1]) if effects and effects[-1][0] in _MIXING else None


def unmixed(effects: Sequence[Op]) -> tuple[Op, ...]:
    """What is left of them for the image that is mixed in: its own mixing is not shown."""
    return tuple(op for op in effects if op[0] not in _MIXING)


def _in_order(names: Sequence[str | int]) -> bool:
    geometry = [name for name in _GEOMETRY if name in names]
    effects = names[len(geometry) :]
    if list(names[: len(geometry)]) != geometry or any(n not in _EFFECTS for n in effects):
        return False
    return not any(n in _MIXING for n in effects[:-1])


def _well_formed(op: Sequence[object]) -> bool:
    """Right number of integers, in range, and a key at the end of a mixing operation."""
    name, numbers = str(op[0]), list(op[1:])
    if name in _MIXING and not (numbers and isinstance(numbers.pop(), str)):
        return False
    if len(numbers) != _NUMBERS[name] or any(type(n) is not int or abs(n) > _MAX_NUMBER for n in numbers):
        return False
    low, high = _RANGES.get(name, (None, None))
    return low is None or low <= numbers[0] <= high  # type: ignore[operator]


def _integers(op: Op, view: View) -> list[int]:
    name = str(op[0])
    if name not in _NUMBERS or len(op) != 1 + _NUMBERS[name] + (name in _MIXING):
        raise _bad(f"unknown operation {tuple(op)}", view)
    if not _well_formed(op):
        raise _bad(f"operation {tuple(op)} takes whole pixels", view)
    return [int(n) for n in op[1:] if not isinstance(n, str)]


def _bad(what: str, view: View) -> BadOption:
    return BadOption(what, where=f"view {view.ops}", fix=_LEGAL)


def _torn(plain: object) -> BadCache:
    return bad_operation(repr(plain))


def bad_operation(said: str) -> BadCache:
    """The error for an operation of a stored view that cannot be executed."""
    return BadCache(
        f"{said} is no view operation that this kdcache knows",
        where="views of a stored shard",
        fix="install a newer kdcache, or re-make the shard with 'kdcache build --repair'",
    )
