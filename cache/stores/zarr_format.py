"""Targets as zarr v3 arrays that plain zarr-python opens: `targets.zarr/<teacher>/<tap>/<HxW>/<part>`.

Array shape (views, samples, *part.shape), shard (1, shard_samples, *part.shape), inner chunk one row. One
shard file is one view number of one block: `c/<view>/<block>/0/0/0`. zarr-python makes the descriptions (in
memory; the store puts them on disk like every object), our own writer the shards, our own reader the rows. A
row that was never written reads as NaN through zarr-python where the part is a float, as 0 where it is uint8:
only records say what is there.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kdcache.cache.errors import BadCache
from kdcache.cache.spec import PartSpec, RowParts, TensorSpec
from kdcache.cache.stores.contract import (
    ObjectRecord,
    ShardKey,
    Store,
    TargetLayout,
    bad_object,
    rows_by_size,
)
from kdcache.cache.stores.zarr_shards import ZSTD_LEVEL, ShardRows, pack_shard

ROOT = "targets.zarr"
META = "zarr.json"


def array_path(teacher: str, tap: str, size_key: str, part: str) -> str:
    """The folder of one array, relative to the store."""
    return f"{ROOT}/{teacher}/{tap}/{size_key}/{part}"


def shard_name(path: str, shard: ShardKey, part: PartSpec) -> str:
    """The object that holds one view number of one block: `<path>/c/<view>/<block>/0...`, a 0 per axis."""
    return "/".join([path, "c", str(shard.view), str(shard.block), *["0"] * len(part.shape)])


def describe_array(
    store: Store,
    path: str,
    *,
    num_views: int,
    num_samples: int,
    shard_samples: int,
    part: PartSpec,
    zstd: bool,
) -> None:
    """Write or grow one array's description, and the groups above it. Touches no shard.

    A description that is right already is not rewritten; views and samples only grow. Raises BadCache when an
    array of another type, shape or layout is there.
    """
    _describe_groups(store, path)
    name = f"{path}/{META}"
    size = (num_views, num_samples)
    described = _read_meta(store, name) if store.exists(name) else None
    if described is not None:
        size = (max(num_views, described["shape"][0]), max(num_samples, described["shape"][1]))
    wanted = _array_meta(size, shard_samples, part, zstd)
    if described is None:
        store.put(name, wanted)
        return
    changed = _differences(described, json.loads(wanted))
    if changed - {"shape"} or described["shape"][2:] != list(part.shape):
        raise BadCache(
            f"array '{path}' is there already with another {', '.join(sorted(changed))}",
            where=name,
            fix="build into a new cache, or with the options this cache was built with",
        )
    if changed:
        store.put(name, wanted)


class ZarrBlock:
    """One tap's rows of one block under one view: a mapped shard per part."""

    def __init__(self, shards: Mapping[str, ShardRows]) -> None:
        self._shards = dict(shards)
        self.parts = tuple(self._shards)

    def row(self, index: int, part: str) -> np.ndarray:
        return self._shards[part].row(index)


class ZarrFormat:
    """The default format: random access, windows, growth by views and taps."""

    name = "zarr"

    def prepare(self, store: Store, layout: TargetLayout) -> None:
        for tap, tap_layout in layout.taps.items():
            for size_key, parts in tap_layout.parts.items():
                for part_name, part in parts.items():
                    describe_array(
                        store,
                        array_path(layout.teacher, tap, size_key, part_name),
                        num_views=layout.num_views,
                        num_samples=layout.num_samples,
                        shard_samples=layout.shard_samples,
                        part=part,
                        zstd=layout.zstd,
                    )

    def write(
        self,
        store: Store,
        layout: TargetLayout,
        shard: ShardKey,
        *,
        targets: Mapping[str, Sequence[RowParts | None]],
        sizes: Mapping[str, Sequence[TensorSpec | None]],
    ) -> list[ObjectRecord]:
        """One object per tap, map size and part. The pass is not part of a name: a tap has one array."""
        written: list[ObjectRecord] = []
        for tap, rows in targets.items():
            by_size = rows_by_size(rows, sizes[tap])
            for size_key, sized in by_size.items():
                for name, part in layout.taps[tap].parts[size_key].items():
                    of_part = [None if row is None else row[name] for row in sized]
                    path = array_path(layout.teacher, tap, size_key, name)
                    buffers = pack_shard(of_part, layout.shard_samples, part, layout.zstd)
                    written.append(store.put(shard_name(path, shard, part), buffers))
            _forget_other_sizes(store, layout, tap, shard, set(by_size))
        return written

    def open(
        self, store: Store, layout: TargetLayout, shard: ShardKey, *, tap: str, size_key: str
    ) -> ZarrBlock:
        shards: dict[str, ShardRows] = {}
        for part_name, part in layout.taps[tap].parts[size_key].items():
            name = shard_name(array_path(layout.teacher, tap, size_key, part_name), shard, part)
            buffer = store.open_map(name)
            shards[part_name] = ShardRows(buffer, layout.shard_samples, part, layout.zstd, name=name)
        return ZarrBlock(shards)


def _forget_other_sizes(
    store: Store, layout: TargetLayout, tap: str, shard: ShardKey, kept: set[str]
) -> None:
    """Remove this block's shards of sizes that no row has any more (an image was replaced by another one):
    plain zarr-python would go on reading them."""
    folder = f"{ROOT}/{layout.teacher}/{tap}"
    for size_key in set(store.folders(folder)) - kept:
        for part in store.folders(f"{folder}/{size_key}"):
            for name in store.list(f"{folder}/{size_key}/{part}/c/{shard.view}/{shard.block}/"):
                store.remove(name)


def _describe_groups(store: Store, path: str) -> None:
    parents = path.split("/")[:-1]
    missing = [
        n for n in ("/".join([*parents[:i], META]) for i in range(1, len(parents) + 1)) if not store.exists(n)
    ]
    if not missing:
        return
    import zarr.storage  # only here and in _array_meta: reading a cache must not pay for it

    memory: dict[str, Any] = {}
    zarr.create_group(zarr.storage.MemoryStore(memory), zarr_format=3)
    for name in missing:
        store.put(name, memory[META].to_bytes())


def _array_meta(size: tuple[int, int], shard_samples: int, part: PartSpec, zstd: bool) -> bytes:
    import zarr.codecs
    import zarr.storage

    memory: dict[str, Any] = {}
    zarr.create_array(
        zarr.storage.MemoryStore(memory),
        shape=(*size, *part.shape),
        shards=(1, shard_samples, *part.shape),
        chunks=(1, 1, *part.shape),
        dtype=part.dtype,
        fill_value=0 if np.dtype(part.dtype).kind in "iub" else float("nan"),
        compressors=zarr.codecs.ZstdCodec(level=ZSTD_LEVEL, checksum=False) if zstd else None,
        filters=None,
        zarr_format=3,
    )
    meta: bytes = memory[META].to_bytes()
    return meta


def _read_meta(store: Store, name: str) -> dict[str, Any]:
    try:
        meta = store.read_json(name)
        if len(meta["shape"]) < 2:
            raise ValueError("an array of fewer than two axes")
    except (ValueError, KeyError, TypeError) as error:
        raise bad_object(f"'{name}' does not describe an array: {error}", name) from error
    return meta


def _differences(described: Mapping[str, Any], wanted: Mapping[str, Any]) -> set[str]:
    return {key for key in {*described, *wanted} if described.get(key) != wanted.get(key)}
