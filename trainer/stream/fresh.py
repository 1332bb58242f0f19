"""Fresh views: every epoch draws a new view of every sample from its encoded bytes. No targets.

Per micro step: positions -> (sample, epoch) -> view number FRESH_VIEW + epoch, drawn from (seed, key,
number) -> pixels. Nothing is remembered, so a stream started at step n gives what an uninterrupted one
gives from n on.

A recipe that mixes takes the other sample from the same run of MIX_BLOCK consecutive ones, in its own view of
the same number. With turned views every sample gives four rows: numbers 4n .. 4n + 3, n = FRESH_VIEW + epoch.
"""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from torch import Tensor

from kdcache.cache.fingerprint import digest_of
from kdcache.cache.images.feed import Feed
from kdcache.cache.images.pipeline import ImagePipeline
from kdcache.cache.reader.rows import feed_with_truth
from kdcache.cache.sources.contract import Source
from kdcache.cache.tasks.table import task_of
from kdcache.cache.views.draw import QUARTERS, draw_view
from kdcache.cache.views.recipe import Recipe, parse_recipe
from kdcache.cache.views.sets import check_turns
from kdcache.cache.views.view import Geometry, Row, View, partner_key
from kdcache.trainer.stream.batch import CLASSES, Batch, BatchLayout, SampleSource, batch_of
from kdcache.trainer.stream.order import Placed, samples_at
from kdcache.trainer.stream.source_samples import SourceSamples, as_samples

FRESH_VIEW = 1 << 20  # first view number of fresh views: no cache stores so many, so none is ever drawn twice
MIX_BLOCK = 256  # samples among which one finds the other that is mixed in


class FreshStream:
    """Random views of a source's files or a cache's samples, drawn anew in every epoch. See `Stream`."""

    def __init__(
        self,
        source: Source | SampleSource,
        *,
        layout: BatchLayout,
        crop: tuple[int, int],
        augment: str = "",
        turns: bool = False,
        num_threads: int = 1,
        device_id: int | None = None,
        shard_samples: int = 1,
    ) -> None:
        """crop = (height, width) in pixels; `augment` a recipe (`kdcache.cache.views.recipe`), '' the task's
        default; `turns`: each sample in four quarter turns; `shard_samples` > 1 shuffles by blocks of so many
        samples (for samples in tars), 1 in full. Raises BadOption for a recipe that the task cannot have.
        """
        self.layout = layout
        self._samples = as_samples(source)
        self._invalid = np.asarray(self._samples.invalid, dtype=np.int64)
        task = task_of(self._samples.task)
        self._crop, self._recipe, self._truth = crop, parse_recipe(augment, task.recipes), task.truth
        self._per_sample = QUARTERS if turns else 1
        if turns:
            check_turns(crop, self._recipe, "turned views of a fresh stream")
        self._shard_samples = shard_samples
        self._num_threads, self._device_id = num_threads, device_id
        self._pipeline: ImagePipeline | None = None
        self._mates = lru_cache(maxsize=64)(self._read_mates)

    @property
    def pixels(self) -> str:
        return "DALI, because every epoch draws new views"

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
        """Encoded bytes, views and truths of one micro batch; a pure function of its number."""
        placed = self.placed(micro_step)
        pairs = zip(placed.samples.tolist(), placed.epochs.tolist(), strict=True)
        quarters = range(self._per_sample)
        rows = [self.row(index, epoch, quarter) for index, epoch in pairs for quarter in quarters]
        return feed_with_truth(self._samples, rows, self._truth, mixes=self._recipe.mixes)

    def row(self, index: int, epoch: int, quarter: int = 0) -> Row:
        """One sample in one epoch, with who is mixed in: in its own view of the same number."""
        own = self._unmixed(index, epoch, quarter)
        key = partner_key(own.effects)
        if key is None:
            return own
        return own.mixed_with(self._unmixed(self._mates(index // MIX_BLOCK)[key], epoch, quarter))

    def _unmixed(self, index: int, epoch: int, quarter: int) -> Row:
        view = self.view(index, epoch, quarter)
        return view.row(index, self._number(epoch, quarter), self._samples.size(index))

    def _number(self, epoch: int, quarter: int) -> int:
        return (FRESH_VIEW + epoch) * self._per_sample + quarter

    def view(self, index: int, epoch: int, quarter: int = 0) -> View:
        """The view of one sample in one epoch."""
        height, width = self._samples.size(index)
        mixes = self._recipe.mixes
        return draw_view(
            self._recipe,
            seed=self.layout.seed,
            key=self._samples.key(index),
            number=self._number(epoch, quarter),
            height=height,
            width=width,
            crop=self._crop,
            turned=self._per_sample > 1,
            partners=tuple(self._mates(index // MIX_BLOCK)) if mixes else (),
        )

    def geometry(self, index: int, epoch: int) -> Geometry:
        """The crop of one sample in one epoch."""
        return self.view(index, epoch).geometry(*self._samples.size(index))

    def _read_mates(self, block: int) -> dict[str, int]:
        """Key -> index of the valid samples that may be mixed with each other."""
        end = min(self._samples.num_samples, (block + 1) * MIX_BLOCK)
        valid = np.setdiff1d(np.arange(block * MIX_BLOCK, end), self._invalid).tolist()
        return {self._samples.key(index): index for index in valid}

    def run(self, start_micro_step: int = 0) -> Iterator[Batch]:
        """Endless batches from `start_micro_step` on. A second run ends the first."""
        self.close()
        self._pipeline = ImagePipeline(
            self.feed,
            batch_size=self.layout.micro_batch * self._per_sample,
            with_maps=self._truth.rides,
            mixes=self._recipe.mixes,
            num_threads=self._num_threads,
            device_id=self._device_id,
            name_of=lambda step, row: self._samples.key(
                int(self.placed(step).samples[row // self._per_sample])
            ),
        )
        for step, decoded in enumerate(self._pipeline.run(start_micro_step), start_micro_step):
            yield batch_of(
                decoded,
                self._truth,
                micro_step=step,
                epoch=self.layout.positions(step).start // self.num_samples,
                rows_per_sample=self._per_sample,
                parts={},
            )

    def targets(self, batch: Batch) -> dict[str, Tensor]:
        """None: nobody has seen these pixels before. Wrap the stream in `OnlineStream` for a live teacher."""
        del batch
        return {}

    def key(self, sample: int) -> str:
        return self._samples.key(sample)

    def close(self) -> None:
        if self._pipeline is not None:
            self._pipeline.close()
            self._pipeline = None

    def describe(self) -> dict[str, object]:
        return {
            "views": "fresh",
            "view_version": self._recipe.version,
            "crop": list(self._crop),
            **self._drawn(),
            "samples": self.num_samples,
            **self._classes(),
        }

    def _classes(self) -> dict[str, object]:
        """How the labels of a source's files are read; a cache's were read when it was built."""
        if not isinstance(self._samples, SourceSamples):
            return {}
        return {CLASSES: digest_of(self._samples.source.describe(), 16)}

    def _drawn(self) -> dict[str, object]:
        """What is drawn: scale and flip by their names, as before there were recipes; any other as text."""
        recipe = self._recipe
        if recipe == Recipe(scale=recipe.scale, flip=recipe.flip) and recipe.scale:
            return {"scale": list(recipe.scale), "flip": recipe.flip}
        return {"augment": recipe.text, "rows_per_sample": self._per_sample}
