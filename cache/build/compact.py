"""`kdcache compact`: the living rows of a cache, bit for bit, in a fresh one, without a forward.

Blocks are full again and retired rows are left behind; the old cache stays as it is. A copy that was killed
goes on with the same command, as long as the old cache still counts the same generation. What is copied is
checked before anything is written.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kdcache.cache.build.lock import build_lock
from kdcache.cache.build.samples.assign import remove_blocks
from kdcache.cache.build.settle import complete_pairs
from kdcache.cache.build.write import Written, write_shard
from kdcache.cache.errors import BadCache, BadOption, Missing
from kdcache.cache.look.describe import whole_layout
from kdcache.cache.reader.cache import Cache, open_cache
from kdcache.cache.record.advice import cache_word
from kdcache.cache.record.classifier import CLASSIFIER_FILE
from kdcache.cache.record.copied import NOTE, CopyNote, copy_note, is_unfinished_copy
from kdcache.cache.record.generation import (
    RecordEntry,
    generation_bytes,
    generation_name,
    list_generations,
)
from kdcache.cache.record.manifest import FILE_NAME, Manifest, manifest_bytes, pass_id, read_manifest
from kdcache.cache.record.records import (
    Coverage,
    SamplesRecord,
    list_records,
    read_samples_record,
    read_targets_record,
    record_bytes,
    record_name,
)
from kdcache.cache.record.sealed import sealed
from kdcache.cache.record.sums import block_entry, totals
from kdcache.cache.spec import RowParts, TensorSpec, ceil_div
from kdcache.cache.stores.contract import ShardKey
from kdcache.cache.stores.local import LocalStore
from kdcache.cache.stores.sample_tars import SampleEntry, packed_objects
from kdcache.cache.stores.table import target_format
from kdcache.cache.stores.zarr_shards import VECTOR_BYTES
from kdcache.cache.tasks.table import task_of
from kdcache.cache.views.block_views import block_views
from kdcache.cache.views.sets import ViewSet
from kdcache.cache.views.view import Row


class Compacted(NamedTuple):
    """What was copied."""

    root: Path
    samples: int
    shards: int  # written now; 0 for a copy that was complete


def compact(root: Path, out: Path, done: Callable[[int], None] = lambda rows: None) -> Compacted:
    """Copy the living rows of the cache `root` into the new cache `out`; `done(rows)` after each shard.

    Raises BadOption when something else than a copy that did not end is at `out`, and for code that nobody
    trusts; BadCache for damage in what is copied. Nothing is written then.
    """
    cache = open_cache(root)
    store = LocalStore(out)
    if _is_copy(cache, store) and list_generations(out):
        return Compacted(out, len(cache.living), 0)
    _refuse_others(out)
    manifest = _manifest(cache, out.name)
    copy = Copy(cache, store, manifest)
    copy.check()
    with build_lock(out) as lock:
        lock.sweep(store)
        _begin(cache, store, manifest)
        _claims(cache, store, manifest)
        shards = copy.samples() + copy.targets(done)
        copy.settle()
    return Compacted(out, len(copy.living), shards)


def _refuse_others(out: Path) -> None:
    """Raises BadOption where a copy would write over a cache, or over what a build has begun."""
    begun = (out / FILE_NAME).exists() or bool(list_records(out))
    if (
        list_generations(out)
        or (begun and not is_unfinished_copy(out))
        or (out.exists() and not out.is_dir())
    ):
        raise BadOption(
            f"there is a cache '{out.name}' already" if out.is_dir() else f"'{out.name}' is a file",
            where=str(out),
            fix="name a new one: --out OTHER",
        )


def _begin(cache: Cache, store: LocalStore, manifest: Manifest) -> None:
    """Keep what an earlier run copied of the same generation in the same layout, and nothing else."""
    if not _is_copy(cache, store) or _lays_out_otherwise(store.root, manifest):
        there = list_records(store.root)
        remove_blocks(store.root, store, {key.block for key in there}, there)
        source = cache_word(cache.root, store.root.parent)
        store.put(NOTE, sealed(CopyNote(copied=cache.generation.seal, cache=source)))


def _lays_out_otherwise(root: Path, manifest: Manifest) -> bool:
    with suppress(BadCache, Missing):
        return read_manifest(root).vector_bytes != manifest.vector_bytes
    return False


def _is_copy(cache: Cache, store: LocalStore) -> bool:
    """Whether what is there was copied of this very generation."""
    note = copy_note(store.root)
    return note is not None and note.copied == cache.generation.seal


def _manifest(cache: Cache, name: str) -> Manifest:
    """That of the copied cache: one pass for all targets of a view set, and only what is complete."""
    old, complete = cache.manifest, cache.generation.complete
    firsts = {pair.first for pair in complete if pair.target in old.tap_names}
    views = tuple(v for v in old.views if v.first in firsts)
    taps = tuple(t for t in old.taps if any(pair.target == t.name for pair in complete))
    kept = tuple(t for t in old.kept if any(pair.target == t.name for pair in complete))
    manifest = old.grown(name=name, views=views, taps=taps, kept=kept, passes={}, vector_bytes=VECTOR_BYTES)
    groups = {group for v in views for group in _groups(cache, v)}
    by_name = {t.name: t for t in manifest.stored}
    return manifest.grown(passes={pass_id(group, by_name): group for group in groups})


def _groups(cache: Cache, views: ViewSet) -> list[tuple[str, ...]]:
    """What is stored together of a view set: the teacher's answers, and what is kept of the views."""
    kept, names = set(cache.manifest.kept_names), _names(cache, views)
    answers = tuple(name for name in names if name not in kept)
    return [group for group in (answers, tuple(name for name in names if name in kept)) if group]


def _names(cache: Cache, views: ViewSet) -> tuple[str, ...]:
    return tuple(sorted(pair.target for pair in cache.generation.complete if pair.first == views.first))


def _claims(cache: Cache, store: LocalStore, manifest: Manifest) -> None:
    if manifest.classifier:
        cache.classifier()  # raises where it is damaged
        store.put(CLASSIFIER_FILE, bytes(cache.store.get(CLASSIFIER_FILE)[0]))
    store.put(FILE_NAME, manifest_bytes(manifest))


class Copy:
    """One copy under way: sample `living[i]` of the old cache becomes sample i."""

    def __init__(self, cache: Cache, store: LocalStore, manifest: Manifest) -> None:
        self._cache, self._store, self._manifest = cache, store, manifest
        self.living: list[int] = cache.living.tolist()
        self._new = {old: new for new, old in enumerate(self.living)}
        self._new_of_key = {cache.key(old): new for new, old in enumerate(self.living)}
        self.num_blocks = ceil_div(len(self.living), manifest.shard_samples)
        self._there: set[ShardKey] = set()  # what an earlier run copied

    def check(self) -> None:
        """Everything that is copied against its seals and digests, which are not computed again later; and
        that codecs may run, on which the arrays' descriptions depend. Raises BadOption and BadCache."""
        cache, manifest = self._cache, self._manifest
        for name in manifest.stored_names:
            cache.codec(name)
        cache.classifier()
        blocks = sorted({old // cache.shard_samples for old in self.living})
        for block in blocks:
            cache.check_samples(block)
        for views in manifest.views:
            for number in range(views.first, views.first + views.count):
                for block in blocks:
                    cache.check_targets(_names(cache, views), number, block)
                if views.recipe.mixes:
                    for old in self.living:
                        self._moved(cache.row(old, number))

    def samples(self) -> int:
        """Copy the blocks of samples that are not there; how many."""
        self._there = list_records(self._store.root)
        missing = [block for block in range(self.num_blocks) if ShardKey(block) not in self._there]
        for block in missing:
            entries = [self._entry(old) for old in self._block(block)]
            objects = packed_objects(block, self._manifest.shard_samples, entries)
            written = tuple(self._store.put(name, buffers) for name, buffers in objects)
            record = SamplesRecord(block=block, rows=len(entries), objects=written)
            self._store.create(record_name(record.shard), record_bytes(record))
        layout = whole_layout(self._store.root, self._manifest, range(self.num_blocks), self.num_blocks)
        target_format(self._manifest.target_format).prepare(self._store, layout, ())
        return len(missing)

    def targets(self, done: Callable[[int], None]) -> int:
        """Copy the shards of targets that are not there; how many."""
        by_name, count = {t.name: t for t in self._manifest.stored}, 0
        for views in self._manifest.views:
            numbers = range(views.first, views.first + views.count)
            for names, number in product(_groups(self._cache, views), numbers):
                for block in range(self.num_blocks):
                    shard = ShardKey(block, number, pass_id(names, by_name))
                    if shard not in self._there:
                        write_shard(self._store, self._manifest, self._written(shard, names))
                        count += 1
                    done(len(self._block(block)))
        return count

    def settle(self) -> None:
        """The first generation."""
        root, manifest = self._store.root, self._manifest
        blocks = [block_entry(self._store, manifest, block) for block in range(self.num_blocks)]
        coverage = Coverage(list_records(root), manifest.passes)
        records = [RecordEntry(*key, read_targets_record(root, key)[1]) for key in coverage.keys()]
        complete = complete_pairs(manifest, coverage, list(range(self.num_blocks)))
        content = generation_bytes(
            1, manifest, blocks=blocks, retired=(), complete=complete, records=records,
            totals=totals(self._store, manifest, records, None),
        )  # fmt: skip
        self._store.create(generation_name(1), content)

    def _block(self, block: int) -> list[int]:
        size = self._manifest.shard_samples
        return self.living[block * size : (block + 1) * size]

    def _entry(self, old: int) -> SampleEntry:
        samples, row = self._cache.samples(old)
        image, label = self._cache.image(old), samples.label(row)
        return SampleEntry(
            key=samples.keys[row],
            suffix=samples.suffixes[row],
            image=image.tobytes(),
            label_suffix=task_of(self._manifest.task).truth.suffix,
            label=label.tobytes(),
            height=int(samples.heights[row]),
            width=int(samples.widths[row]),
            image_digest=samples.image_digests[row].tobytes(),
            label_digest=samples.label_digests[row].tobytes(),
            columns={name: int(values[row]) for name, values in samples.columns.items()},
        )

    def _written(self, shard: ShardKey, names: Sequence[str]) -> Written:
        cache, number = self._cache, shard.view
        targets: dict[str, list[RowParts | None]] = {name: [] for name in names}
        sizes: dict[str, list[TensorSpec | None]] = {name: [] for name in names}
        rows: list[Row | None] = []
        pixels = []
        for old in self._block(shard.block):
            row = cache.row(old, number)
            rows.append(self._moved(row))
            pixels.append(cache.pixel_digest(old, number))
            for name in names:
                targets[name].append(cache.parts(name, old, number))
                sizes[name].append(cache.tap(name).spec(row.geometry.crop_h, row.geometry.crop_w))
        _, seal = read_samples_record(self._store.root, shard.block)
        first = shard.block * self._manifest.shard_samples
        views = block_views(first, number, rows, np.array(pixels, dtype=np.uint64))
        return Written(shard, tuple(names), seal, views, targets, sizes)

    def _moved(self, row: Row) -> Row:
        """The row at its new index; a partner that retired has a living row with the same content."""
        moved = row._replace(sample=self._new[row.sample])
        if row.partner is None:
            return moved
        new = self._new.get(row.partner.sample)
        if new is None:
            key = self._cache.key(row.partner.sample)
            new = self._new_of_key.get(key)
            if new is None or not self._same_content(row.partner.sample, self.living[new]):
                raise BadCache(
                    f"'{self._cache.key(row.sample)}' is mixed with '{key}', which has no living row",
                    where=str(self._cache.root),
                    fix="run 'kdcache build --update' first: it re-makes such rows",
                )
        return moved._replace(partner=row.partner._replace(sample=new))

    def _same_content(self, one: int, other: int) -> bool:
        (a, row_a), (b, row_b) = self._cache.samples(one), self._cache.samples(other)
        return a.content_digest(row_a) == b.content_digest(row_b)
