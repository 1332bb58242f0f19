"""Scenes for the demo: textured shapes on textured ground, drawn from (seed, split, index) alone.

Steps: ground -> 3 to 5 shapes, each over the ones before -> light -> blur -> noise. A class is an outline
together with a texture, in a colour near the usual one of its class; light changes the colours across the
scene, and the ground carries the same textures faintly. Shapes have 16 to 44 pixels radius, and some are half
hidden. About 12 ms a scene on one core.

How hard it is, measured with networks from scratch (batches of 8 crops, mIoU on val, DeepLabV3 at stride 8).
Crops of 96 pixels: a ResNet-10 0.79 after 300 steps; a network a seventh of its size 0.69 after 120 steps
(mean of three seeds), 0.76 after 240. Crops of 64 pixels, which take half of the time: 0.74 after 150 steps;
0.69 after 120. So the teacher is good within a minute, and the student has something to learn.

Shapes: H W height and width in pixels.
"""

import hashlib
import math
from typing import NamedTuple

import numpy as np

from kdcache.cache.spec import IGNORE

CLASSES = ("ground", "striped_disc", "dotted_disc", "striped_box", "dotted_box", "ring")
NUM_SHAPES = (3, 6)  # from, and below
MIN_SIDE, MAX_SIDE = 96, 128  # pixels
MIN_RADIUS, MAX_RADIUS = 16.0, 44.0  # pixels
# The colours of a class spread over less than half of the way to those of the next class.
USUAL_COLOURS = {
    "striped_disc": (185, 100, 100),
    "dotted_disc": (100, 185, 100),
    "striped_box": (100, 100, 185),
    "dotted_box": (175, 175, 90),
    "ring": (175, 90, 175),
}
COLOUR_SPREAD = 18  # grey levels to either side
RING_HOLE = 0.4  # of the radius
MIN_VISIBLE = 16  # pixels; what is left of a shape below that is ignored, nobody could name it


class Scene(NamedTuple):
    image_HW3: np.ndarray  # uint8 RGB
    label_HW: np.ndarray  # uint8, 255 = ignore


def draw_scene(*, seed: int, split: str, index: int) -> Scene:
    """Pure: the same three give the same pixels, in any order and process."""
    key = hashlib.blake2b(f"{seed}/{split}/{index}".encode(), digest_size=16).digest()
    rng = np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))
    height, width = (int(n) for n in rng.integers(MIN_SIDE, MAX_SIDE + 1, size=2))
    y_HW, x_HW = np.mgrid[0:height, 0:width].astype(np.float64)
    image = _ground(rng, y_HW, x_HW)
    owner_HW = np.zeros((height, width), dtype=np.int64)  # 0 ground, else the number of the shape on top
    classes = [0]
    for number in range(1, int(rng.integers(*NUM_SHAPES)) + 1):
        kind = int(rng.integers(1, len(CLASSES)))
        inside = _paint(rng, image, y_HW, x_HW, CLASSES[kind])
        owner_HW[inside] = number
        classes.append(kind)
    visible = np.bincount(owner_HW.reshape(-1), minlength=len(classes))
    named = np.where(visible < MIN_VISIBLE, IGNORE, classes).astype(np.uint8)
    return Scene(_photograph(rng, image, y_HW, x_HW), named[owner_HW])


def _ground(rng: np.random.Generator, y_HW: np.ndarray, x_HW: np.ndarray) -> np.ndarray:
    """Float RGB (H, W, 3) in 0..255: two colours in large soft patches, under a faint texture."""
    patches = _wave(rng, y_HW, x_HW, 40, 90) + _wave(rng, y_HW, x_HW, 40, 90)
    share = 0.5 + 0.25 * patches[..., None]
    first, second = _colour_pair(rng, (128, 128, 128), contrast=float(rng.uniform(10, 40)))
    image = first * share + second * (1 - share)
    texture = _texture(rng, y_HW, x_HW, striped=bool(rng.integers(2)))
    return np.asarray(image + float(rng.uniform(0, 25)) * (texture - 0.5)[..., None])


def _paint(
    rng: np.random.Generator, image: np.ndarray, y_HW: np.ndarray, x_HW: np.ndarray, name: str
) -> np.ndarray:
    """Paint one shape, its radius even in the logarithm; returns its pixels as bool (H, W)."""
    height, width = y_HW.shape
    radius = math.exp(rng.uniform(math.log(MIN_RADIUS), math.log(MAX_RADIUS)))
    aspect = math.sqrt(rng.uniform(0.6, 1.0))
    angle = rng.uniform(0, math.pi)
    y, x = y_HW - rng.uniform(0, height), x_HW - rng.uniform(0, width)
    along = (x * math.cos(angle) + y * math.sin(angle)) / (radius * aspect)
    across = (y * math.cos(angle) - x * math.sin(angle)) / (radius / aspect)
    if name.endswith("box"):
        inside = np.maximum(np.abs(along), np.abs(across)) <= 0.9  # about the area of the disc
    else:
        distance = np.hypot(along, across)
        inside = (distance <= 1) & (distance >= (RING_HOLE if name == "ring" else 0.0))
    striped = name.startswith("striped") or (name == "ring" and bool(rng.integers(2)))
    texture = _texture(rng, y, x, striped=striped)[..., None]
    first, second = _colour_pair(rng, USUAL_COLOURS[name], contrast=float(rng.uniform(60, 140)))
    shade = 1 + 0.25 * rng.uniform(-1, 1) * along[..., None]
    image[inside] = ((first * texture + second * (1 - texture)) * shade)[inside]
    return np.asarray(inside)


def _texture(rng: np.random.Generator, y_HW: np.ndarray, x_HW: np.ndarray, *, striped: bool) -> np.ndarray:
    """0..1 (H, W): stripes, or dots on a square lattice, of a period of 4 to 9 pixels at any angle."""
    period, angle = rng.uniform(4, 9), rng.uniform(0, math.pi)
    turns = 2 * math.pi / period
    first = np.sin(turns * (x_HW * math.cos(angle) + y_HW * math.sin(angle)) + rng.uniform(0, 6.28))
    second = np.sin(turns * (y_HW * math.cos(angle) - x_HW * math.sin(angle)) + rng.uniform(0, 6.28))
    height = first if striped else first + second  # dots: where two crossing waves are both high
    return np.asarray(np.clip(0.5 + 1.5 * height, 0, 1))


def _wave(
    rng: np.random.Generator, y_HW: np.ndarray, x_HW: np.ndarray, shortest: float, longest: float
) -> np.ndarray:
    """-1..1 (H, W): one plane wave of a length in pixels between the two."""
    angle, turns = rng.uniform(0, 2 * math.pi), 2 * math.pi / rng.uniform(shortest, longest)
    phase = rng.uniform(0, 2 * math.pi)
    return np.asarray(np.sin(turns * (x_HW * math.cos(angle) + y_HW * math.sin(angle)) + phase))


def _colour_pair(
    rng: np.random.Generator, usual: tuple[int, int, int], *, contrast: float
) -> tuple[np.ndarray, np.ndarray]:
    """Two RGB colours around a usual one, `contrast` grey levels apart in a random direction."""
    middle = np.array(usual) + rng.uniform(-COLOUR_SPREAD, COLOUR_SPREAD, size=3)
    direction = rng.normal(size=3)
    step = direction / np.linalg.norm(direction) * contrast / 2
    return middle + step, middle - step


def _photograph(
    rng: np.random.Generator, image: np.ndarray, y_HW: np.ndarray, x_HW: np.ndarray
) -> np.ndarray:
    """Light that varies across the scene and in colour, a 3x3 blur, and noise; uint8 RGB."""
    light = rng.uniform(0.6, 1.15) * (1 + rng.uniform(0, 0.3) * _wave(rng, y_HW, x_HW, 120, 300))
    lit = image * light[..., None] * rng.uniform(0.85, 1.15, size=3)
    padded = np.pad(lit, ((1, 1), (1, 1), (0, 0)), mode="edge")
    rows = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    blurred = (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / 4
    noisy = blurred + rng.normal(scale=rng.uniform(2, 9), size=blurred.shape)
    return np.asarray(np.clip(np.rint(noisy), 0, 255).astype(np.uint8))
