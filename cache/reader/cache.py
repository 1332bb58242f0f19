"""Read a cache: samples, views and targets by (target, sample, view), through memory maps.

Opening lists file names only; records, indexes and shards are opened when a row of theirs is first asked for,
and their digests are checked then, once, not per read. Nothing here runs code from the cache.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from kdcache.cache.codecs.contract import Codec
from kdcache.cache.codecs.table import make_codec
from kdcache.cache.errors import BadCache, BadOption
from kdcache.cache.fingerprint import digest_of
from kdcache.cache.reader.samples import StoredSamples
from kdcache.cache.record.classifier import read_classifier
from kdcache.cache.record.layout import target_layout
from kdcache.cache.record.manifest import TapEntry
from kdcache.cache.record.records import Coverage, list_records, read_record
from kdcache.cache.spec import TensorSpec
from kdcache.cache.stores.contract import REPAIR, BlockRows, ShardKey
from kdcache.cache.stores.table import target_format
from kdcache.cache.views.sets import ViewSet
from kdcache.cache.views.view import BlockViews, Geometry, Row, StrayPartner

# Shards kept open at once: each holds a memory map, of which the kernel allows a process 65530. The order
# of an epoch returns to few of them, so starting over costs nothing that shows.
MAX_OPEN = 4096


class Cache(StoredSamples):
    """An opened cache. All reads return views of mapped files where the store is raw; never write to them."""

    def __init__(self, root: Path, *, check_digests: bool = True) -> None:
        super().__init__(root, check_digests=check_digests)
        self.coverage = Coverage(list_records(root), self.manifest.passes)
        self._format = target_format(self.manifest.target_format)
        self._views: dict[tuple[int, int], BlockViews] = {}
        self._rows: dict[tuple[str, int, int, str], BlockRows] = {}
        self._codecs: dict[str, Codec] = {}

    # ---- what is there -------------------------------------------------------------------------------------

    def complete_views(self, targets: Iterable[str]) -> list[ViewSet]:
        """View sets for which every block holds every one of `targets`."""
        wanted = tuple(targets)
        return [v for v in self.manifest.views if not self._first_gap(wanted, v)]

    def _first_gap(self, targets: tuple[str, ...], views: ViewSet) -> tuple[int, int] | None:
        for block in range(self.manifest.num_blocks):
            if block not in self.coverage.samples:
                return block, -1
            for number in range(views.first, views.first + views.count):
                if self.coverage.missing(targets, number, block):
                    return block, number
        return None

    def require(self, targets: Iterable[str]) -> None:
        """Refuse targets that the cache does not keep, naming the command that would add them."""
        for name in targets:
            if name not in self.manifest.tap_names:
                have = ", ".join(self.manifest.tap_names)
                member = name.rpartition(".")[2] in {t.tap.rpartition(".")[2] for t in self.manifest.taps}
                add = f"--tap {name}" if "." not in name or member else "--for with the loss's name"
                raise BadOption(
                    f"the loss needs '{name}', the cache keeps {have}",
                    where=f"cache {self.manifest.name}",
                    fix=f"add it with: kdcache build --cache {self.manifest.name} {add}",
                )

    @property
    def mixes(self) -> bool:
        """Whether some view shows two samples."""
        return any(views.recipe.mixes for views in self.manifest.views)

    # ---- targets -------------------------------------------------------------------------------------------

    def row(self, index: int, view: int) -> Row:
        """Sample `index` under view number `view`, with who is mixed in."""
        block, place = self._place(index)
        return self.block_views(block, view).row(place)

    def geometry(self, index: int, view: int) -> Geometry:
        block, row = self._place(index)
        return self.block_views(block, view).geometry(row)

    def parts(self, target: str, index: int, view: int) -> dict[str, np.ndarray]:
        """One row's stored parts, channels last, as views of the mapped shard (decoded copies under zstd)."""
        block, row = self._place(index)
        geometry = self.block_views(block, view).geometry(row)
        spec = self.tap(target).spec(geometry.crop_h, geometry.crop_w)
        rows = self._rows.get((target, block, view, spec.size_key)) or self._open(target, block, view, spec)
        return {part: rows.row(row, part) for part in rows.parts}

    def tap(self, target: str) -> TapEntry:
        return self.manifest.tap(target)

    def classifier(self) -> torch.Tensor | None:
        """(K, D) float32: the weight of the teacher's last linear layer; None when it has none."""
        return read_classifier(self.root, self.manifest, check=self._check)

    def codec(self, target: str) -> Codec:
        if target not in self._codecs:
            self._codecs[target] = make_codec(self.tap(target).codec)
        return self._codecs[target]

    def pixel_digests(self, limit: int = 4) -> list[tuple[int, int, str]]:
        """(sample, view, digest of the teacher's input) of up to `limit` rows, spread over the shards."""
        keys = list(self.coverage.keys())
        step = max(1, len(keys) // limit)
        records = [read_record(self.root, k) for k in keys[::step][:limit]]
        return [(p[0], p[1], p[2]) for record in records if (p := record.get("pixels"))]

    def entry_digests(self) -> dict[str, str]:
        """What a run records of the cache it read: identity, samples, each view set's and each tap's
        digest."""
        m = self.manifest
        blocks = [read_record(self.root, ShardKey(b))["digest"] for b in range(m.num_blocks)]
        samples = {"cache": m.name, "samples": digest_of(blocks)}
        views = {f"views/{v.first}": v.digest() for v in m.views}
        return samples | views | {f"tap/{t.name}": t.digest for t in m.taps}

    # ---- opening, once per shard ---------------------------------------------------------------------------

    def block_views(self, block: int, view: int) -> BlockViews:
        if (block, view) not in self._views:
            key = next((k for t in self.manifest.tap_names if (k := self.coverage.key(t, view, block))), None)
            if key is None:
                raise self._absent(block, view, "any target")
            if len(self._views) >= MAX_OPEN:
                self._views.clear()
            self._views[block, view] = self._read_views(key)
        return self._views[block, view]

    def _read_views(self, key: ShardKey) -> BlockViews:
        samples = self._block(key.block)
        sizes = zip(samples.heights.tolist(), samples.widths.tolist(), strict=True)
        try:
            return BlockViews(
                read_record(self.root, key),
                first=key.block * self.shard_samples,
                keys=samples.keys,
                sizes=sizes,
            )
        except StrayPartner as error:
            raise BadCache(str(error), where=str(self.root), fix=REPAIR) from error

    def _open(self, target: str, block: int, view: int, spec: TensorSpec) -> BlockRows:
        key = self.coverage.key(target, view, block)
        if key is None:
            raise self._absent(block, view, target)
        self._record(key)
        rows = self._format.open(
            self.store,
            target_layout(self.manifest, {target: [spec]}),
            key,
            tap=target,
            size_key=spec.size_key,
        )
        if len(self._rows) >= MAX_OPEN:
            self._rows.clear()
        self._rows[target, block, view, spec.size_key] = rows
        return rows

    def _absent(self, block: int, view: int, target: str) -> BadCache:
        return BadCache(
            f"shard {block:05d} view {view} of '{target}' was never finished",
            where=str(self.root),
            fix="run 'kdcache build' with the same options: it continues where it was",
        )


def open_cache(path: Path, *, check_digests: bool = True) -> Cache:
    """Open a cache folder. Raises Missing, or BadCache for a torn manifest or a newer format."""
    return Cache(Path(path), check_digests=check_digests)
