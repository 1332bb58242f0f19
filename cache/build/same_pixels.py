"""A tap that is added later must be the answer to the same pixels as the taps before it, of the same samples
mixed."""

from bisect import bisect_left
from collections.abc import Iterator

import numpy as np

from kdcache.cache.build.draw import Shard
from kdcache.cache.errors import BadCache
from kdcache.cache.images.pipeline import changed_facts
from kdcache.cache.record.manifest import Manifest
from kdcache.cache.record.records import file_name, list_files, read_targets_record, shards_of
from kdcache.cache.record.row_columns import unpack_views
from kdcache.cache.stores.contract import ShardKey
from kdcache.cache.stores.local import LocalStore
from kdcache.cache.stores.object_check import object_problem
from kdcache.cache.views.block_views import BlockViews


class EarlierPixels:
    """What passes of the teacher recorded of the rows that they saw, by block and view."""

    def __init__(self, store: LocalStore, manifest: Manifest) -> None:
        self._store, self._manifest = store, manifest
        self._files = sorted(list_files(store.root))  # of a million who asks for a few parses no others

    def compare(self, shard: Shard, device: str) -> None:
        """Raises BadCache where a row of the finished shard was made from other pixels than before."""
        for views in self._recorded(shard.work.shard, len(shard.rows)):
            before = views.pixels
            differ = np.flatnonzero((before != 0) & (shard.pixels != 0) & (before != shard.pixels))
            if len(differ):
                raise self._other(shard, int(differ[0]), device)

    def partners(self, shard: ShardKey, rows: int) -> dict[int, int]:
        """Place -> index of the sample that was mixed in."""
        known: dict[int, int] = {}
        for views in self._recorded(shard, rows):
            pairs = ((place, views.partner(place)) for place in np.flatnonzero(views.valid).tolist())
            known |= {place: partner for place, partner in pairs if partner is not None}
        return known

    def _recorded(self, shard: ShardKey, rows: int) -> Iterator[BlockViews]:
        begin = file_name(shard._replace(pass_id="")).removesuffix(".json")
        first, end = bisect_left(self._files, begin), bisect_left(self._files, begin + "~")
        for key in sorted(shards_of(self._files[first:end])):
            if (views := self.read(key, rows)) is not None:
                yield views

    def read(self, key: ShardKey, rows: int) -> BlockViews | None:
        """None for what is damaged: `verify` says so, a build has nothing to compare with."""
        try:
            record, _ = read_targets_record(self._store.root, key)
            if object_problem(self._store, record.views):
                return None
            content = self._store.get(record.views.name)[0]
            return unpack_views(content, first=0, number=key.view, rows=rows)
        except (BadCache, ValueError):
            return None

    def _other(self, shard: Shard, place: int, device: str) -> BadCache:
        changed = changed_facts(self._manifest.pipeline, None if device == "cpu" else 0)
        return BadCache(
            f"the image pipeline makes other pixels than the teacher saw before: sample "
            f"{shard.first + place} view {shard.work.shard.view} "
            f"({changed or 'nothing recorded differs'})",
            where=str(self._store.root),
            fix="build with the DALI version and the device kind of the first build, "
            "or build a cache of its own under another $KDCACHE_HOME",
        )
