"""From rows to what the image pipeline takes: encoded images of the samples, of their partners, and truths.

One place for streams, judges, the builder and whoever looks at a cache.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from kdcache.cache.images.feed import Feed
from kdcache.cache.tasks.contract import RowTruth, Truth
from kdcache.cache.views.view import Row


class EncodedImages(Protocol):
    """What rows of pixels are read from: a cache, a source's samples, one block."""

    def image(self, index: int) -> np.ndarray:
        """The encoded image, 1-D uint8."""
        ...


class EncodedSamples(EncodedImages, Protocol):
    """Images with their truth."""

    def truth(self, index: int) -> np.ndarray:
        """As `Truth.parse` gives it."""
        ...

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of the stored image in pixels."""
        ...


def pixel_feed(
    images: EncodedImages, rows: Sequence[Row], passengers: Sequence[list[np.ndarray]] = ()
) -> Feed:
    """The rows' images, and those that are mixed in; no truth. `passengers` pass through the pipeline."""
    partners = [row.partner for row in rows]
    return Feed(
        rows=rows,
        encoded=[images.image(row.sample) for row in rows],
        mixed_in=[None if p is None else images.image(p.sample) for p in partners] if any(partners) else [],
        passengers=passengers,
    )


def feed_with_truth(
    samples: EncodedSamples,
    rows: Sequence[Row],
    truth: Truth,
    *,
    mixes: bool = False,
    passengers: Sequence[list[np.ndarray]] = (),
) -> Feed:
    """The rows' images with their truths; with `mixes` each truth has another beside it.

    What rides goes through the pipeline with its image, anything else is moved here as the row's view says.
    """
    truths = [row_truth(samples, row, truth, mixes=mixes) for row in rows]
    maps = [one.own for one in truths] if truth.rides else []
    return pixel_feed(samples, rows, passengers)._replace(maps=maps, truths=truths)


def row_truth(samples: EncodedSamples, row: Row, truth: Truth, *, mixes: bool) -> RowTruth:
    """A row's truth under its view; where `mixes` found nobody to mix in, the other truth is its own."""
    own = _seen(samples, row, truth)
    if not mixes:
        return RowTruth(own)
    return RowTruth(own, own if row.partner is None else _seen(samples, row.partner, truth), row.own_share)


def _seen(samples: EncodedSamples, row: Row, truth: Truth) -> np.ndarray:
    value = samples.truth(row.sample)
    if truth.rides:
        return value
    return truth.moved(value, row.geometry, row.effects, samples.size(row.sample))
