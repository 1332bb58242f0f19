"""The numbers of one crop: a pure function of (seed, key, number), in any order and any process.

Every draw reads four words of Philox4x64 whose key is (seed, hash of the sample's key) and whose counter is
the number of the draw, so no draw depends on another one or on who asked first. About 20 us per draw.

Crops follow the augmentation of the published segmentation recipes: scale f uniform in [min_scale,
max_scale], the image resized to round(h * f) x round(w * f), a crop at a uniform offset where the image is
larger, padding right and bottom where it is smaller, flipped with probability one half.
"""

from collections.abc import Iterator
from hashlib import blake2b

import numpy as np

from kdcache.cache.errors import BadOption
from kdcache.cache.spec import ceil_div
from kdcache.cache.view import View

MIN_SCALE, MAX_SCALE = 0.5, 2.0  # of the published recipes
EVAL_SHARE = 0.875  # of the short side, shown when an image is classified: 224 of 256 pixels
_WORD = (1 << 64) - 1
_CROPS, _WINDOWS = 0, 1  # third counter word: kinds of draw never share random numbers; more in recipe_draw
_FLIP: tuple[tuple[str | int, ...], ...] = (("flip",),)


def key_hash(key: str) -> int:
    """64 bits of blake2b over the key's UTF-8."""
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "little")


def draw_crop(
    *,
    seed: int,
    key: str,
    number: int,
    height: int,
    width: int,
    crop: tuple[int, int],
    min_scale: float = MIN_SCALE,
    max_scale: float = MAX_SCALE,
    flip: bool = True,
) -> View:
    """Crop `number` of the sample `key`: resize, maybe flip, crop of `crop` = (h, w) pixels."""
    scale, down, right, coin = _uniforms(seed, key, number, _CROPS)
    factor = min_scale + scale * (max_scale - min_scale)
    resize_h, resize_w = max(1, round(height * factor)), max(1, round(width * factor))
    y = pick(down, max(0, resize_h - crop[0]) + 1)
    x = pick(right, max(0, resize_w - crop[1]) + 1)
    mirrored = _FLIP if flip and coin < 0.5 else ()
    return View((("resize", resize_h, resize_w), *mirrored, ("crop", y, x, *crop)))


def window_view(
    *,
    seed: int,
    key: str,
    epoch: int,
    height: int,
    width: int,
    crop: tuple[int, int],
    stride: int,
    mirror: bool,
    finest_stride: int | None = None,
) -> tuple[View, tuple[int, int, int, int]]:
    """The training crop of `epoch` inside a stored full view (mirrored with `mirror`), and its rectangle.

    The rectangle (y, x, h, w) is in pixels of the stored view; y and x are multiples of `stride` (the
    coarsest among the taps read), so at a tap of stride s the window is rows y // s .. + ceil(h / s),
    likewise for columns. It lies inside the image padded right and bottom to a multiple of `finest_stride`
    (default `stride`): with taps of several strides give the finest, whose stored map ends first. Raises
    BadOption for a crop larger than that.
    """
    edge = stride if finest_stride is None else finest_stride
    assert stride % edge == 0, f"stride {stride} is no multiple of {edge}"
    down, right, _, _ = _uniforms(seed, key, epoch, _WINDOWS)
    room_h = ceil_div(height, edge) * edge - crop[0]
    room_w = ceil_div(width, edge) * edge - crop[1]
    if room_h < 0 or room_w < 0:
        raise BadOption(
            f"the crop of {crop[0]}x{crop[1]} pixels is larger than the image of {height}x{width}",
            where=f"sample '{key}', views 'full'",
            fix="choose a crop that fits into every image, or crop views (kdcache build --views crops:8)",
        )
    y, x = (pick(u, room // stride + 1) * stride for u, room in ((down, room_h), (right, room_w)))
    return View((*(_FLIP if mirror else ()), ("crop", y, x, *crop))), (y, x, *crop)


def centre_view(height: int, width: int, crop: tuple[int, int]) -> tuple[tuple[int, int], list[int]]:
    """What evaluation shows of an image to classify: its size after resizing, and the crop's (y, x) in it.

    An image of the crop's size stays as it is. Others are resized until the centre crop shows 0.875 of the
    side that is the shorter one in proportion.
    """
    if (height, width) == crop:
        return crop, [0, 0]
    factor = max(crop[0] / height, crop[1] / width) / EVAL_SHARE
    size = max(crop[0], round(height * factor)), max(crop[1], round(width * factor))
    return size, [(size[0] - crop[0]) // 2, (size[1] - crop[1]) // 2]


def _uniforms(seed: int, key: str, number: int, purpose: int) -> list[float]:
    """Four numbers in [0, 1) from 53 random bits each: the same on every machine and with every numpy."""
    return [(int(word) >> 11) * 2.0**-53 for word in _philox(seed, key, number, purpose).random_raw(4)]


def endless(seed: int, key: str, number: int, purpose: int) -> Iterator[float]:
    """As many numbers in [0, 1) as are asked for; the first four are those of `_uniforms`."""
    philox = _philox(seed, key, number, purpose)
    while True:
        yield from [(int(word) >> 11) * 2.0**-53 for word in philox.random_raw(8)]


def _philox(seed: int, key: str, number: int, purpose: int) -> np.random.Philox:
    # The counter's lowest word is left to Philox, which counts blocks of four words there.
    return np.random.Philox(
        key=np.array([seed & _WORD, key_hash(key)], dtype=np.uint64),
        counter=np.array([0, number & _WORD, purpose, 0], dtype=np.uint64),
    )


def pick(uniform: float, num_choices: int) -> int:
    """0 .. num_choices - 1, uniform, from a number in [0, 1)."""
    return min(int(uniform * num_choices), num_choices - 1)
