"""The end of a build: the next generation, written when everything in it stands, and not when nothing
changed."""

from bisect import bisect_left
from collections.abc import Iterable

from kdcache.cache.build.plan import Plan
from kdcache.cache.errors import BadCache
from kdcache.cache.record.generation import (
    LOST,
    BlockEntry,
    Pair,
    RecordEntry,
    generation_bytes,
    generation_name,
    list_generations,
)
from kdcache.cache.record.manifest import Manifest
from kdcache.cache.record.records import (
    Coverage,
    read_targets_record,
)
from kdcache.cache.record.standing import Beside
from kdcache.cache.record.sums import block_entry, totals, with_sums
from kdcache.cache.stores.contract import ShardKey
from kdcache.cache.stores.local import LocalStore


def settle(plan: Plan, standing: list[int], num_blocks: int, dead: Iterable[int]) -> int:
    """Write the next generation of `num_blocks` numbers, of which the blocks `standing` are there and the
    rows `dead` do not live; its number, or that of the one that says the same already."""
    manifest, old = plan.manifest, plan.generation
    there = set(standing)
    blocks = [_block(plan, block) if block in there else LOST for block in range(num_blocks)]
    dead = [index for index in dead if index // manifest.shard_samples in there]
    records = _records(plan, there, blocks)
    complete = complete_pairs(manifest, _coverage(plan, records), standing)
    parts = {"blocks": blocks, "retired": dead, "complete": complete, "records": records}
    if old is not None and old.says(manifest, **parts):  # type: ignore[arg-type]
        return old.number
    store = LocalStore(plan.root)
    parts["blocks"] = list(with_sums(store, manifest, blocks))
    parts["totals"] = list(totals(store, manifest, records, old))
    number = max(list_generations(plan.root), default=0) + 1
    content = generation_bytes(number, manifest, **parts)  # type: ignore[arg-type]
    store.create(generation_name(number), content)
    return number


def _records(plan: Plan, there: set[int], blocks: list[BlockEntry]) -> list[RecordEntry]:
    """Of every shard that some target is read from, ascending. Only those beside which something new stands
    are looked at: the others are what they were."""
    manifest, old = plan.manifest, plan.generation
    beside = Beside(plan.root, old)
    # Views beyond the manifest are what a larger build left unfinished: a later set draws others there.
    new = [key for key in beside.pending if key.block in there and key.view < manifest.num_views]
    counted = list(old.records) if old else []
    if beside.lost or (old and not there.issuperset(old.block_numbers)):
        counted = [e for e in counted if e.block in there and e.shard not in beside.lost]
    same = bisect_left(counted, new[0][:1]) if new else len(counted)
    before = {entry.shard: entry for entry in counted[same:]}
    keys = Coverage([*before, *new], manifest.passes).keys()
    return counted[:same] + [before.get(key) or _record(plan, key, blocks[key.block]) for key in keys]


def _coverage(plan: Plan, records: list[RecordEntry]) -> Coverage:
    """What records hold, of which those that counted before need no second look."""
    old, passes = plan.generation, plan.manifest.passes
    if old is None or tuple(records[: len(old.records)]) != old.records:
        return Coverage(records, passes)
    return old.coverage.grown(records[len(old.records) :], passes)


def complete_pairs(manifest: Manifest, coverage: Coverage, blocks: list[int]) -> list[Pair]:
    """View sets and targets that are there for every one of the blocks."""
    there = set(blocks)
    return [
        Pair(views.first, tap.name)
        for views in manifest.views
        for tap in manifest.stored
        if all(
            coverage.blocks(tap.name, number) >= there
            for number in range(views.first, views.first + views.count)
        )
    ]


def _block(plan: Plan, block: int) -> BlockEntry:
    if plan.generation is not None and block < plan.generation.num_blocks:
        if plan.generation.blocks[block] != LOST:
            return plan.generation.blocks[block]
    return block_entry(LocalStore(plan.root), plan.manifest, block)


def _record(plan: Plan, key: ShardKey, block: BlockEntry) -> RecordEntry:
    record, seal = read_targets_record(plan.root, key)
    if record.samples != block.seal or record.rows != block.rows:
        raise BadCache(
            f"the targets of {key.title} were made from other samples than that block holds",
            where=str(plan.root),
            fix="run 'kdcache build --repair': it makes them again",
        )
    return RecordEntry(*key, seal)
