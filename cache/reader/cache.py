"""Read a cache: samples, views and targets by (target, sample, view), through memory maps.

Opening reads one generation, which names every record by its seal; records, columns and shards are opened
when a row of theirs is first asked for, and their digests are checked then, once, not per read. A record of
targets must name the samples' record that the generation names: that is what pairs a target with its image.
Nothing here runs code from the cache.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kdcache.cache.codecs.contract import Codec
from kdcache.cache.codecs.table import make_codec
from kdcache.cache.errors import BadCache, BadOption
from kdcache.cache.fingerprint import digest_of
from kdcache.cache.grid import kind_of
from kdcache.cache.networks.network_config import NetworkConfig
from kdcache.cache.reader.batch_reader import BatchReader
from kdcache.cache.reader.kept import make_room
from kdcache.cache.reader.row_batch import RowBatch
from kdcache.cache.reader.samples import StoredSamples
from kdcache.cache.record.classifier import read_classifier
from kdcache.cache.record.generation import Generation, Pair, generation_name
from kdcache.cache.record.layout import target_layout
from kdcache.cache.record.manifest import TapEntry
from kdcache.cache.record.records import TargetsRecord, read_targets_record
from kdcache.cache.record.row_columns import unpack_views
from kdcache.cache.stores.contract import REPAIR, BlockRows, ShardKey, bad_object
from kdcache.cache.stores.table import target_format
from kdcache.cache.trust import require_trust
from kdcache.cache.views.block_views import BlockViews, check_block_views
from kdcache.cache.views.sets import ViewSet
from kdcache.cache.views.view import Geometry, Row, partner_key

if TYPE_CHECKING:
    import torch

# Shards kept open at once: each holds a few memory maps, of which the kernel allows a process 65530, and no
# descriptor. The order of an epoch returns to few of them: what was opened first goes first.
MAX_OPEN = 4096


class Cache(StoredSamples):
    """An opened cache. All reads return views of mapped files where the store is raw; never write to them."""

    def __init__(
        self, root: Path, *, check_digests: bool = True, generation: int | Generation | None = None
    ) -> None:
        super().__init__(root, check_digests=check_digests, generation=generation)
        self.coverage = self.generation.coverage
        self._format = target_format(self.manifest.target_format)
        self._views: dict[tuple[int, int], BlockViews] = {}
        self._records: dict[ShardKey, TargetsRecord] = {}
        self._rows: dict[tuple[str, int, int, tuple[int, int]], BlockRows] = {}
        self._valid: dict[ShardKey, np.ndarray] = {}
        self._codecs: dict[str, Codec] = {}
        self._batches = BatchReader(self)

    def check_complete(self) -> None:
        """Raises BadCache for targets that are called complete although records of them are not there: who
        reads a row is refused anyway, who only looks would believe it."""
        sets, blocks = {one.first: one for one in self.manifest.views}, set(self.generation.block_numbers)
        for first, target in sorted(self.generation.complete):
            views = range(first, first + sets[first].count)
            lacking = (v for v in views if not blocks <= self.coverage.blocks(target, v))
            if (view := next(lacking, None)) is not None:
                raise BadCache(
                    f"'{target}' is called complete, and of view {view} it has no record for some block",
                    where=str(self.root / generation_name(self.generation.number)),
                    fix=REPAIR,
                )

    # ---- what is there -------------------------------------------------------------------------------------

    def complete_views(self, targets: Iterable[str]) -> list[ViewSet]:
        """View sets for which every block holds every one of `targets`; all that hold anything, for none."""
        wanted, complete = tuple(targets), self.generation.complete
        if not wanted:
            taps = set(self.manifest.tap_names)
            firsts = {pair.first for pair in complete if pair.target in taps}
            return [v for v in self.manifest.views if v.first in firsts]
        return [v for v in self.manifest.views if all(Pair(v.first, name) in complete for name in wanted)]

    def require(self, targets: Iterable[str]) -> None:
        """Refuse targets that the cache does not keep, naming the command that would add them all."""
        kept = self.manifest.tap_names
        lacking = [name for name in targets if name not in kept]
        if not lacking:
            return
        groups, there = self.teacher_config.groups, {*kept, *lacking}
        partly = {kind for kind, levels in groups.items() if not there.issuperset(levels)}
        named = (name if kind_of(name) in partly else kind_of(name) or name for name in lacking)
        missing = list(dict.fromkeys(named))
        own = {tap.tap.rpartition(".")[2] for tap in self.manifest.taps}
        reduced = any("." in name and name.rpartition(".")[2] not in own for name in missing)
        add = "--for with the loss's name" if reduced else " ".join(f"--tap {name}" for name in missing)
        raise BadOption(
            f"the loss needs {' and '.join(map(repr, missing))}, the cache keeps {', '.join(kept)}",
            where=f"cache {self.manifest.name}",
            fix=f"add it with: kdcache build --cache {self.manifest.name} {add}",
        )

    @property
    def teacher_config(self) -> NetworkConfig:
        """What rebuilds the teacher, weights apart. Raises BadOption for a manifest that does not say it."""
        return NetworkConfig.from_dict(self.manifest.network, where=f"manifest of cache {self.manifest.name}")

    @property
    def mixes(self) -> bool:
        """Whether some view shows two samples."""
        return any(views.recipe.mixes for views in self.manifest.views)

    # ---- targets -------------------------------------------------------------------------------------------

    def row(self, index: int, view: int) -> Row:
        """Sample `index` under view number `view`, with who is mixed in. Raises BadCache for a row that holds
        no targets: its numbers would be no view."""
        block, place = self._place(index)
        own = self.unmixed_row(block, place, view)
        partner = self.block_views(block, view).partner(place)
        if partner is None and partner_key(own.effects) is None:
            return own
        other_block, other_place = self.partner_place(own, partner)
        return own.mixed_with(self.unmixed_row(other_block, other_place, view))

    def row_batch(self, samples: np.ndarray, views: np.ndarray) -> RowBatch:
        """The rows (samples[i], views[i]), (B,) int64 each, as `row` gives them one by one. Raises as it."""
        return self._batches.rows(np.asarray(samples, np.int64), np.asarray(views, np.int64))

    def unmixed_row(self, block: int, place: int, view: int) -> Row:
        """The row at one place of a block, nobody mixed in yet. Raises BadCache for one without targets."""
        views = self.block_views(block, view)
        if not views.valid[place]:
            raise BadCache(
                f"'{self.block(block).keys[place]}' has no targets under view {view}",
                where=str(self.root),
                fix="read living samples only; if this one lives, its cache has to be built anew",
            )
        return views.row(place)

    def partner_place(self, row: Row, partner: int | None) -> tuple[int, int]:
        """The block and the place of who is mixed in. Raises BadCache where the column and the effects of a
        row name two partners."""
        named = partner_key(row.effects)
        try:
            stored = None if partner is None else self.key(partner)
        except IndexError:
            stored = f"index {partner}, which nobody has"
        if partner is None or named != stored:
            raise BadCache(
                f"'{self.key(row.sample)}' is mixed with {_quoted(named)} under view {row.view}, its columns "
                f"point at {_quoted(stored)}",
                where=str(self.root),
                fix=REPAIR,
            )
        return self._place(partner)

    def geometry(self, index: int, view: int) -> Geometry:
        block, row = self._place(index)
        return self.block_views(block, view).geometry_of(row)

    def pixel_digest(self, index: int, view: int) -> int:
        """The digest of the teacher's input of one row, as `pixel_digests` computes it."""
        block, row = self._place(index)
        return int(self.block_views(block, view).pixels[row])

    def parts(self, target: str, index: int, view: int) -> dict[str, np.ndarray]:
        """One row's stored parts, channels last, as views of the mapped shard (decoded copies under zstd)."""
        block, row = self._place(index)
        geometry = self.block_views(block, view).geometry_of(row)
        rows = self.block_rows(target, block, view, (geometry.crop_h, geometry.crop_w))
        return {part: rows.row(row, part) for part in rows.parts}

    def gather(self, target: str, rows: RowBatch, part: str, out: np.ndarray) -> None:
        """Copy one stored part of every row of a batch into `out` (B, *part.shape), of the part's type; of
        partners nothing is written where nobody is. All inputs must be of one size. Raises as `parts`."""
        self._batches.gather(target, rows, part, out)

    def block_rows(self, target: str, block: int, view: int, size: tuple[int, int]) -> BlockRows:
        """The rows of a target under a view of which inputs have `size` = (height, width) pixels."""
        rows = self._rows.get((target, block, view, size))
        return rows or self._open(target, block, view, size)

    def valid_rows(self, target: str, block: int, view: int) -> np.ndarray:
        """(rows,) bool: which rows of a block the pass that wrote this target wrote; another of the same view
        may have known fewer that retired. Raises BadCache for a shard that was never finished."""
        return self._valid_rows(self._key(target, block, view))

    def tap(self, target: str) -> TapEntry:
        return self.manifest.tap(target)

    def classifier(self) -> "torch.Tensor | None":
        """(K, D) float32: the weight of the teacher's last linear layer; None when it has none."""
        return read_classifier(self.root, self.manifest, check=self._check)

    def codec(self, target: str) -> Codec:
        if target not in self._codecs:
            # All at once: one consent, not one for each in turn.
            require_trust(self.manifest.foreign_names, where=f"manifest of cache {self.manifest.name}")
            self._codecs[target] = make_codec(self.tap(target).codec)
        return self._codecs[target]

    def stored_rows(self, limit: int | None = None) -> Iterator[tuple[int, int]]:
        """(sample, view) of every living row, view by view; or of about `limit`, spread over samples and
        views."""
        count, numbers = self.generation.num_living, self.view_numbers()
        if limit is None:
            living = self.living
            yield from ((int(index), number) for number in numbers for index in living)
            return
        chosen = min(limit, count * len(numbers))
        spread = np.array([k * count // limit for k in range(chosen)], dtype=np.int64)
        for k, index in enumerate(self.generation.living_at(spread).tolist()):
            yield index, numbers[k % len(numbers)]

    def view_numbers(self) -> list[int]:
        """Global numbers of the views that hold any target for every block."""
        return [n for v in self.complete_views(()) for n in range(v.first, v.first + v.count)]

    def entry_digests(self) -> dict[str, str]:
        """What a run records of the cache it read: identity, samples, and each view set's and each tap's
        digest over its claim and the records that hold it."""
        m, seals = self.manifest, self.generation.seals
        samples = [[entry.seal for entry in self.generation.blocks], self.generation.retired.tolist()]
        digests = {"cache": m.name, "samples": digest_of(samples)}
        for views in m.views:
            numbers = range(views.first, views.first + views.count)
            held = sorted(seal for key, seal in seals.items() if key.view in numbers)
            digests[f"views/{views.first}"] = digest_of([views.digest(), held])
        for tap in m.taps:
            held = sorted(s for k, s in seals.items() if tap.name in m.passes.get(k.pass_id, ()))
            digests[f"tap/{tap.name}"] = digest_of([tap.digest, held])
        return digests

    # ---- opening, once per shard ---------------------------------------------------------------------------

    def block_views(self, block: int, view: int) -> BlockViews:
        if (block, view) not in self._views:
            keys = {k for t in self.manifest.tap_names if (k := self.coverage.key(t, view, block))}
            if not keys:
                raise self._absent(block, view, "any target")
            make_room(self._views, MAX_OPEN)
            # Passes of different times leave out other rows: what had retired by then.
            passes = [self._read_views(key) for key in sorted(keys)]
            self._views[block, view] = _joined(passes, f"shard {block:05d} view {view}", self.root)
        return self._views[block, view]

    def targets_record(self, key: ShardKey) -> TargetsRecord:
        """The record of a shard of this generation. Raises BadCache where it is of other samples."""
        if key not in self._records:
            record, _ = read_targets_record(self.root, key, self.generation.seals[key])
            if record.samples != self.generation.blocks[key.block].seal:
                raise BadCache(
                    f"the targets of {key.title} were made from other samples than the cache holds",
                    where=str(self.root),
                    fix=REPAIR,
                )
            make_room(self._records, MAX_OPEN)
            self._records[key] = record
        return self._records[key]

    def check_targets(self, targets: Iterable[str], view: int, block: int) -> None:
        """The shards that hold these targets of one block under one view. Raises BadCache for damage."""
        self.block_views(block, view)  # columns agree with each other and with the samples
        for name in targets:
            if key := self.coverage.key(name, view, block):
                for entry in self.targets_record(key).objects:
                    self.check_object(entry)

    def _read_views(self, key: ShardKey) -> BlockViews:
        record, samples = self.targets_record(key), self.block(key.block)
        self.check_object(record.views)
        crop = self.manifest.view_set(key.view).crop
        try:
            if record.rows != len(samples):
                raise ValueError(f"{record.rows} rows for {len(samples)} samples")
            content = self.store.get(record.views.name)[0]
            first = key.block * self.shard_samples
            views = unpack_views(content, first=first, number=key.view, rows=record.rows)
            check_block_views(views, crop, np.stack([samples.heights, samples.widths], axis=1))
        except ValueError as error:
            name = record.views.name
            raise bad_object(f"'{name}' cannot be read: {error}", self.store.where(name)) from error
        make_room(self._valid, MAX_OPEN)
        self._valid[key] = views.valid
        return views

    def _open(self, target: str, block: int, view: int, size: tuple[int, int]) -> BlockRows:
        key = self._key(target, block, view)
        for entry in self.targets_record(key).objects:
            self.check_object(entry)
        spec = self.tap(target).spec(*size)
        rows = self._format.open(
            self.store,
            target_layout(self.manifest, {target: [spec]}),
            key,
            tap=target,
            size_key=spec.size_key,
            valid=self._valid_rows(key),
        )
        make_room(self._rows, MAX_OPEN)
        self._rows[target, block, view, size] = rows
        return rows

    def _key(self, target: str, block: int, view: int) -> ShardKey:
        key = self.coverage.key(target, view, block)
        if key is None:
            raise self._absent(block, view, target)
        return key

    def _valid_rows(self, key: ShardKey) -> np.ndarray:
        valid = self._valid.get(key)
        return self._read_views(key).valid if valid is None else valid

    def _absent(self, block: int, view: int, target: str) -> BadCache:
        return BadCache(
            f"shard {block:05d} view {view} of '{target}' was never finished",
            where=str(self.root),
            fix="run 'kdcache build' with the same options: it continues where it was",
        )


def _quoted(key: str | None) -> str:
    return "nobody" if key is None else f"'{key}'"


def _joined(passes: list[BlockViews], place: str, root: Path) -> BlockViews:
    """The views of a block from those that every pass recorded. Raises BadCache where they differ."""
    whole = max(passes, key=lambda views: int(views.valid.sum()))
    for views in passes:
        both = views.valid & whole.valid
        same = (views.geometry[both] == whole.geometry[both]).all() and (
            views.pixels[both] == whole.pixels[both]
        ).all()
        if not same or (views.valid & ~whole.valid).any():
            raise BadCache(
                f"two passes of the teacher saw other pixels in {place}",
                where=str(root),
                fix=REPAIR,
            )
    return whole


def open_cache(path: Path, *, check_digests: bool = True, generation: int | None = None) -> Cache:
    """Open a cache folder at its newest generation, or at the one named. Raises Missing, or BadCache for a
    damaged one, one of another format, or one that no build has finished."""
    return Cache(Path(path), check_digests=check_digests, generation=generation)
