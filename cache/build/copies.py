"""Targets that need no forward: a label changed, the pixels did not, so the teacher's answer is there
already."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from kdcache.cache.build.draw import PackedImages, Shard
from kdcache.cache.build.plan import Work
from kdcache.cache.errors import BadCache
from kdcache.cache.reader.cache import Cache
from kdcache.cache.record.manifest import Manifest
from kdcache.cache.views.view import Row, partner_key


class Expected(NamedTuple):
    """A living sample of a shard that is still to be made, and its row in the cache. `size` is (height,
    width) in pixels, (1, 1) where every view is a crop and the image was not looked at."""

    row: int
    key: str
    size: tuple[int, int]


class Copies:
    """Rows of the newest generation that new rows may be copied from, by key."""

    def __init__(self, cache: Cache | None, source_of: Mapping[str, int]) -> None:
        """`source_of`: key -> index of an earlier row of that key."""
        self._cache, self._source_of = cache, source_of

    def fill(self, shard: Shard, packed: PackedImages) -> None:
        """Copy every row of the shard that shows the very pixels of an earlier one."""
        if self._cache is None or not self._source_of:
            return
        for place, row in enumerate(shard.rows):
            if row is None or row.partner is not None:
                continue
            earlier = self._source_of.get(packed.key(row.sample))
            if earlier is not None and earlier < shard.first and self._same_image(earlier, row, packed):
                self._copy(self._cache, shard, place, row, earlier)

    def count(
        self,
        manifest: Manifest,
        work: Work,
        samples: Sequence[Expected],
        digest_of: Callable[[Expected], bytes],
    ) -> int:
        """How many rows of a shard `fill` will copy, before its samples are packed; where stored targets are
        damaged it is fewer. `digest_of` reads the image of a sample."""
        if self._cache is None or not self._source_of:
            return 0
        keys = [sample.key for sample in samples]
        if len(keys) == 1:
            keys.append("")  # it is mixed with one of a block before
        drawn, number = manifest.view_set(work.shard.view), work.shard.view
        total = 0
        for sample in samples:
            earlier = self._source_of.get(sample.key)
            if earlier is None or earlier >= sample.row - sample.row % manifest.shard_samples:
                continue
            try:
                old, place = self._cache.samples(earlier)
                row = self._cache.row(earlier, number) if self._covered(work, earlier) else None
            except BadCache:
                continue
            size = int(old.heights[place]), int(old.widths[place])
            view = drawn.view(sample.key, number, *size, keys).row(sample.row, number, size)
            if row is None or partner_key(view.effects) or row._replace(sample=sample.row) != view:
                continue
            total += digest_of(sample) == old.image_digests[place].tobytes()
        return total

    def _covered(self, work: Work, earlier: int) -> bool:
        """Whether everything that a shard asks for is stored for an earlier row."""
        assert self._cache is not None
        block, coverage = earlier // self._cache.shard_samples, self._cache.coverage
        return all(coverage.key(name, work.shard.view, block) for name in work.targets)

    def _same_image(self, earlier: int, row: Row, packed: PackedImages) -> bool:
        assert self._cache is not None
        try:
            old, old_row = self._cache.samples(earlier)
        except BadCache:
            return False
        block, place = divmod(row.sample, packed.shard_samples)
        new = packed.block(block)
        return bool(np.array_equal(old.image_digests[old_row], new.image_digests[place]))

    def _copy(self, cache: Cache, shard: Shard, place: int, row: Row, earlier: int) -> None:
        """Leaves the row to the teacher where anything of the earlier one is not there, or damaged."""
        names, number = shard.work.targets, shard.work.shard.view
        if not self._covered(shard.work, earlier):
            return
        try:
            old = cache.row(earlier, number)
            if old._replace(sample=row.sample) != row:
                return
            parts = {name: cache.parts(name, earlier, number) for name in names}
            digest = cache.pixel_digest(earlier, number)
        except BadCache:
            return
        shard.pixels[place] = digest
        for name in names:
            shard.targets[name][place] = parts[name]
            shard.sizes[name][place] = cache.tap(name).spec(row.geometry.crop_h, row.geometry.crop_w)
