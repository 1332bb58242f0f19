"""Small encoded images and labels, and feeds of them, for the tests of the image pipeline."""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image

from kdcache.cache.images.feed import Feed
from kdcache.cache.views.view import Geometry, Row

HEIGHT, WIDTH = 60, 88
CELL = 8
WHOLE = Geometry(HEIGHT, WIDTH, 0, 0, 0, HEIGHT, WIDTH)


def encode(pixels: np.ndarray, kind: str = "PNG", **options: object) -> np.ndarray:
    """Read-only bytes, as a mapped file gives them."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return np.frombuffer(buffer.getvalue(), dtype=np.uint8)


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def painted() -> tuple[np.ndarray, np.ndarray]:
    """An image whose red is 2 * x and green 2 * y, and a label that numbers cells of CELL x CELL pixels."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    columns = WIDTH // CELL
    image = np.stack([2 * x, 2 * y, 0 * x], axis=-1).astype(np.uint8)
    return image, (y // CELL * columns + x // CELL).astype(np.uint8)


def rows_of(*geometry: Geometry) -> list[Row]:
    """Rows of samples 0, 1 ... without effects."""
    return [Row(sample, 0, one) for sample, one in enumerate(geometry)]


def plain_feed(number: int, size: int = 2) -> Feed:
    """Batch `number` of noise; its passenger is filled with the number."""
    image, label = encode(noise(number)), encode(np.full((HEIGHT, WIDTH), number % 200, dtype=np.uint8))
    passenger = [np.full((3, 4, 5), number, dtype=np.float16) for _ in range(size)]
    return Feed(rows_of(*[WHOLE] * size), [image] * size, maps=[label] * size, passengers=[passenger])


def ending(feed: Callable[[int], Feed], stop: int) -> Callable[[int], Feed | None]:
    return lambda number: feed(number) if number < stop else None
