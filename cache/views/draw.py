"""The numbers that a view draws for one sample: a pure function of (seed, key, number), in any order and any
process.

Every draw reads words of Philox4x64 whose key is (seed, hash of the sample's key) and whose counter is the
number of the draw, so no draw depends on another one or on who asked first. Each kind of draw has its own
counter word, so a recipe with one item more draws the same numbers for all the others: crops with and without
jitter are the same crops (`words`).

Crops follow the augmentation of the published segmentation recipes: scale f uniform in [min_scale,
max_scale], the image resized to round(h * f) x round(w * f), a crop at a uniform offset where the image is
larger, padding right and bottom where it is smaller, flipped with probability one half.

Sources: random resized crop, random erasing and RandAugment (31 magnitudes, signs at even odds) with
torchvision's limits, mixup and CutMix as in their papers.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from kdcache.cache.errors import BadOption
from kdcache.cache.spec import FILL_RGB, ceil_div
from kdcache.cache.views.recipe import Recipe
from kdcache.cache.views.view import Op, View, Window
from kdcache.cache.views.words import Words, endless

MIN_SCALE, MAX_SCALE = 0.5, 2.0  # of the published recipes
EVAL_SHARE = 0.875  # of the short side, shown when an image is classified: 224 of 256 pixels
# Third counter word: kinds of draw never share random numbers.
_CROPS, _WINDOWS, _GEOMETRY, _FLIPS, _RANDAUGMENT, _JITTER, _ERASE, _MIX, _PARTNER = range(9)
_FLIP: tuple[tuple[str | int, ...], ...] = (("flip",),)
_TRIES = 10
_MAGNITUDES = 30
QUARTERS = 4  # rows of one sample with turned views

# operation -> how far its number goes at magnitude 30, and the number that changes nothing; the sign is drawn
_SIGNED = {
    "shear_x": (300, 0),
    "shear_y": (300, 0),
    "translate_x": (453, 0),  # 150 of 331 pixels
    "translate_y": (453, 0),
    "rotate": (30_000, 0),
    "brightness": (900, 1000),
    "saturation": (900, 1000),
    "contrast": (900, 1000),
    "sharpness": (900, 1000),
}
_RANDAUGMENT_OPS = ("identity", *_SIGNED, "posterize", "solarize", "autocontrast", "equalize")


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
    words: Words = endless,
) -> View:
    """Crop `number` of the sample `key`: resize, maybe flip, crop of `crop` = (h, w) pixels."""
    scale, down, right, coin = islice(words(seed, key, number, _CROPS), 4)
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
) -> tuple[View, Window]:
    """The training crop of `epoch` inside a stored full view (mirrored with `mirror`), and its window there.

    The window's y and x are multiples of `stride` (the
    coarsest among the taps read), so at a tap of stride s it is rows y // s .. + ceil(h / s),
    likewise for columns. It lies inside the image padded right and bottom to a multiple of `finest_stride`
    (default `stride`): with taps of several strides give the finest, whose stored map ends first. Raises
    BadOption for a crop larger than that.
    """
    edge = stride if finest_stride is None else finest_stride
    assert stride % edge == 0, f"stride {stride} is no multiple of {edge}"
    down, right = islice(endless(seed, key, epoch, _WINDOWS), 2)
    room_h = ceil_div(height, edge) * edge - crop[0]
    room_w = ceil_div(width, edge) * edge - crop[1]
    if room_h < 0 or room_w < 0:
        raise BadOption(
            f"the crop of {crop[0]}x{crop[1]} pixels is larger than the image of {height}x{width}",
            where=f"sample '{key}', views 'full'",
            fix="choose a crop that fits into every image, or crop views (kdcache build --views crops:8)",
        )
    y, x = (pick(u, room // stride + 1) * stride for u, room in ((down, room_h), (right, room_w)))
    return View((*(_FLIP if mirror else ()), ("crop", y, x, *crop))), Window(y, x, *crop)


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


def fit_factor(height: int, width: int, canvas: tuple[int, int]) -> float:
    """The scale at which an image is as large as a canvas of (h, w) pixels holds it whole."""
    return min(canvas[0] / height, canvas[1] / width)


def fit_view(height: int, width: int, canvas: tuple[int, int], *, mirror: bool = False) -> View:
    """The whole image at the top left of the canvas, as large as it fits, the rest padded; or its mirror
    image, likewise at the top left."""
    factor = fit_factor(height, width, canvas)
    size = max(1, round(height * factor)), max(1, round(width * factor))
    return View((("resize", *size), *(_FLIP if mirror else ()), ("crop", 0, 0, *canvas)))


def pick(uniform: float, num_choices: int) -> int:
    """0 .. num_choices - 1, uniform, from a number in [0, 1)."""
    return min(int(uniform * num_choices), num_choices - 1)


def draw_view(
    recipe: Recipe,
    *,
    seed: int,
    key: str,
    number: int,
    height: int,
    width: int,
    crop: tuple[int, int],
    turned: bool = False,
    partners: Sequence[str] = (),
    words: Words = endless,
) -> View:
    """View `number` of the sample `key`: `crop` = (h, w) pixels of its `height` x `width` image.

    `turned`: four consecutive numbers share their flip and are turned by 0..3 quarters counter-clockwise.
    `partners`: keys of the valid samples of its shard; without another one nothing is mixed.
    """

    def of(purpose: int, counter: int = number) -> Iterator[float]:
        return words(seed, key, counter, purpose)

    if (scale := recipe.scale or _relative(recipe.fit, height, width, crop)) is not None:
        view = draw_crop(
            seed=seed,
            key=key,
            number=number,
            height=height,
            width=width,
            crop=crop,
            min_scale=scale[0],
            max_scale=scale[1],
            flip=recipe.flip,
            words=words,
        )
    else:
        flip = recipe.flip and next(of(_FLIPS, number // QUARTERS if turned else number)) < 0.5
        view = _geometry(recipe, of(_GEOMETRY), height, width, crop, flip=flip)
    quarter: list[Op] = [("turn", number % QUARTERS)] if turned and number % QUARTERS else []
    return View((*view.ops, *quarter, *_effects(recipe, of, key, crop, partners)))


def _relative(
    fit: tuple[float, float] | None, height: int, width: int, crop: tuple[int, int]
) -> tuple[float, float] | None:
    """Scales relative to the fitting one as scales of the image."""
    if fit is None:
        return None
    factor = fit_factor(height, width, crop)
    return fit[0] * factor, fit[1] * factor


def _effects(
    recipe: Recipe,
    words: Callable[[int], Iterator[float]],
    key: str,
    crop: tuple[int, int],
    partners: Sequence[str],
) -> list[Op]:
    """What follows geometry, in the order of the recipe's fields."""
    effects: list[Op] = []
    if recipe.randaugment is not None:
        effects += _randaugment(words(_RANDAUGMENT), *recipe.randaugment)
    if recipe.jitter is not None:
        effects += _jitter(words(_JITTER), recipe.jitter)
    if recipe.erase is not None:
        effects += _erase(words(_ERASE), recipe.erase, crop)
    if recipe.mixes and (partner := _partner(next(words(_PARTNER)), key, partners)):
        effects += _mix(words(_MIX), recipe, partner, crop)
    return effects


def _geometry(
    recipe: Recipe, words: Iterator[float], height: int, width: int, crop: tuple[int, int], *, flip: bool
) -> View:
    """Classification: a random region, a shifted image, or the centre."""
    if recipe.rrc is not None:
        size, corner = _region(words, recipe.rrc, height, width, crop)
    elif recipe.pad is not None:
        size, pad = (height, width), recipe.pad
        corner = [
            pick(next(words), max(0, side + 2 * pad - wanted) + 1) - pad
            for side, wanted in zip(size, crop, strict=True)
        ]
    else:
        size, corner = centre_view(height, width, crop)
    mirrored: tuple[Op, ...] = (("flip",),) if flip else ()
    return View((("resize", *size), *mirrored, ("crop", *corner, *crop)))


def _region(
    words: Iterator[float], min_area: float, height: int, width: int, crop: tuple[int, int]
) -> tuple[tuple[int, int], list[int]]:
    """The region as a size of the whole image and a crop in it: the part shown is the region, resized."""
    for _ in range(_TRIES):
        area = height * width * (min_area + next(words) * (1 - min_area))
        aspect = math.exp((2 * next(words) - 1) * math.log(4 / 3))
        h, w = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < h <= height and 0 < w <= width:
            break
    else:  # the whole image, cut to the nearest legal aspect
        h, w = min(height, round(width / 0.75)), min(width, round(height * 4 / 3))
    size = max(crop[0], round(height * crop[0] / h)), max(crop[1], round(width * crop[1] / w))
    return size, [pick(next(words), side - wanted + 1) for side, wanted in zip(size, crop, strict=True)]


def _randaugment(words: Iterator[float], count: int, magnitude: int) -> list[Op]:
    """`count` operations, the same one may come twice. All are drawn, 'identity' leaves no trace."""
    effects: list[Op] = []
    level = magnitude / _MAGNITUDES
    for _ in range(count):
        name = _RANDAUGMENT_OPS[pick(next(words), len(_RANDAUGMENT_OPS))]
        sign = 1 if next(words) < 0.5 else -1
        if name in _SIGNED:
            most, nothing = _SIGNED[name]
            effects.append((name, nothing + sign * round(most * level)))
        elif name == "posterize":
            effects.append((name, 8 - round(4 * level)))
        elif name == "solarize":
            effects.append((name, round(255 * (1 - level))))
        elif name != "identity":
            effects.append((name,))
    return effects


def _jitter(words: Iterator[float], strength: tuple[float, float, float, float]) -> list[Op]:
    """Factors in random order; a strength of 0 leaves its operation out."""
    names = ("brightness", "contrast", "saturation", "hue")
    draws = [(next(words), next(words)) for _ in names]
    placed: list[tuple[float, Op]] = []
    for name, most, (place, value) in zip(names, strength, draws, strict=True):
        low, high = (-most, most) if name == "hue" else (max(0.0, 1 - most), 1 + most)
        if most:
            placed.append((place, (name, round(1000 * (low + value * (high - low))))))
    return [op for _, op in sorted(placed)]


def _erase(words: Iterator[float], probability: float, crop: tuple[int, int]) -> list[Op]:
    """A rectangle of 2 % to 33 % of the crop, aspect 0.3 to 3.3, in the colour of padding."""
    if next(words) >= probability:
        return []
    for _ in range(_TRIES):
        area = crop[0] * crop[1] * (0.02 + next(words) * 0.31)
        aspect = math.exp(math.log(0.3) + next(words) * math.log(11))
        h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        y, x = next(words), next(words)
        if 0 < h < crop[0] and 0 < w < crop[1]:
            return [("erase", pick(y, crop[0] - h + 1), pick(x, crop[1] - w + 1), h, w, *FILL_RGB)]
    return []


def _partner(uniform: float, key: str, partners: Sequence[str]) -> str:
    """Another sample, each with equal chance; '' when there is none."""
    if len(partners) < 2:
        return ""
    chosen = partners[pick(uniform, len(partners) - 1)]
    return partners[-1] if chosen == key else chosen


def _mix(words: Iterator[float], recipe: Recipe, partner: str, crop: tuple[int, int]) -> list[Op]:
    """Mixup, or CutMix: a rectangle of share 1 - s about a uniform centre, cut at the border."""
    coin, down, right = next(words), next(words), next(words)
    if recipe.cutmix is None or (recipe.mixup is not None and coin < 0.5):
        assert recipe.mixup is not None
        return [("mixup", round(1000 * _beta(words, recipe.mixup)), partner)]
    side = math.sqrt(1 - _beta(words, recipe.cutmix))
    y, x = (pick(u, length) - int(length * side) // 2 for u, length in ((down, crop[0]), (right, crop[1])))
    bottom, rightmost = (
        min(start + int(length * side), length) for start, length in ((y, crop[0]), (x, crop[1]))
    )
    y, x = max(0, y), max(0, x)
    h, w = bottom - y, rightmost - x
    return [("cutmix", y, x, h, w, partner)] if h > 0 and w > 0 else []


def _beta(words: Iterator[float], alpha: float) -> float:
    """One draw of Beta(alpha, alpha) by Joehnk's rejection; logarithms, because u^(1/alpha) underflows."""
    while True:
        a, b = (math.log(next(words) + 2.0**-54) / alpha for _ in range(2))
        most = max(a, b)
        total = most + math.log(math.exp(a - most) + math.exp(b - most))
        if total <= 0:
            return math.exp(a - total)
