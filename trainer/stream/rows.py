"""From the rows of a micro batch to what the image pipeline takes, and back: one place for every stream.

Sample indices, classes and the shares of mixed samples travel through the pipeline beside the pixels, so they
cannot get out of step with them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from kdcache.cache.images.feed import Feed, ImageBatch, Partner
from kdcache.cache.spec import SEGMENTATION
from kdcache.cache.views.view import Geometry, Op, own_share
from kdcache.trainer.stream.batch import Mixed, SampleSource


class BatchRow(NamedTuple):
    """One row of a batch: a sample, its pixels, and what is mixed into them."""

    sample: int
    geometry: Geometry
    effects: tuple[Op, ...] = ()
    partner: int | None = None  # index of the sample that is mixed in
    mixed_in: Partner | None = None  # its pixels


class Labelled(NamedTuple):
    """What came out of the pipeline, apart again."""

    labels: Tensor  # segmentation (B, H, W) uint8; classification (B,) int64
    samples_B: Tensor  # int64
    mixed: Mixed | None
    passengers: list[Tensor]  # the stream's own


class RowFeed:
    """Feeds of `samples`; with `mixes`, rows may show two of them."""

    def __init__(self, samples: SampleSource, *, mixes: bool) -> None:
        self._samples = samples
        self.with_labels = samples.task == SEGMENTATION  # label maps follow the geometry, classes do not
        self.mixes = mixes
        self.num_passengers = 1 + int(not self.with_labels) + 2 * int(mixes)

    def feed(self, rows: Sequence[BatchRow], passengers: Sequence[list[np.ndarray]] = ()) -> Feed:
        """Encoded bytes, numbers and labels of the rows; `passengers` are the stream's own."""
        travelling = [[np.array(row.sample, dtype=np.int64) for row in rows]]
        labels = [self._samples.label(row.sample) for row in rows]
        if not self.with_labels:
            travelling.append(labels)
        if self.mixes:
            others = [row.sample if row.partner is None else row.partner for row in rows]
            travelling.append([self._samples.label(other) for other in others])
            shares = [own_share(row.effects, row.geometry.crop_h, row.geometry.crop_w) for row in rows]
            travelling.append([np.array(share, dtype=np.float32) for share in shares])
        return Feed(
            encoded=[self._samples.image(row.sample) for row in rows],
            labels=labels if self.with_labels else [],
            geometry=[row.geometry for row in rows],
            passengers=[*travelling, *passengers],
            effects=[row.effects for row in rows],
            partners=[row.mixed_in for row in rows] if self.mixes else [],
        )

    def labelled(self, found: ImageBatch) -> Labelled:
        """Undo `feed`."""
        rest = list(found.passengers)
        samples_B = rest.pop(0)
        labels = found.labels_BHW if self.with_labels else rest.pop(0).flatten()
        assert labels is not None, "the pipeline was asked for labels"
        mixed = Mixed(rest.pop(0).flatten(), rest.pop(0)) if self.mixes else None
        return Labelled(labels, samples_B, mixed, rest)
