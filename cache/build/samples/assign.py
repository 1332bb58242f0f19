"""Which new block takes which keys: what an unfinished build has packed is kept, the rest follows in order.

Blocks that a generation counts are never touched. Blocks beyond it are the work of a build that was killed,
or refused: one of which any sample is still wanted stays as it is (its other rows never count), any other is
removed. Keys that are left are dealt to the free numbers, in the source's order: the same command finishes
with the blocks that it would have made at once.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from kdcache.cache.build.samples.stamps import read_stamps, stamp_of
from kdcache.cache.build.samples.survey import Content, content_or_none
from kdcache.cache.errors import BadCache
from kdcache.cache.record.packed import open_packed
from kdcache.cache.record.records import objects_of, read_record, record_name
from kdcache.cache.sources.contract import Source
from kdcache.cache.stores.contract import ShardKey
from kdcache.cache.stores.local import LocalStore
from kdcache.cache.stores.sample_tars import SampleBlock


class Assignment(NamedTuple):
    """The blocks of the next generation."""

    num_blocks: int
    to_pack: Mapping[int, tuple[str, ...]]  # block -> keys, in order; () keeps a number that nobody needs
    unwanted: frozenset[int]  # rows of kept blocks that never count


def assign(
    root: Path,
    source: Source,
    wanted: Sequence[str],
    beyond: set[ShardKey],
    *,
    counted: int,
    shard_samples: int,
    keep: bool,
) -> Assignment:
    """`counted` blocks belong to the generation; `keep` False removes every block beyond it. `beyond` are all
    shards that it does not count; those that are removed leave it.

    Call it under the builder's lock.
    """
    store = LocalStore(root)
    index_of = {key: i for i, key in enumerate(source.keys)}
    left = dict.fromkeys(wanted)
    kept: set[int] = set()
    unwanted: set[int] = set()
    unfit: list[int] = []
    for block in sorted({key.block for key in beyond if key.block >= counted}):
        samples = _readable(store, block) if keep else None
        rows = [] if samples is None else _adopted(root, source, index_of, left, block, samples)
        if samples is None or not rows:
            unfit.append(block)
            continue
        kept.add(block)
        for row in rows:
            del left[samples.keys[row]]
        unwanted |= {block * shard_samples + row for row in set(range(len(samples))) - set(rows)}
    beyond -= remove_blocks(root, store, unfit, beyond)
    to_pack = dict(_dealt(list(left), counted, kept, shard_samples))
    top = max([counted - 1, *kept, *to_pack]) + 1
    to_pack |= {block: () for block in range(counted, top) if block not in kept and block not in to_pack}
    return Assignment(top, to_pack, frozenset(unwanted))


def remove_blocks(
    root: Path, store: LocalStore, blocks: Iterable[int], there: Iterable[ShardKey]
) -> set[ShardKey]:
    """Forget blocks that no generation counts: records first, so that nothing is ever half there. The shards,
    of those that are there."""
    gone = frozenset(blocks)
    shards = {key for key in there if key.block in gone}
    for shard in sorted(shards):
        remove_shard(root, store, shard)
    return shards


def remove_shard(root: Path, store: LocalStore, shard: ShardKey) -> None:
    """Forget a shard that no generation counts."""
    try:
        objects = objects_of(read_record(root, shard)[0])
    except BadCache:
        objects = ()
    store.remove(record_name(shard))
    for entry in objects:
        store.remove(entry.name)


def _readable(store: LocalStore, block: int) -> SampleBlock | None:
    try:
        return open_packed(store, block)
    except BadCache:
        return None


def _adopted(
    root: Path,
    source: Source,
    index_of: Mapping[str, int],
    left: Mapping[str, None],
    block: int,
    samples: SampleBlock,
) -> list[int]:
    """Rows whose key is still to be placed, with the very bytes that the source has now."""
    stamps = read_stamps(root, block, len(samples))
    rows, seen = [], set()
    for row, key in enumerate(samples.keys):
        if key not in left or key in seen:
            continue
        index = index_of[key]
        stamp = stamp_of(source, index)
        if (stamp and stamp == stamps[row]) or _same(source, index, samples.content_digest(row)):
            rows.append(row)
            seen.add(key)
    return rows


def _same(source: Source, index: int, content: Content) -> bool:
    return content_or_none(source, index) == content


def _dealt(
    keys: Sequence[str], counted: int, kept: set[int], shard_samples: int
) -> Iterator[tuple[int, tuple[str, ...]]]:
    block = counted
    for start in range(0, len(keys), shard_samples):
        while block in kept:
            block += 1
        yield block, tuple(keys[start : start + shard_samples])
        block += 1
