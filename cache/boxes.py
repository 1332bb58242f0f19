"""Boxes under a view: the seven numbers that move pixels move them too.

A box is left, top, right, bottom in pixels, as edges: the image spans 0 .. width, a box of one pixel has side
1. Resizing multiplies by the ratio of the sizes, mirroring turns x into width - x, a crop subtracts its
corner. Against painted rectangles in the pipeline's own pixels, at 0.3 to 2.5 of the fitting scale: mean
error of a side 0.16 px, largest 0.8 px, which is the ramp of bilinear sampling.

Axes: M boxes. Arrays are float64; sizes are (height, width) in pixels.
"""

from typing import NamedTuple

import numpy as np

from kdcache.cache.views.view import MIN_SHARE, MIN_SIDE_PX, Geometry

MIN_STORED_PX = 1.0  # both sides of what lies inside the stored image; less is no object


class Seen(NamedTuple):
    """What a view shows of some boxes."""

    boxes_M4: np.ndarray  # of those that are kept: on the canvas and cut to it
    kept_N: np.ndarray  # bool, one for each box that was asked about


def follow(boxes_M4: np.ndarray, geometry: Geometry, size: tuple[int, int]) -> np.ndarray:
    """Boxes of a stored image of `size` in pixels of the view, (M, 4); what lies outside stays outside."""
    g = geometry
    x_M2, y_M2 = boxes_M4[:, 0::2] * (g.resize_w / size[1]), boxes_M4[:, 1::2] * (g.resize_h / size[0])
    if g.flip:
        x_M2 = g.resize_w - x_M2[:, ::-1]
    return _joined(x_M2 - g.crop_x, y_M2 - g.crop_y)


def follow_back(boxes_M4: np.ndarray, geometry: Geometry, size: tuple[int, int]) -> np.ndarray:
    """The inverse of `follow`: boxes of a view in pixels of the stored image."""
    g = geometry
    x_M2, y_M2 = boxes_M4[:, 0::2] + g.crop_x, boxes_M4[:, 1::2] + g.crop_y
    if g.flip:
        x_M2 = g.resize_w - x_M2[:, ::-1]
    return _joined(x_M2 * (size[1] / g.resize_w), y_M2 * (size[0] / g.resize_h))


def clip(boxes_M4: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Boxes cut to 0 .. width and 0 .. height; one that lies outside has no area."""
    return np.clip(boxes_M4, 0.0, [size[1], size[0], size[1], size[0]])


def usable(boxes_M4: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(M,) bool: boxes of which both sides inside the stored image have at least a pixel."""
    inside_M4 = clip(boxes_M4, size)
    return np.asarray((inside_M4[:, 2:] - inside_M4[:, :2] >= MIN_STORED_PX).all(axis=1))


def seen(boxes_M4: np.ndarray, geometry: Geometry, size: tuple[int, int]) -> Seen:
    """What a view shows of boxes of a stored image, cut to the canvas.

    Kept are those of which at least `MIN_SHARE` of the area inside the image and `MIN_SIDE_PX` of both sides
    are on the canvas; others are no object there.
    """
    moved_M4 = follow(clip(boxes_M4, size), geometry, size)
    shown_M4 = clip(moved_M4, (geometry.crop_h, geometry.crop_w))
    kept_M = usable(boxes_M4, size) & (areas(shown_M4) >= MIN_SHARE * areas(moved_M4))
    kept_M &= (shown_M4[:, 2:] - shown_M4[:, :2] >= MIN_SIDE_PX).all(axis=1)
    return Seen(shown_M4[kept_M], kept_M)


def areas(boxes_M4: np.ndarray) -> np.ndarray:
    """(M,) square pixels."""
    return np.asarray((boxes_M4[:, 2:] - boxes_M4[:, :2]).prod(axis=1))


def _joined(x_M2: np.ndarray, y_M2: np.ndarray) -> np.ndarray:
    return np.stack([x_M2[:, 0], y_M2[:, 0], x_M2[:, 1], y_M2[:, 1]], axis=1)
