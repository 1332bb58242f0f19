"""What a person should know of data that are legal and still hardly meant: pixels that count nowhere, a first
class that nobody has, 16-bit images that use the lower end of their range.

A few samples are looked at, evenly spread, so that no epoch waits for it. What cannot be read is left to the
check that names it.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from kdcache.cache.errors import KdError
from kdcache.cache.sources.labels import DECODE_ERRORS
from kdcache.cache.spec import IGNORE

LOOKED_AT = 100  # samples
FULL_16_BIT = (1 << 16) - 1
DARK = 1 << 14  # 16-bit images below a quarter of the range can hardly be meant so


def spread(count: int) -> list[int]:
    """At most LOOKED_AT of `count` indices, evenly spread."""
    return [k * count // min(count, LOOKED_AT) for k in range(min(count, LOOKED_AT))]


def label_remarks(
    train_ids_of: Callable[[int], np.ndarray], count: int, class_names: Sequence[str]
) -> Iterator[str]:
    """Of label maps: the share that is ignored, and a class 0 without pixels. `train_ids_of` gives the map of
    an index, uint8."""
    pixels, looked = np.zeros(IGNORE + 1, dtype=np.int64), 0
    for index in spread(count):
        try:
            pixels += np.bincount(train_ids_of(index).reshape(-1), minlength=IGNORE + 1)
        except KdError:
            continue
        looked += 1
    total, ignored = int(pixels.sum()), int(pixels[IGNORE])
    where = f"{looked} labels" if looked == count else f"{looked} of {count} labels"
    if ignored:
        said = f"{ignored / total:.1%} of the pixels of {where} are ignored (train id {IGNORE}"
        much = 2 * ignored > total
        warning = f"): more than half; a class that is stored as {IGNORE} has to get a number of its own"
        yield said + (warning if much else ")")
    if total > ignored and not pixels[0]:
        lowest = int(np.flatnonzero(pixels)[0])
        yield _no_first_class(class_names, f"no pixel in {where}", lowest)


def class_remarks(labels_N: np.ndarray, class_names: Sequence[str]) -> Iterator[str]:
    """Of one class per row, integers: a class 0 that no row has."""
    if labels_N.size and not (labels_N == 0).any():
        yield _no_first_class(class_names, "no row", int(labels_N.min()))


def depth_remarks(paths: Sequence[Path]) -> Iterator[str]:
    """Of image files: 16-bit grey whose values stay in the lower part of the range."""
    lows, highs = [], []
    for path in (paths[index] for index in spread(len(paths))):
        try:
            with Image.open(path) as image:
                if image.mode.startswith("I"):
                    low, high = image.getextrema()
                    lows.append(int(low))  # type: ignore[arg-type]
                    highs.append(int(high))  # type: ignore[arg-type]
        except DECODE_ERRORS:
            continue
    if highs and max(highs) < DARK:
        yield (
            f"16-bit images hold values {min(lows)}..{max(highs)} of 0..{FULL_16_BIT}, and networks see the "
            f"upper 8 bits, here 0..{max(highs) >> 8} of 255: stretch them to the whole range"
        )


def _no_first_class(class_names: Sequence[str], has: str, lowest: int) -> str:
    name = f" '{class_names[0]}'" if class_names and class_names[0] != "0" else ""
    return f"class 0{name} has {has}, the lowest there is {lowest}: classes are counted from 0, not from 1"
