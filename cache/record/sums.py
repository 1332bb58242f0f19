"""What a generation says of many rows at once, so that nobody reads them all to know it: of the samples of a
block the smallest sides and how many teach nothing, of every target its bytes and values."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

import numpy as np

from kdcache.cache.errors import BadCache
from kdcache.cache.record.generation import LOST, UNKNOWN, BlockEntry, Generation, RecordEntry, Total
from kdcache.cache.record.layout import bytes_per_row
from kdcache.cache.record.manifest import Manifest
from kdcache.cache.record.records import TargetsRecord, read_samples_record, read_targets_record
from kdcache.cache.record.row_columns import unpack_views
from kdcache.cache.stores.local import LocalStore
from kdcache.cache.stores.sample_tars import SampleColumns, open_samples
from kdcache.cache.tasks.table import task_of
from kdcache.cache.views.block_views import BlockViews

Taken = dict[str, tuple[int, int]]  # target -> bytes on disk, values


def block_entry(store: LocalStore, manifest: Manifest, block: int) -> BlockEntry:
    """A recorded block, summed up. Raises BadCache."""
    record, seal = read_samples_record(store.root, block)
    return summed(BlockEntry(seal, record.rows), open_samples(store, block, record.rows), manifest)


def summed(entry: BlockEntry, samples: SampleColumns, manifest: Manifest) -> BlockEntry:
    """The entry with what its samples say; as it is where they are not of the manifest's task."""
    counts, usable = task_of(manifest.task).truth.counts, samples.valid
    if counts and len(samples) and counts not in samples.columns:
        return entry
    teaches = samples.columns[counts] > 0 if counts and len(samples) else np.ones(len(samples), dtype=bool)
    sides = (samples.heights[usable], samples.widths[usable])
    height, width = (int(side.min()) if side.size else 0 for side in sides)
    return entry._replace(empty=int((usable & ~teaches).sum()), height=height, width=width)


def with_sums(store: LocalStore, manifest: Manifest, blocks: Iterable[BlockEntry]) -> Iterator[BlockEntry]:
    """The same, those of before there were sums read once more; of damaged ones they stay unknown."""
    for block, entry in enumerate(blocks):
        if entry != LOST and entry.empty == UNKNOWN:
            with suppress(BadCache):
                entry = summed(entry, open_samples(store, block, entry.rows), manifest)
        yield entry


def totals(
    store: LocalStore, manifest: Manifest, records: Sequence[RecordEntry], old: Generation | None
) -> tuple[Total, ...]:
    """Of every target over these records: what the generation before says of those that it covers, and what
    the others add. None where some of them cannot be read."""
    taken = dict.fromkeys(manifest.stored_names, (0, 0))
    added: Sequence[RecordEntry] = records
    if old and old.totals and (more := _added(records, old.records)) is not None:
        added = more
        taken |= {total.target: (total.num_bytes, total.values) for total in old.totals}
    try:
        for entry in added:
            record, _ = read_targets_record(store.root, entry.shard, entry.seal)
            content = store.get(record.views.name)[0]
            views = unpack_views(content, first=0, number=entry.view, rows=record.rows)
            add(taken, taken_by(manifest, record, views, trusted=True))
    except (BadCache, ValueError):
        return ()
    return tuple(Total(name, *taken[name]) for name in sorted(taken))


def _added(records: Sequence[RecordEntry], old: Sequence[RecordEntry]) -> Sequence[RecordEntry] | None:
    """Those that are new; None where something that counted does no longer."""
    if tuple(records[: len(old)]) == tuple(old):  # a cache that grew by blocks: a million need no dictionary
        return records[len(old) :]
    known = frozenset(old)
    added = [entry for entry in records if entry not in known]
    return added if len(records) - len(added) == len(known) else None


def add(taken: Taken, more: Mapping[str, tuple[int, int]]) -> None:
    for name, (num_bytes, values) in more.items():
        taken[name] = taken[name][0] + num_bytes, taken[name][1] + values


def taken_by(manifest: Manifest, record: TargetsRecord, views: BlockViews, *, trusted: bool) -> Taken:
    """What each target of one shard takes. An object of several targets is divided among them by their raw
    sizes; by their values, where a codec is code that nobody trusts."""
    sizes = _sizes(views)
    values, raw = {}, {}
    for tap in record.targets:
        specs = [(manifest.tap(tap).spec(*size), rows) for size, rows in sizes.items()]
        values[tap] = sum(rows * math.prod(spec.shape) for spec, rows in specs)
        if trusted:
            raw[tap] = sum(rows * bytes_per_row(manifest, tap, spec) for spec, rows in specs)
    on_disk = dict.fromkeys(record.targets, 0)
    for entry in record.objects:
        # The path of an array names format, teacher and tap; a tar lies in no folder of a tap.
        folder = entry.name.split("/")[2:3]
        owners = [tap for tap in record.targets if [tap] == folder] or record.targets
        for tap, share in zip(owners, divided(entry.num_bytes, owners, raw or values), strict=True):
            on_disk[tap] += share
    return {tap: (on_disk[tap], values[tap]) for tap in record.targets}


def _sizes(views: BlockViews) -> Mapping[tuple[int, int], int]:
    """Height and width of the teacher's input -> rows that hold targets of it."""
    pairs, rows = np.unique(views.geometry[views.valid][:, 5:7], axis=0, return_counts=True)
    return dict(zip(map(tuple, pairs.tolist()), rows.tolist(), strict=True))


def divided(num_bytes: int, taps: Sequence[str], weights: Mapping[str, int]) -> Iterator[int]:
    """Whole bytes for each tap, in the ratio of their weights; together exactly `num_bytes`."""
    whole, before, given = sum(weights[tap] for tap in taps) or 1, 0, 0
    for tap in taps:
        before += weights[tap]
        yield num_bytes * before // whole - given
        given = num_bytes * before // whole
