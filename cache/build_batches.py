"""From missing shards to the batches that the teacher sees: views drawn, rows grouped by input size.

Batches never cross a shard, and a sample is mixed with one of its own shard only: what a shard holds depends
on nothing but its own samples.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from kdcache.cache.build_plan import Work
from kdcache.cache.image_batch import Feed, Partner
from kdcache.cache.manifest import Manifest
from kdcache.cache.spec import Parts, TensorSpec
from kdcache.cache.stores.local import LocalStore
from kdcache.cache.stores.sample_tars import SampleBlock, open_samples
from kdcache.cache.view import Geometry, View, partner_key, without_mixing


class Shard(NamedTuple):
    """One shard's rows before and after the teacher: views in sample order, None where the sample is
    invalid."""

    work: Work
    views: list[View | None]
    geometry: list[Geometry | None]
    targets: dict[str, list[Parts | None]]
    sizes: dict[str, list[TensorSpec | None]]


class Batch(NamedTuple):
    """Rows of one shard that go through the teacher together: equal input sizes, never from two shards."""

    shard: Shard
    samples: SampleBlock
    rows: list[int]
    last: bool  # the shard is complete after this batch

    def feed(self) -> Feed:
        """Its images as the pipeline wants them; a partner is a row of the same shard."""
        views, geometry, effects = {}, [], []
        for row in self.rows:
            view, g = self.shard.views[row], self.shard.geometry[row]
            assert view is not None and g is not None, "only valid rows are batched"
            views[row] = view
            geometry.append(g)
            effects.append(view.effects)
        partners = [self._partner(views[row]) for row in self.rows]
        return Feed([self.samples.image(r) for r in self.rows], [], geometry, [], effects, partners)

    def _partner(self, view: View) -> Partner | None:
        key = partner_key(view.effects)
        if key is None:
            return None
        row = self.samples.keys.index(key)
        own, geometry = self.shard.views[row], self.shard.geometry[row]
        assert own is not None and geometry is not None, "partners are valid"
        return Partner(self.samples.image(row), geometry, without_mixing(own.effects))


def draw_shard(manifest: Manifest, samples: SampleBlock, work: Work) -> Shard:
    """The views of every row of a shard, drawn from (seed, key, view number) and the keys of the shard."""
    views: list[View | None] = []
    geometry: list[Geometry | None] = []
    chosen = manifest.view_set(work.view)
    partners = [key for key, valid in zip(samples.keys, samples.valid, strict=True) if valid]
    for key, h, w, valid in zip(samples.keys, samples.heights, samples.widths, samples.valid, strict=True):
        view = chosen.view(key, work.view, int(h), int(w), partners) if valid else None
        views.append(view)
        geometry.append(view.geometry(int(h), int(w)) if view else None)
    empty = [None] * len(views)
    return Shard(
        work, views, geometry, {t: list(empty) for t in work.targets}, {t: list(empty) for t in work.targets}
    )


def batches(store: LocalStore, manifest: Manifest, todo: Sequence[Work], batch_size: int) -> Iterator[Batch]:
    """The batches of a build in order; a shard whose samples are all invalid gives one empty batch."""
    for work in todo:
        samples = open_samples(store, work.block)
        shard = draw_shard(manifest, samples, work)
        groups: dict[tuple[int, int], list[int]] = {}
        for row, g in enumerate(shard.geometry):
            if g is not None:
                groups.setdefault((g.crop_h, g.crop_w), []).append(row)
        pieces = [
            rows[i : i + batch_size] for rows in groups.values() for i in range(0, len(rows), batch_size)
        ]
        for number, rows in enumerate(pieces or [[]]):
            yield Batch(shard, samples, rows, number >= len(pieces) - 1)
