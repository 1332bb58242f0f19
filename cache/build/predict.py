"""What a build will cost, known before the first forward: every map's shape follows from its view."""

import math
import shutil
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from kdcache.cache.build.copies import Copies, Expected
from kdcache.cache.build.plan import Plan, Work
from kdcache.cache.build.samples.survey import content_or_none
from kdcache.cache.build.size import CRC_BYTES, INDEX_BYTES, flight_bytes, header_size
from kdcache.cache.errors import BadCache, BadSample, DiskFull, size_text
from kdcache.cache.record.layout import target_layout
from kdcache.cache.record.manifest import Manifest, pass_id
from kdcache.cache.record.packed import open_packed
from kdcache.cache.record.records import Coverage, objects_of, read_record
from kdcache.cache.spec import TensorSpec
from kdcache.cache.stores.contract import ShardKey
from kdcache.cache.stores.local import LocalStore
from kdcache.cache.stores.tar_pack import BLOCK
from kdcache.cache.stores.zarr_shards import chunk_rows
from kdcache.cache.views.draw import fit_factor
from kdcache.cache.views.sets import FIT, MIRROR_OF

LOOKED_AT = 64  # images whose shape is compared with the canvas: a header each
ROW_BYTES = 37  # of the columns of a shard's rows
FILE_BYTES = 512  # of their header
TAR_BYTES = 3 * (BLOCK + BLOCK // 2) + BLOCK  # three headers, padding, key and size: most of a tiny image


class Prediction(NamedTuple):
    """What a build will cost, known before the first forward."""

    target_bytes: int  # exact without entropy coding; an upper bound with it
    sample_bytes: int  # original image and label files; labels may be re-encoded smaller or larger
    free_bytes: int
    flight_bytes: int
    rows: int  # for the teacher; what is copied is not among them
    padding: float = (
        0.0  # share of the canvas beside an image, on average; 0 where views show no whole images
    )
    kept_rows: int = 0  # of pixels that are stored as they are: the teacher has nothing to do with them


def missing_work(coverage: Coverage, manifest: Manifest, blocks: Iterable[int]) -> list[Work]:
    """Shards of these blocks that are not covered, in the order a single rank makes them."""
    blocks = tuple(blocks)
    there = set(blocks)
    taps = {t.name: t for t in manifest.stored}
    works = []
    for view in range(manifest.num_views):
        for names in (manifest.tap_names, manifest.kept_names):  # a pass each: one needs no teacher
            lacking: set[int] = set().union(*(there - coverage.blocks(name, view) for name in names))
            for block in filter(lacking.__contains__, blocks):
                targets = coverage.missing(names, view, block)
                shard = ShardKey(block, view, pass_id(targets, taps))
                works.append(Work(shard, tuple(sorted(targets))))
    return works


def predict(
    plan: Plan,
    works: Sequence[Work],
    to_pack: Mapping[int, Sequence[str]],
    dead: Container[int] = (),
    copies: Copies | None = None,
) -> Prediction:
    """Bytes to write and to hold, rows for the teacher: those of the samples that are not `dead`, without
    those that `copies` has. Exact for targets: every map's shape follows from its view."""
    manifest = plan.manifest
    inputs = _BlockInputs(plan, to_pack, dead)
    targets = rows = kept = 0
    for work in works:
        samples = inputs.samples(work.shard.block)
        targets += shard_bytes(manifest, work, samples)
        if set(work.targets) <= set(manifest.kept_names):
            kept += len(samples)
            continue
        rows += len(samples) - (copies.count(manifest, work, samples, inputs.image_digest) if copies else 0)
    new = [inputs.index_of[key] for keys in to_pack.values() for key in keys]
    packed = sum(plan.source.num_bytes(index) + TAR_BYTES for index in new)
    free = free_bytes(plan.root)
    flight = flight_bytes(manifest, inputs.seen or [plan.source.default_crop])
    return Prediction(targets, packed, free, flight, rows, padded_share(plan), kept)


def free_bytes(root: Path) -> int:
    """Of the disk that a cache lies on, or will."""
    return shutil.disk_usage(_existing(root)).free


def refuse_full_disk(root: Path, wanted: int) -> None:
    """Raises DiskFull, before anything is written."""
    free = free_bytes(root)
    if wanted > free:
        raise DiskFull(
            f"the build writes {size_text(wanted)}, the disk has {size_text(free)} free",
            where=str(root),
            fix=(
                "free some space, ask for fewer views (--views crops:2), a smaller --crop or fewer "
                "taps (--tap logits)"
            ),
        )


def stored_bytes(root: Path, shard: ShardKey, seal: str) -> int | None:
    """Of a shard's objects, as its own record says them; None where that is damaged."""
    try:
        record, _ = read_record(root, shard, seal)
    except BadCache:
        return None
    return sum(one.num_bytes for one in objects_of(record))


def padded_share(plan: Plan) -> float:
    """What of the canvas is padding where whole images are fitted onto it, a mean over some images."""
    fitted = (views.crop for views in plan.manifest.views if views.kind in (FIT, MIRROR_OF[FIT]))
    canvas = next((crop for crop in fitted if crop), None)
    if canvas is None:
        return 0.0
    filled = []
    for index in range(0, len(plan.source.keys), max(1, len(plan.source.keys) // LOOKED_AT)):
        with suppress(BadSample):  # packing tells of it
            size = plan.source.size(index)
            filled.append(math.prod(size) * fit_factor(*size, canvas) ** 2 / math.prod(canvas))
    return 1 - sum(filled) / len(filled) if filled else 0.0


def shard_bytes(manifest: Manifest, work: Work, samples: Sequence[Expected]) -> int:
    """Of a shard of targets of these samples."""
    crop = manifest.view_set(work.shard.view).crop
    shown = [(one.row % manifest.shard_samples, crop or one.size) for one in samples]
    return (
        sum(_tap_bytes(manifest, name, shown) for name in work.targets) + len(shown) * ROW_BYTES + FILE_BYTES
    )


class _BlockInputs:
    """The living samples of a block, of those that are packed and of those that will be."""

    def __init__(self, plan: Plan, to_pack: Mapping[int, Sequence[str]], dead: Container[int]) -> None:
        self.index_of = {key: i for i, key in enumerate(plan.source.keys)}
        self.seen: set[tuple[int, int]] = set()
        self._plan, self._to_pack, self._dead = plan, to_pack, dead
        self._store = LocalStore(plan.root)
        self._full = any(v.crop is None for v in plan.manifest.views)
        self._blocks: dict[int, list[Expected]] = {}

    def samples(self, block: int) -> list[Expected]:
        """Where some view is whole without those whose header cannot be read; they are refused later on."""
        if block not in self._blocks:
            self._blocks[block] = list(self._read(block))
            self.seen |= {sample.size for sample in self._blocks[block]} if self._full else set()
        return self._blocks[block]

    def image_digest(self, sample: Expected) -> bytes:
        """Of the source's own bytes."""
        block, place = divmod(sample.row, self._plan.manifest.shard_samples)
        if block not in self._to_pack:
            digest: bytes = open_packed(self._store, block).image_digests[place].tobytes()
            return digest
        return content_or_none(self._plan.source, self.index_of[sample.key])[0]

    def _read(self, block: int) -> Iterator[Expected]:
        first = block * self._plan.manifest.shard_samples
        if block not in self._to_pack:
            yield from (e for e in packed_samples(self._store, block, first) if e.row not in self._dead)
            return
        for index, key in enumerate(self._to_pack[block], first):
            size = header_size(self._plan.source, self.index_of[key]) if self._full else (1, 1)
            if size[0]:
                yield Expected(index, key, size)


def packed_samples(store: LocalStore, block: int, first: int) -> Iterator[Expected]:
    """The samples of a recorded block that can be used."""
    samples = open_packed(store, block)
    sizes = zip(samples.heights.tolist(), samples.widths.tolist(), strict=True)
    for place, (key, size) in enumerate(zip(samples.keys, sizes, strict=True)):
        if samples.valid[place]:
            yield Expected(first + place, key, size)


def _tap_bytes(manifest: Manifest, name: str, inputs: Sequence[tuple[int, tuple[int, int]]]) -> int:
    """Of one target's files in a shard that holds these places, with inputs of these sizes."""
    tap = manifest.tap(name)
    places: dict[TensorSpec, set[int]] = {}
    for place, size in inputs:
        places.setdefault(tap.spec(*size), set()).add(place)
    layout, num_bytes = target_layout(manifest, {name: places}), 0
    for spec, there in places.items():
        for part in layout.taps[name].parts[spec.size_key].values():
            rows = chunk_rows(layout, spec.size_key, part)
            num_bytes += len({place // rows for place in there}) * rows * part.num_bytes
            num_bytes += manifest.shard_samples // rows * INDEX_BYTES + CRC_BYTES
    return num_bytes


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path
