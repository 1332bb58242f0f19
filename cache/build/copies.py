"""Targets that need no forward: a label changed, the pixels did not, so the teacher's answer is there
already."""

from collections.abc import Mapping

import numpy as np

from kdcache.cache.build.draw import PackedImages, Shard
from kdcache.cache.errors import BadCache
from kdcache.cache.reader.cache import Cache
from kdcache.cache.views.view import Row


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
        block = earlier // cache.shard_samples
        if not all(cache.coverage.key(name, number, block) for name in names):
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
