"""A view: every number that turns an image's stored bytes into network input.

A view is an ordered list of operations. Geometry has one canonical order, the order of the image pipeline:
resize the whole image, then flip it left-right, then crop (cells outside the image are padding). Rectangles
are in pixels of the image as the operation before them left it. Colour and mixing will be further
operations.
"""

from collections.abc import Sequence
from typing import NamedTuple

from kdcache.cache.errors import BadCache, BadOption

VIEW_VERSION = 1

_NUMBERS = {"resize": 2, "flip": 0, "crop": 4}  # operation -> how many integers it takes, in canonical order
_LEGAL = "legal, in this order, each at most once: ('resize', h, w), ('flip',), ('crop', y, x, h, w)"


class Geometry(NamedTuple):
    """The canonical form that the image pipeline executes: resize, flip, crop padded right and bottom."""

    resize_h: int
    resize_w: int
    flip: int  # 0 or 1, left-right
    crop_y: int
    crop_x: int
    crop_h: int
    crop_w: int


class View(NamedTuple):
    """Operations in order, each a name and its integers: ('resize', h, w), ('flip',), ('crop', y, x, h, w).

    No operations: the whole image as it is.
    """

    ops: tuple[tuple[str | int, ...], ...]

    def geometry(self, height: int, width: int) -> Geometry:
        """The canonical numbers for an image of `height` x `width` pixels; no crop is all of the resized.

        Raises BadOption for an unknown operation, one twice or in another order, or numbers that leave no
        pixel.
        """
        names = [op[0] if op else "" for op in self.ops]
        numbers = {str(op[0]): _integers(op, self) for op in self.ops if op}
        if names != [name for name in _NUMBERS if name in numbers]:
            raise _bad(f"operations {names} cannot be executed", self)
        resize_h, resize_w = numbers.get("resize", (height, width))
        y, x, crop_h, crop_w = numbers.get("crop", (0, 0, resize_h, resize_w))
        if min(resize_h, resize_w, crop_h, crop_w) < 1:
            raise _bad("sizes are at least 1 pixel", self)
        if not (0 <= y < resize_h and 0 <= x < resize_w):
            raise _bad(
                f"the crop starts at ({y}, {x}), outside the image of {resize_h}x{resize_w} pixels", self
            )
        return Geometry(resize_h, resize_w, int("flip" in numbers), y, x, crop_h, crop_w)

    def to_json(self) -> list[list[str | int]]:
        """Operations as plain lists, ready for json.dumps; [] is the whole image."""
        return [list(op) for op in self.ops]

    @staticmethod
    def from_json(plain: object) -> "View":
        """The view that `to_json` wrote. Raises BadCache for anything but a list of known operations."""
        if not isinstance(plain, list):
            raise _torn(plain)
        for op in plain:
            if not isinstance(op, list) or not op or op[0] not in _NUMBERS:
                raise _torn(op)
            if len(op) != 1 + _NUMBERS[op[0]] or any(type(n) is not int for n in op[1:]):
                raise _torn(op)
        return View(tuple(tuple(op) for op in plain))


def _integers(op: Sequence[str | int], view: View) -> list[int]:
    name, *numbers = op
    if name not in _NUMBERS or len(numbers) != _NUMBERS[str(name)]:
        raise _bad(f"unknown operation {tuple(op)}", view)
    if not all(isinstance(n, int) for n in numbers):
        raise _bad(f"operation {tuple(op)} takes whole pixels", view)
    return [int(n) for n in numbers]


def _bad(what: str, view: View) -> BadOption:
    return BadOption(what, where=f"view {view.ops}", fix=_LEGAL)


def _torn(found: object) -> BadCache:
    return BadCache(
        f"{found!r} is no view operation that this kdcache knows",
        where="views of a stored shard",
        fix="install a newer kdcache, or re-make the shard with 'kdcache build --repair'",
    )
