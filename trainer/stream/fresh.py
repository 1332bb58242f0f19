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

from kdcache.cache.images.feed import Feed, Partner
from kdcache.cache.images.pipeline import ImagePipeline
from kdcache.cache.sources.contract import Source
from kdcache.cache.views.draw import QUARTERS, draw_view
from kdcache.cache.views.recipe import Recipe, parse_recipe
from kdcache.cache.views.sets import check_turns
from kdcache.cache.views.view import VIEW_VERSION, Geometry, View, partner_key, without_mixing
from kdcache.trainer.stream.batch import Batch, BatchLayout, SampleSource
from kdcache.trainer.stream.order import Placed, samples_at
from kdcache.trainer.stream.rows import BatchRow, RowFeed
from kdcache.trainer.stream.source_samples import as_samples

FRESH_VIEW = 1 << 20  # first view number of fresh views: no cache stores so many, so none is ever drawn twice
MIX_BLOCK = 256  # samples among which one finds the other that is mixed in


class FreshStream:
    """Random views of `samples`, drawn anew in every epoch. See `Stream`."""

    def __init__(
        self,
        samples: SampleSource,
        *,
        layout: BatchLayout,
        crop: tuple[int, int],
        augment: str = "",
        turns: bool = False,
        num_threads: int = 1,
        device_id: int | None = None,
        shard_samples: int = 1,
    ) -> None:
        self.layout = layout
        self._samples = samples
        self._invalid = np.asarray(samples.invalid, dtype=np.int64)
        self._crop, self._recipe = crop, parse_recipe(augment, task=samples.task)
        self._per_sample = QUARTERS if turns else 1
        if turns:
            check_turns(crop, self._recipe, "turned views of a fresh stream")
        self._rows = RowFeed(samples, mixes=self._recipe.mixes)
        self._shard_samples = shard_samples
        self._num_threads, self._device_id = num_threads, device_id
        self._pipeline: ImagePipeline | None = None
        self._mates = lru_cache(maxsize=64)(self._read_mates)

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
        """Encoded bytes and numbers of one micro batch; a pure function of its number."""
        placed = self.placed(micro_step)
        pairs = zip(placed.samples.tolist(), placed.epochs.tolist(), strict=True)
        turns = range(self._per_sample)
        return self._rows.feed([self._row(index, epoch, turn) for index, epoch in pairs for turn in turns])

    def _row(self, index: int, epoch: int, turn: int) -> BatchRow:
        view = self.view(index, epoch, turn)
        row = BatchRow(index, view.geometry(*self._samples.size(index)), view.effects)
        key = partner_key(view.effects)
        if key is None:
            return row
        partner = self._mates(index // MIX_BLOCK)[key]
        other = self.view(partner, epoch)
        geometry = other.geometry(*self._samples.size(partner))
        mixed_in = Partner(self._samples.image(partner), geometry, without_mixing(other.effects))
        return row._replace(partner=partner, mixed_in=mixed_in)

    def view(self, index: int, epoch: int, turn: int = 0) -> View:
        """The view of one sample in one epoch."""
        height, width = self._samples.size(index)
        mixes = self._recipe.mixes
        return draw_view(
            self._recipe,
            seed=self.layout.seed,
            key=self._samples.key(index),
            number=(FRESH_VIEW + epoch) * self._per_sample + turn,
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
            with_labels=self._rows.with_labels,
            num_passengers=self._rows.num_passengers,
            mixes=self._rows.mixes,
            num_threads=self._num_threads,
            device_id=self._device_id,
            name_of=lambda step, row: self._samples.key(
                int(self.placed(step).samples[row // self._per_sample])
            ),
        )
        for step, found in enumerate(self._pipeline.run(start_micro_step), start_micro_step):
            rows = self._rows.labelled(found)
            epoch = self.layout.positions(step).start // self.num_samples
            yield Batch(
                found.images_BHWC, rows.labels, {}, step, epoch, rows.samples_B, rows.mixed, self._per_sample
            )

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
            **self._drawn(),
            "samples": self.num_samples,
        }

    def _drawn(self) -> dict[str, object]:
        """What is drawn: scale and flip by their names, as before there were recipes; any other as text."""
        recipe = self._recipe
        if recipe == Recipe(scale=recipe.scale, flip=recipe.flip) and recipe.scale:
            return {"scale": list(recipe.scale), "flip": recipe.flip}
        return {"augment": recipe.text, "rows_per_sample": self._per_sample}


def fresh_stream(
    source: Source | SampleSource,
    *,
    layout: BatchLayout,
    crop: tuple[int, int],
    augment: str = "",
    turns: bool = False,
    num_threads: int = 1,
    device_id: int | None = None,
    shard_samples: int = 1,
) -> FreshStream:
    """Fresh views of a Source's files or of a cache's stored samples; crop = (height, width) in pixels.

    `augment` is a recipe (`kdcache.cache.views.recipe`), '' the task's default: scale 0.5 to 2 and flip for
    segmentation, nothing for classification. `turns`: each sample in four turns. `shard_samples` > 1 shuffles
    by blocks of so many samples (for samples in tars); 1 shuffles in full. Raises BadOption for a recipe that
    the task cannot have.
    """
    return FreshStream(
        as_samples(source),
        layout=layout,
        crop=crop,
        augment=augment,
        turns=turns,
        num_threads=num_threads,
        device_id=device_id,
        shard_samples=shard_samples,
    )
