"""First phase of a build: every sample once into tars, checked, digested and indexed.

All samples are read and decoded here, before the teacher runs, so that a bad file is found in the first
minutes and not in the last hour. A block whose record exists is left alone unless a file of its samples
changed.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from kdcache.cache.build.plan import Plan
from kdcache.cache.errors import BadCache, BadSample
from kdcache.cache.fingerprint import digest_bytes, digest_of
from kdcache.cache.record.manifest import Manifest
from kdcache.cache.record.records import has_record, list_records, read_record, record_name
from kdcache.cache.sources.contract import Source
from kdcache.cache.stores.contract import REPAIR, ShardKey
from kdcache.cache.stores.local import LocalStore
from kdcache.cache.stores.sample_tars import SampleEntry, bad_entry, image_suffix, open_samples, write_samples
from kdcache.cache.tasks.table import task_of

# Size and modification time (ns) of a sample's files: equal stamps spare reading the files again.
Stamp = list[int]


def sample_order(root: Path, manifest: Manifest, source: Source, *, update: bool) -> list[str]:
    """Keys in cache order: those already there keep their places, new ones follow in the source's order."""
    have = stored_keys(root)
    known = set(have)
    gone = sorted(known - set(source.keys))
    if gone and not update:
        raise BadSample(
            f"{len(gone)} stored samples are no longer in the source, the first is '{gone[0]}'",
            where=f"{source.name}:{source.root}; the cache was made from {manifest.data_spec}",
            fix=(
                "put the files back, or run 'kdcache build --update': their rows keep their places and "
                "are marked invalid. Another dataset of the same kind needs another $KDCACHE_HOME"
            ),
        )
    return have + [k for k in source.keys if k not in known]


def stored_keys(root: Path) -> list[str]:
    store = LocalStore(root)
    blocks = sorted(k.block for k in list_records(root) if k.of_samples)
    if blocks != list(range(len(blocks))):
        return []  # the first build has not finished its samples: its order is the source's
    return [key for block in blocks for key in open_samples(store, block).keys]


def pack_blocks(
    plan: Plan,
    order: Sequence[str],
    blocks: Sequence[int],
    *,
    skip_bad: bool,
    update: bool,
    done: Callable[[int], None],
) -> list[str]:
    """Pack the given blocks; returns the keys that were skipped as bad. `done(samples)` is called after each
    block."""
    index_of = {key: i for i, key in enumerate(plan.source.keys)}
    store = LocalStore(plan.root)
    skipped: list[str] = []
    for block in blocks:
        first = block * plan.manifest.shard_samples
        keys = order[first : first + plan.manifest.block_rows(block)]
        indices = [index_of.get(k, -1) for k in keys]
        if not _unchanged(plan, store, block, keys, indices, update=update):
            skipped += _pack(plan, store, block, keys, indices, skip_bad=skip_bad, update=update)
        done(len(keys))
    return skipped


def _stamp(source: Source, index: int) -> Stamp:
    if index < 0:
        return []
    stats = [path.stat() for path in source.files(index) if path.exists()]
    return [number for s in stats for number in (s.st_size, s.st_mtime_ns)]


def _has_content(source: Source, index: int, digest: str) -> bool:
    try:
        return digest_bytes(*source.content(index)) == digest
    except BadSample:  # a file is gone: packing says so, or skips the sample
        return False


def _unchanged(
    plan: Plan, store: LocalStore, block: int, keys: Sequence[str], indices: Sequence[int], *, update: bool
) -> bool:
    """True when the block's record stands for these very files. Raises BadSample for a changed one, unless
    `update`."""
    key = ShardKey(block)
    if not has_record(plan.root, key):
        return False
    record = read_record(plan.root, key)
    old = open_samples(store, block)
    # What is stored keeps its places, so a block that grew begins with the old keys.
    for row, (name, index) in enumerate(zip(old.keys, indices, strict=False)):
        if not old.valid[row] and index < 0:
            continue
        if _stamp(plan.source, index) == record["stamps"][row]:
            continue
        if index >= 0 and _has_content(plan.source, index, old.digests[row]):
            continue
        if update:
            return False
        raise BadSample(
            f"the bytes of sample '{name}' changed since the cache was built",
            where=str(plan.source.files(index)[0]) if index >= 0 else str(plan.source.root),
            fix="put the file back, or run 'kdcache build --update' to re-make its shard",
        )
    return list(old.keys) == list(keys)


def _pack(
    plan: Plan,
    store: LocalStore,
    block: int,
    keys: Sequence[str],
    indices: Sequence[int],
    *,
    skip_bad: bool,
    update: bool,
) -> list[str]:
    # Decoding releases the interpreter; more threads would starve the teacher.
    with ThreadPoolExecutor(max_workers=2) as pool:
        made = list(
            pool.map(
                lambda pair: _entry(plan.source, pair[0], pair[1], skip_bad=skip_bad),
                zip(keys, indices, strict=True),
            )
        )
    digest = digest_of([[e.key, e.digest, e.valid] for e in made])
    _drop_stale(plan, store, block, digest, update=update)
    objects = write_samples(store, block, block * plan.manifest.shard_samples, made)
    record: dict[str, Any] = {
        "kind": "samples",
        "block": block,
        "digest": digest,
        "shard_samples": plan.manifest.shard_samples,
        "objects": objects,
        "stamps": [_stamp(plan.source, i) for i in indices],
    }
    store.commit(record_name(ShardKey(block)), record)
    return [e.key for e in made if not e.valid]


def _entry(source: Source, key: str, index: int, *, skip_bad: bool) -> SampleEntry:
    truth = task_of(source.task).truth
    if index < 0:
        return bad_entry(key, columns=truth.column_values(None))
    try:
        height, width = source.check(index)
        image = source.image_bytes(index)
        label = source.label_bytes(index)
        suffix = image_suffix(image, key=key)
        digest = digest_bytes(*source.content(index))
        return SampleEntry(
            key=key,
            suffix=suffix,
            image=image,
            label_suffix=truth.suffix,
            label=label,
            height=height,
            width=width,
            digest=digest,
            columns=truth.column_values(label),
        )
    except BadSample:
        if not skip_bad:
            raise
        return bad_entry(key, columns=truth.column_values(None))


def _drop_stale(plan: Plan, store: LocalStore, block: int, digest: str, *, update: bool) -> None:
    """Remove records of targets that were made from other samples than the block now holds."""
    for key in sorted(list_records(plan.root)):
        if key.block != block or key.of_samples:
            continue
        record = read_record(plan.root, key)
        if record["samples"] == digest:
            continue
        grew = record["rows"] < plan.manifest.block_rows(block)
        if not update and not grew:
            raise BadCache(
                f"the targets of {key.title} were made from other samples than the source now has",
                where=str(plan.root),
                fix=f"run 'kdcache build --update' to re-make that shard; for damage, {REPAIR}",
            )
        store.remove(record_name(key))
