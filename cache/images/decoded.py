"""Decoded images in one run of memory, and crops of them for whole batches: no decoder, no DALI.

Every image lies row by row, `pad` pixels of fill to the right of each row. The padding on the left of a row
is the padding on the right of the row before, and the first row's is the fill that the memory begins with: a
crop that leaves its image reads fill on either side. Rows above and below are read from that first fill.
So a batch is one gather of runs of `crop_w` pixels, (B, crop_h) of them, whatever the sizes of the images.

Turning a crop round costs ten times the gather, so with `mirrored` every image lies there a second time, seen
from behind: a flipped crop is a crop of that.

Axes: N images, B rows of a batch, H W pixels, C channels.
"""

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from kdcache.cache.views.view import Geometry

RESIZE_H, RESIZE_W, FLIP, CROP_Y, CROP_X, CROP_H, CROP_W = range(len(Geometry._fields))
ABSENT = -1  # offset of an image that nobody reads


class Reach(NamedTuple):
    """How far crops of some images go."""

    beside: int  # pixels that any of them shows left or right of its image, at most
    width: int  # of the widest crop
    flips: bool  # whether any is flipped


class Layout(NamedTuple):
    """Where each image lies. Arrays have one entry per index of what is read."""

    offsets: np.ndarray  # (N,) int64, in pixels; ABSENT where an image is not kept
    sizes: np.ndarray  # (N, 2) int64, height and width
    pad: int  # pixels of fill between two rows
    fill: int  # pixels of fill before the first image
    half: int  # pixels from an image to its mirror image; 0 where there is none
    num_pixels: int


def reach_of(geometry: np.ndarray) -> Reach:
    """Of crops as (B, 7) integers in the order of `Geometry`."""
    g = geometry.astype(np.int64)
    if not len(g):
        return Reach(0, 1, False)
    beyond = g[:, CROP_X] + g[:, CROP_W] - g[:, RESIZE_W]
    beside = int(max(0, (-g[:, CROP_X]).max(), beyond.max()))
    return Reach(beside, int(g[:, CROP_W].max()), bool(g[:, FLIP].any()))


def joined(reaches: list[Reach]) -> Reach:
    """What holds all of them."""
    beside, width = (max((one[place] for one in reaches), default=0) for place in (0, 1))
    return Reach(int(beside), max(1, int(width)), any(one.flips for one in reaches))


def layout_of(sizes: np.ndarray, kept: np.ndarray, reach: Reach) -> Layout:
    """`sizes` (N, 2) height and width; `kept` (N,) bool: the images that are read."""
    pad = reach.beside
    fill = max(pad, reach.width)
    pixels = np.where(kept, sizes[:, 0] * (sizes[:, 1] + pad), 0)
    ends = np.cumsum(pixels)
    half = int(ends[-1]) if len(ends) and reach.flips else 0
    offsets = np.where(kept, fill + ends - pixels, ABSENT)
    total = fill + int(ends[-1] if len(ends) else 0) + half
    return Layout(offsets, sizes, pad, fill, half, total)


class Decoded:
    """Pixels of one kind, RGB or label maps, of many images. Read by any thread, written once."""

    def __init__(self, layout: Layout, memory: np.ndarray, fill: tuple[int, ...], *, written: bool) -> None:
        """`memory` (num_pixels * C,) uint8; `fill` the C values outside of an image. `written`: another
        process has put the images there already."""
        self.layout = layout
        self._pixels = memory.reshape(layout.num_pixels, len(fill))
        self._channels = len(fill)
        self._runs: dict[int, np.ndarray] = {}  # by width: one from every pixel
        if not written:
            self._pixels[:] = fill

    def put(self, index: int, image_HWC: np.ndarray) -> None:
        """One decoded image (H, W, C), and its mirror image where crops are flipped."""
        height, width = self.layout.sizes[index].tolist()
        assert image_HWC.shape == (height, width, self._channels), "an image of the size that was announced"
        first = int(self.layout.offsets[index])
        for start, seen in ((first, image_HWC), (first + self.layout.half, image_HWC[:, ::-1])):
            rows = self._pixels[start : start + height * (width + self.layout.pad)]
            rows.reshape(height, width + self.layout.pad, self._channels)[:, :width] = seen
            if not self.layout.half:
                return

    def crops(self, samples: np.ndarray, geometry: np.ndarray) -> np.ndarray:
        """(B, crop_h, crop_w, C) uint8 in memory of its own: crops of images that are not resized.

        `geometry` (B, 7) in the order of `Geometry`, with one crop size for all.
        """
        crop_h, crop_w = (int(n) for n in geometry[0, CROP_H:])
        heights, widths = self.layout.sizes[samples].T
        flipped = geometry[:, FLIP] == 1
        assert self.layout.half or not flipped.any(), "a flipped crop of images without their mirror images"
        rows = geometry[:, CROP_Y, None].astype(np.int64) + np.arange(crop_h)
        first = self.layout.offsets[samples] + np.where(flipped, self.layout.half, 0) + geometry[:, CROP_X]
        starts = first[:, None] + rows * (widths + self.layout.pad)[:, None]
        np.copyto(starts, 0, where=(rows < 0) | (rows >= heights[:, None]))
        crops: np.ndarray = self._runs_of(crop_w)[starts]
        return crops.reshape(len(samples), crop_h, crop_w, self._channels)

    def _runs_of(self, width: int) -> np.ndarray:
        if width not in self._runs:
            count, size = self.layout.num_pixels - width + 1, self._channels
            self._runs[width] = as_strided(self._pixels, (count, width * size), (size, 1), writeable=False)
        return self._runs[width]
