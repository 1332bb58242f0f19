"""One more block in a cache of any size, without source and teacher: what a build does beside them."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from scale_cache import PASS, Once, Size, write_block, write_targets

from kdcache.cache.build.build import standing_blocks, work_of
from kdcache.cache.build.lock import build_lock
from kdcache.cache.build.pending import claims, drop_conflicts, drop_other_samples, drop_stale
from kdcache.cache.build.plan import Plan
from kdcache.cache.build.same_pixels import EarlierPixels
from kdcache.cache.build.settle import settle
from kdcache.cache.reader.cache import Cache
from kdcache.cache.record.standing import Beside, standing
from kdcache.cache.stores.contract import ShardKey
from kdcache.cache.stores.local import LocalStore


def grown(root: Path, size: Size) -> dict[str, float]:
    """Seconds of the processor by part, as a build of one more block spends them. Its samples and targets are
    put there meanwhile, which does not count."""
    spent: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        began = time.process_time()
        value = work()
        spent[name] = spent.get(name, 0.0) + time.process_time() - began
        return value

    store = LocalStore(root)
    there = timed("what is there", lambda: standing(root))
    assert there.generation is not None
    manifest, number = there.generation.manifest, there.generation.num_blocks
    plan = Plan(root, manifest, cast("Any", None), cast("Any", None), "", there.generation, there.claimed)
    timed("sweep", lambda: _looks_for_litter(store))
    beside = timed("what is unfinished", lambda: Beside(root, there.generation))
    timed("what is unfinished", lambda: drop_conflicts(plan, store, beside))
    timed("open", lambda: Cache(root, generation=there.generation))
    timed("what is unfinished", lambda: drop_other_samples(plan, store, beside, number + 1))
    timed("what is unfinished", lambda: drop_stale(plan, store, beside, frozenset()))
    blocks = timed("work", lambda: standing_blocks(plan, number + 1, frozenset()))
    timed("work", lambda: work_of(plan, beside, blocks))
    timed("work", lambda: claims(plan, manifest))
    once = Once(store, manifest)
    entry = write_block(once, number, size._replace(samples=(number + 1) * size.shard_samples))
    timed("earlier passes", lambda: EarlierPixels(store, manifest))
    for view in range(size.views):
        write_targets(once, ShardKey(number, view, PASS), entry)
    after = timed("settle", lambda: settle(plan, blocks, number + 1, ()))
    assert after == there.generation.number + 1, "the block should count"
    return spent


def _looks_for_litter(store: LocalStore) -> None:
    """The builder before ended well."""
    with build_lock(store.root) as lock:
        lock.sweep(store)
