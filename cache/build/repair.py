"""`build --repair`: the same bytes under the same names where that can be, else new rows in place of the
lost.

What the newest generation counts is compared with its seals. A damaged block of samples is packed again from
the source, a damaged shard of targets computed again by the teacher, and put back where the result has the
recorded digests. Where it has not (a file changed since, another machine rounds otherwise) the block is lost:
its rows die, and the build that follows makes new ones for their keys.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from kdcache.cache.build.draw import Living
from kdcache.cache.build.options import USUAL_BATCH, BuildOptions
from kdcache.cache.build.plan import Plan, Work
from kdcache.cache.build.predict import packed_samples, refuse_full_disk, shard_bytes, stored_bytes
from kdcache.cache.build.same_pixels import EarlierPixels
from kdcache.cache.build.samples.pack import entries_again
from kdcache.cache.build.stages.keep import PixelKeeper, keeps
from kdcache.cache.build.targets import TargetBuilder
from kdcache.cache.build.write import Written, put_back, write_again
from kdcache.cache.errors import BadCache, BadSample
from kdcache.cache.look.verify import damaged_shards
from kdcache.cache.record.generation import (
    Generation,
    generation_name,
    list_generations,
    read_generation,
)
from kdcache.cache.record.manifest import FILE_NAME, manifest_bytes, read_manifest
from kdcache.cache.record.records import SamplesRecord
from kdcache.cache.stores.contract import ObjectRecord, ShardKey
from kdcache.cache.stores.local import LocalStore
from kdcache.cache.stores.sample_tars import (
    index_name,
    keys_in_tar,
    packed_keys,
    packed_objects,
    tar_name,
)


class Repairing(NamedTuple):
    """What is put back next, known before any of it is written."""

    rows: int  # that the teacher computes
    target_bytes: int
    sample_bytes: int


class Repaired(NamedTuple):
    """What could not be put back."""

    lost: frozenset[int] = frozenset()  # blocks whose rows need new ones
    lost_generation: bool = False  # what it retired has to be found out again
    shards: int = 0  # that have their bytes back
    rows: int = 0  # that the teacher computed for them
    lost_samples: int = 0  # of the lost blocks, those that lived


def repair(
    plan: Plan,
    options: BuildOptions,
    planned: Callable[[Repairing], None],
    computed: Callable[[int], None],
) -> Repaired:
    """Put back what can be put back. Call it under the builder's lock. `planned` is called before samples are
    packed, and before the teacher computes any. Raises DiskFull before either."""
    rows = 0

    def count(done: int) -> None:
        nonlocal rows
        rows += done
        computed(done)

    store = LocalStore(plan.root)
    lost_generation = _drop_damaged_generations(plan, store)
    generation = plan.generation
    if generation is None:
        return Repaired()
    if not _is_own_manifest(plan, generation):
        store.put(FILE_NAME, manifest_bytes(generation.manifest))
    damaged = damaged_shards(plan.root, generation)
    _plan_samples(plan, store, generation, damaged, planned)
    lost = {key.block for key in damaged if key.of_samples and not _pack_again(plan, store, key.block)}
    todo = [key for key in damaged if not key.of_samples and key.block not in lost]
    living = _living_then(plan, store, generation, todo, frozenset(generation.block_numbers) - lost)
    if living:
        cost = _cost(plan, store, generation, living)
        planned(cost)
        refuse_full_disk(plan.root, cost.target_bytes)
    lost |= _compute_again(plan, generation, options, living, count)
    shards = sum(key.block not in lost for key in damaged)
    return Repaired(frozenset(lost), lost_generation, shards, rows, _living_in(generation, lost))


def _living_in(generation: Generation, blocks: Collection[int]) -> int:
    """Living samples of these blocks."""
    block_of_retired = generation.retired // generation.manifest.shard_samples
    dead = int(np.isin(block_of_retired, list(blocks)).sum())
    return sum(generation.blocks[block].rows for block in blocks) - dead


def _drop_damaged_generations(plan: Plan, store: LocalStore) -> bool:
    """Remove generations that cannot be read; whether the newest was among them. The records say again what
    it said, but for the rows that it retired."""
    newest = plan.generation.number if plan.generation else 0
    damaged = [number for number in list_generations(plan.root) if not _can_be_read(plan, number)]
    for number in damaged:  # also older ones: nobody can say again what counted then
        store.remove(generation_name(number))
    return any(number > newest for number in damaged)


def _is_own_manifest(plan: Plan, generation: Generation) -> bool:
    try:
        return read_manifest(plan.root).identity == generation.manifest.identity
    except (BadCache, FileNotFoundError):
        return False


def _can_be_read(plan: Plan, number: int) -> bool:
    try:
        read_generation(plan.root, number)
    except BadCache:
        return False
    return True


def _pack_again(plan: Plan, store: LocalStore, block: int) -> bool:
    """Whether the block of samples has its bytes back."""
    generation = plan.generation
    assert generation is not None
    entry = generation.blocks[block]

    def record_of(objects: Sequence[ObjectRecord]) -> SamplesRecord:
        return SamplesRecord(block=block, rows=entry.rows, objects=tuple(objects))

    for told in (packed_keys, keys_in_tar):  # either may be what is damaged
        if keys := told(store, block, entry.rows):
            with suppress(BadSample):
                entries = entries_again(plan.source, *keys)
                packed = packed_objects(block, plan.manifest.shard_samples, entries)
                if put_back(store, packed, record_of, entry.seal):
                    return True
    return False


def _compute_again(
    plan: Plan,
    generation: Generation,
    options: BuildOptions,
    living: Mapping[ShardKey, Living],
    computed: Callable[[int], None],
) -> set[int]:
    """Make the shards that `living` names; returns the blocks of those that do not get their bytes back."""
    lost: set[int] = set()
    works = [Work(key, generation.manifest.passes[key.pass_id]) for key in living]
    store = LocalStore(plan.root)
    if not works:
        return lost

    def write(written: Written) -> None:
        if not write_again(store, plan.manifest, written, generation.seals[written.shard]):
            lost.add(written.shard.block)

    keeper = PixelKeeper(
        plan,
        device=options.device,
        threads=options.threads,
        living_of=lambda work: living[work.shard],
        write=write,
    )
    keeper.run([work for work in works if keeps(work)], computed)
    TargetBuilder(
        plan,
        device=options.device,
        batch_size=options.batch_size or plan.manifest.batch_size or USUAL_BATCH,
        threads=options.threads,
        living_of=lambda work: living[work.shard],
        write=write,
    ).run([work for work in works if not keeps(work)], computed)
    return lost


def _plan_samples(
    plan: Plan,
    store: LocalStore,
    generation: Generation,
    damaged: Sequence[ShardKey],
    planned: Callable[[Repairing], None],
) -> None:
    """Say what packing samples again writes. Raises DiskFull where these, and what is known of the targets
    that follow, have no room."""
    stored = {key: stored_bytes(plan.root, key, generation.seals[key]) for key in damaged}
    samples = [key for key in damaged if key.of_samples]
    num_bytes = sum(stored[key] or _bytes_there(store, key.block) for key in samples)
    if samples:
        planned(Repairing(0, 0, num_bytes))
    targets = sum(stored[key] or 0 for key in damaged if not key.of_samples)
    refuse_full_disk(plan.root, num_bytes + targets)


def _bytes_there(store: LocalStore, block: int) -> int:
    """Of the samples of a block whose record is damaged, as they lie on disk."""
    paths = (store.path(name) for name in (tar_name(block), index_name(block)))
    return sum(path.stat().st_size for path in paths if path.is_file())


def _cost(
    plan: Plan, store: LocalStore, generation: Generation, living: Mapping[ShardKey, Living]
) -> Repairing:
    """Of the shards that `living` names: their bytes are those that were recorded, or as a build predicts
    them where the record is damaged."""
    rows = num_bytes = 0
    for key, alive in living.items():
        samples = packed_samples(store, key.block, key.block * plan.manifest.shard_samples)
        there = [sample for sample in samples if sample.row not in alive.dead]
        rows += len(there)
        work = Work(key, generation.manifest.passes[key.pass_id])
        stored = stored_bytes(plan.root, key, generation.seals[key])
        num_bytes += shard_bytes(plan.manifest, work, there) if stored is None else stored
    return Repairing(rows, num_bytes, 0)


def _living_then(
    plan: Plan, store: LocalStore, generation: Generation, shards: Sequence[ShardKey], blocks: frozenset[int]
) -> dict[ShardKey, Living]:
    """The rows that each of these shards has: by its own columns where these are sound, else by the first
    generation that names it."""
    living: dict[ShardKey, Living] = {}
    recorded = EarlierPixels(store, plan.manifest)
    for key in shards:
        if views := recorded.read(key, generation.blocks[key.block].rows):
            first = key.block * plan.manifest.shard_samples
            living[key] = Living(blocks, frozenset((first + np.flatnonzero(~views.valid)).tolist()))
    for number in list_generations(plan.root):
        then = read_generation(plan.root, number)
        for key in shards:
            if key in then.seals:
                living.setdefault(key, Living(blocks, frozenset(then.retired.tolist())))
    return living
