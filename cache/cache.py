"""Read a cache: samples, views and targets by (target, sample, view), through memory maps.

Opening lists file names only; records, indexes and shards are opened when a row of theirs is first asked for,
and their digests are checked then, once, not per read. Nothing here runs code from the cache.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from kdcache.cache.block_views import BlockViews
from kdcache.cache.codecs.contract import Codec
from kdcache.cache.codecs.table import make_codec
from kdcache.cache.errors import BadCache, BadOption, nearest
from kdcache.cache.fingerprint import digest_of
from kdcache.cache.layout import target_layout
from kdcache.cache.manifest import Manifest, TapEntry, read_manifest
from kdcache.cache.object_check import object_problem
from kdcache.cache.records import Coverage, RecordKey, list_records, read_record
from kdcache.cache.spec import TensorSpec
from kdcache.cache.stores.contract import REPAIR, BlockRows
from kdcache.cache.stores.local import LocalStore, ObjectRecord
from kdcache.cache.stores.sample_tars import SampleBlock, open_samples
from kdcache.cache.stores.table import target_format
from kdcache.cache.view import Geometry
from kdcache.cache.view_draw import ViewSet

# Shards kept open at once: each holds a memory map, of which the kernel allows a process 65530. The order
# of an epoch returns to few of them, so starting over costs nothing that shows.
MAX_OPEN = 4096


class Cache:
    """An opened cache. All reads return views of mapped files where the store is raw; never write to them."""

    def __init__(self, root: Path, *, check_digests: bool = True) -> None:
        self.root = root
        self.manifest: Manifest = read_manifest(root)
        self.store = LocalStore(root)
        self.coverage = Coverage(list_records(root), self.manifest.passes)
        self._format = target_format(self.manifest.target_format)
        self._check = check_digests
        self._checked: set[str] = set()
        self._blocks: dict[int, SampleBlock] = {}
        self._tars: set[int] = set()  # blocks whose tar was checked
        self._views: dict[tuple[int, int], BlockViews] = {}
        self._rows: dict[tuple[str, int, int, str], BlockRows] = {}
        self._codecs: dict[str, Codec] = {}

    # ---- what is there -------------------------------------------------------------------------------------

    @property
    def num_samples(self) -> int:
        return self.manifest.num_samples

    @property
    def shard_samples(self) -> int:
        return self.manifest.shard_samples

    @property
    def invalid(self) -> np.ndarray:
        """Sorted indices of samples that no epoch visits (marked by 'build --skip-bad')."""
        bad = [self._block(b).valid for b in range(self.manifest.num_blocks)]
        return np.flatnonzero(~np.concatenate(bad)) if bad else np.zeros(0, dtype=np.int64)

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
                add = f"--tap {name}" if "." not in name else "--for with the loss's name"
                raise BadOption(
                    f"the loss needs '{name}', the cache keeps {have}",
                    where=f"cache {self.manifest.name}",
                    fix=f"add it with: kdcache build --cache {self.manifest.name} {add}",
                )

    # ---- samples -------------------------------------------------------------------------------------------

    def samples(self, index: int) -> tuple[SampleBlock, int]:
        block, row = self._place(index)
        return self._block(block), row

    def _place(self, index: int) -> tuple[int, int]:
        """The block of a sample and its row there. Raises IndexError."""
        if not 0 <= index < self.num_samples:
            raise IndexError(f"sample {index} of {self.num_samples}")
        return divmod(index, self.manifest.shard_samples)

    def image(self, index: int) -> np.ndarray:
        """The encoded image, 1-D uint8: a view of the mapped tar, whose digest is checked on first touch."""
        block, row = self._place(index)
        self._check_tar(block)
        return self._block(block).image(row)

    def label(self, index: int) -> np.ndarray:
        """The encoded grey PNG of train ids, 1-D uint8, 255 = ignore."""
        block, row = self._place(index)
        self._check_tar(block)
        return self._block(block).label(row)

    def key(self, index: int) -> str:
        block, row = self.samples(index)
        return block.keys[row]

    def key_hash(self, index: int) -> int:
        block, row = self.samples(index)
        return int(block.key_hashes[row])

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of the stored image in pixels."""
        block, row = self.samples(index)
        return int(block.heights[row]), int(block.widths[row])

    def find(self, key: str) -> int:
        """The index of a key. Raises BadOption naming the nearest key."""
        for block in range(self.manifest.num_blocks):
            keys = list(self._block(block).keys)
            if key in keys:
                return block * self.shard_samples + keys.index(key)
        close = nearest(key, [k for b in range(self.manifest.num_blocks) for k in self._block(b).keys])
        hint = f"did you mean '{close}'?" if close else "'kdcache show --keys' lists them"
        raise BadOption(f"no sample has the key '{key}'", where=f"cache {self.manifest.name}", fix=hint)

    # ---- targets -------------------------------------------------------------------------------------------

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
        blocks = [read_record(self.root, RecordKey(b))["digest"] for b in range(m.num_blocks)]
        found = {"cache": m.name, "samples": digest_of(blocks)} | {
            f"views/{v.first}": v.digest() for v in m.views
        }
        return found | {f"tap/{t.name}": t.digest for t in m.taps}

    # ---- opening, once per shard ---------------------------------------------------------------------------

    def _block(self, block: int) -> SampleBlock:
        if block not in self._blocks:
            # Only the index is checked here: whoever asks for keys and sizes must not read every image.
            self._record(RecordKey(block), lambda name: name.endswith(".json"))
            self._blocks[block] = open_samples(self.store, block)
        return self._blocks[block]

    def _check_tar(self, block: int) -> None:
        if block not in self._tars:
            self._record(RecordKey(block))
            self._tars.add(block)

    def block_views(self, block: int, view: int) -> BlockViews:
        if (block, view) not in self._views:
            key = next((k for t in self.manifest.tap_names if (k := self.coverage.key(t, view, block))), None)
            if key is None:
                raise self._absent(block, view, "any target")
            samples = self._block(block)
            record = read_record(self.root, key)
            if len(self._views) >= MAX_OPEN:
                self._views.clear()
            self._views[block, view] = BlockViews(record, samples.heights.tolist(), samples.widths.tolist())
        return self._views[block, view]

    def _open(self, target: str, block: int, view: int, spec: TensorSpec) -> BlockRows:
        key = self.coverage.key(target, view, block)
        if key is None:
            raise self._absent(block, view, target)
        self._record(key)
        rows = self._format.open(
            self.store,
            target_layout(self.manifest, {target: [spec]}),
            block=block,
            view=view,
            pass_id=key.pass_id,
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

    def _record(self, key: RecordKey, checked: Callable[[str], bool] = lambda name: True) -> None:
        """Check the digests of a shard's objects, those whose name `checked` accepts."""
        for entry in read_record(self.root, key)["objects"]:
            if self._check and checked(entry.name):
                self.check_object(entry)

    def check_object(self, entry: ObjectRecord) -> None:
        """Compare one object's size and digest with its record; remembered, so that each is paid once."""
        if entry.name in self._checked:
            return
        problem = object_problem(self.root, entry)
        if problem:
            raise BadCache(problem, where=f"{self.root}/{entry.name}", fix=REPAIR)
        self._checked.add(entry.name)


def open_cache(path: Path, *, check_digests: bool = True) -> Cache:
    """Open a cache folder. Raises Missing, or BadCache for a torn manifest or a newer format."""
    return Cache(Path(path), check_digests=check_digests)
