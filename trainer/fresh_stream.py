"""Fresh views: every epoch draws a new crop of every sample from its encoded bytes. No targets.

Per micro step: positions -> (sample, epoch) -> view number FRESH_VIEW + epoch, drawn from (seed, key,
number) -> pixels. Nothing is remembered, so a stream started at step n gives what an uninterrupted one
gives from n on.
"""

from collections.abc import Iterator

import numpy as np
from torch import Tensor

from kdcache.cache.images import Feed, ImagePipeline
from kdcache.cache.sources.contract import Source
from kdcache.cache.view import VIEW_VERSION, Geometry
from kdcache.cache.view_draw import draw_crop
from kdcache.trainer.batch_layout import Batch, BatchLayout, SampleSource
from kdcache.trainer.order import Placed, samples_at
from kdcache.trainer.source_samples import as_samples

FRESH_VIEW = 1 << 20  # first view number of fresh views: no cache stores so many, so none is ever drawn twice


class FreshStream:
    """Random crops of `samples`, drawn anew in every epoch. See `Stream`."""

    def __init__(
        self,
        samples: SampleSource,
        *,
        layout: BatchLayout,
        crop: tuple[int, int],
        min_scale: float = 0.5,
        max_scale: float = 2.0,
        flip: bool = True,
        num_threads: int = 1,
        device_id: int | None = None,
        shard_samples: int = 1,
    ) -> None:
        self.layout = layout
        self._samples = samples
        self._invalid = np.asarray(samples.invalid, dtype=np.int64)
        self._crop, self._scales, self._flip = crop, (min_scale, max_scale), flip
        self._shard_samples = shard_samples
        self._num_threads, self._device_id = num_threads, device_id
        self._pipeline: ImagePipeline | None = None

    @property
    def num_samples(self) -> int:
        return self._samples.num_samples - len(self._invalid)

    def placed(self, micro_step: int) -> Placed:
        """Samples and epochs of one micro batch."""
        return samples_at(
            self.layout.seed,
            self.layout.positions(micro_step),
            num_samples=self._samples.num_samples,
            shard_samples=self._shard_samples,
            invalid=self._invalid,
        )

    def feed(self, micro_step: int) -> Feed:
        """Encoded bytes and geometry of one micro batch; a pure function of its number."""
        placed = self.placed(micro_step)
        rows = list(zip(placed.samples.tolist(), placed.epochs.tolist(), strict=True))
        return Feed(
            encoded=[self._samples.image(i) for i, _ in rows],
            labels=[self._samples.label(i) for i, _ in rows],
            geometry=[self.geometry(i, epoch) for i, epoch in rows],
            passengers=[],
        )

    def geometry(self, index: int, epoch: int) -> Geometry:
        """The crop of one sample in one epoch."""
        height, width = self._samples.size(index)
        view = draw_crop(
            seed=self.layout.seed,
            key=self._samples.key(index),
            number=FRESH_VIEW + epoch,
            height=height,
            width=width,
            crop=self._crop,
            min_scale=self._scales[0],
            max_scale=self._scales[1],
            flip=self._flip,
        )
        return view.geometry(height, width)

    def run(self, start_micro_step: int = 0) -> Iterator[Batch]:
        """Endless batches from `start_micro_step` on. A second run ends the first."""
        self.close()
        self._pipeline = ImagePipeline(
            self.feed,
            batch_size=self.layout.micro_batch,
            with_labels=True,
            num_threads=self._num_threads,
            device_id=self._device_id,
            name_of=lambda step, row: self._samples.key(int(self.placed(step).samples[row])),
        )
        for step, pixels in enumerate(self._pipeline.run(start_micro_step), start_micro_step):
            assert pixels.labels_BHW is not None
            epoch = self.layout.positions(step).start // self.num_samples
            yield Batch(pixels.images_BHWC, pixels.labels_BHW, {}, step, epoch)

    def targets(self, batch: Batch) -> dict[str, Tensor]:
        """None: nobody has seen these pixels before. Wrap the stream in `online` for a live teacher."""
        del batch
        return {}

    def close(self) -> None:
        if self._pipeline is not None:
            self._pipeline.close()
            self._pipeline = None

    def describe(self) -> dict[str, object]:
        return {
            "views": "fresh",
            "view_version": VIEW_VERSION,
            "crop": list(self._crop),
            "scale": list(self._scales),
            "flip": self._flip,
            "samples": self.num_samples,
        }


def fresh_stream(
    source: Source | SampleSource,
    *,
    layout: BatchLayout,
    crop: tuple[int, int],
    min_scale: float = 0.5,
    max_scale: float = 2.0,
    flip: bool = True,
    num_threads: int = 1,
    device_id: int | None = None,
    shard_samples: int = 1,
) -> FreshStream:
    """Fresh views of a Source's files or of a cache's stored samples; crop = (height, width) in pixels.

    `shard_samples` > 1 shuffles by blocks of so many samples (for samples in tars); 1 shuffles in full.
    """
    return FreshStream(
        as_samples(source),
        layout=layout,
        crop=crop,
        min_scale=min_scale,
        max_scale=max_scale,
        flip=flip,
        num_threads=num_threads,
        device_id=device_id,
        shard_samples=shard_samples,
    )
