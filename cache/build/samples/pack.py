"""First phase of a build: every new sample once into tars, checked, digested and indexed.

All samples are read and decoded here, before the teacher runs, so that a bad file is found in the first
minutes and not in the last hour. A block is written once: what changes later gets another block.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import numpy as np

from kdcache.cache.build.plan import Plan
from kdcache.cache.build.samples.stamps import stamp_of, write_stamps
from kdcache.cache.build.samples.survey import content_of, content_or_none
from kdcache.cache.errors import BadSample
from kdcache.cache.processes.progress import moved
from kdcache.cache.record.records import SamplesRecord, record_bytes, record_name
from kdcache.cache.sources.contract import Source
from kdcache.cache.stores.local import LocalStore
from kdcache.cache.stores.sample_tars import SampleEntry, bad_entry, image_suffix, packed_objects
from kdcache.cache.tasks.table import task_of

WORKERS = 2  # threads that decode and encode
RUNS, MOST_RUN = 16, 64  # runs of a block for each of them, where it has so many samples; samples of a run


def pack_blocks(
    plan: Plan,
    to_pack: Mapping[int, Sequence[str]],
    blocks: Sequence[int],
    *,
    skip_bad: bool,
    done: Callable[[int], None],
) -> list[str]:
    """Pack the given blocks; returns the keys that were skipped as bad. `done(samples)` is called after each
    block."""
    index_of = {key: i for i, key in enumerate(plan.source.keys)}
    store = LocalStore(plan.root)
    skipped: list[str] = []
    for block in blocks:
        keys = to_pack[block]
        indices = [index_of[key] for key in keys]
        entries = _entries(plan.source, keys, indices, skip_bad=skip_bad)
        objects = packed_objects(block, plan.manifest.shard_samples, entries)
        written = tuple(store.put(name, buffers) for name, buffers in objects)
        write_stamps(store, block, [stamp_of(plan.source, i) for i in indices])
        record = SamplesRecord(block=block, rows=len(entries), objects=written)
        store.create(record_name(record.shard), record_bytes(record))
        skipped += [e.key for e in entries if not e.valid]
        moved()
        done(len(keys))
    return skipped


def entries_again(source: Source, keys: Sequence[str], valid: np.ndarray) -> list[SampleEntry]:
    """The entries of a block that was packed before; `valid` False stays so. Raises BadSample."""
    index_of = {key: i for i, key in enumerate(source.keys)}
    entries = []
    for key, good in zip(keys, valid, strict=True):
        index = index_of.get(key, -1)
        if index < 0:
            raise BadSample(f"'{key}' is gone", where=str(source.root), fix="put it back")
        entries.append(_entry(source, key, index, skip_bad=False) if good else _bad(source, key, index))
    return entries


def _entries(
    source: Source, keys: Sequence[str], indices: Sequence[int], *, skip_bad: bool
) -> list[SampleEntry]:
    def entries_of(run: slice) -> list[SampleEntry]:
        pairs = zip(keys[run], indices[run], strict=True)
        return [_entry(source, key, index, skip_bad=skip_bad) for key, index in pairs]

    # Decoding releases the interpreter; more threads would starve the teacher.
    with ThreadPoolExecutor(max_workers=WORKERS) as pool:
        return list(chain.from_iterable(pool.map(entries_of, runs_of(len(keys)))))


def runs_of(num_samples: int) -> list[slice]:
    """The samples of a block in runs that a thread takes at once: handing over a tiny image would take as
    long as encoding it. There are enough runs for the threads to end together."""
    size = min(MOST_RUN, max(1, num_samples // (RUNS * WORKERS)))
    return [slice(start, start + size) for start in range(0, num_samples, size)]


def _entry(source: Source, key: str, index: int, *, skip_bad: bool) -> SampleEntry:
    truth = task_of(source.task).truth
    try:
        height, width = source.check(index)
        image = source.image_bytes(index)
        label = source.label_bytes(index)
        image_digest, label_digest = content_of(source, index)
        return SampleEntry(
            key=key,
            suffix=image_suffix(image, key=key),
            image=image,
            label_suffix=truth.suffix,
            label=label,
            height=height,
            width=width,
            image_digest=image_digest,
            label_digest=label_digest,
            columns=truth.column_values(label, (height, width)),
        )
    except BadSample:
        if not skip_bad:
            raise
        return _bad(source, key, index)


def _bad(source: Source, key: str, index: int) -> SampleEntry:
    columns = task_of(source.task).truth.column_values(None, (0, 0))
    return bad_entry(key, *content_or_none(source, index), columns=columns)
