"""Targets as zarr v3 arrays that plain zarr-python opens: `targets.zarr/<teacher>/<tap>/<HxW>/<part>`.

Array shape (views, samples, *part.shape), shard (1, shard_samples, *part.shape), inner chunk one row of a map
or as many rows of a vector as the layout says (`chunk_rows`). One shard file is one view number of one block:
`c/<view>/<block>/0/0/0`. zarr-python makes the descriptions (in
memory; the store puts them on disk like every object), our own writer the shards, our own reader the rows. A
row that was never written reads as NaN through zarr-python where the part is a float, as 0 where it is uint8:
only records say what is there.
"""

import json
from collections.abc import Container, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from kdcache.cache.errors import BadCache
from kdcache.cache.spec import PartSpec, RowParts, TensorSpec
from kdcache.cache.stores.contract import (
    Buffer,
    ShardKey,
    Store,
    TargetLayout,
    bad_object,
    rows_by_size,
)
from kdcache.cache.stores.even_rows import Slots
from kdcache.cache.stores.json_object import read_json
from kdcache.cache.stores.zarr_shards import ZSTD_LEVEL, ShardRows, chunk_rows, fill_of, pack_shard

ROOT = "targets.zarr"
META = "zarr.json"
_ESSENTIAL = (
    *("zarr_format", "node_type", "shape", "data_type", "chunk_grid"),
    *("chunk_key_encoding", "fill_value", "codecs"),
)
# What else a description may hold, and the one value that changes nothing; attributes are the user's.
_OPTIONAL: Mapping[str, Any] = {"storage_transformers": [], "dimension_names": None}
_OPTIONAL_OF_GROUP: Mapping[str, Any] = {"consolidated_metadata": None}


def array_path(teacher: str, tap: str, size_key: str, part: str) -> str:
    """The folder of one array, relative to the store."""
    return f"{tap_path(teacher, tap)}/{size_key}/{part}"


def tap_path(teacher: str, tap: str) -> str:
    """The folder of all arrays of one tap, relative to the store."""
    return f"{ROOT}/{teacher}/{tap}"


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
    chunk_rows: int = 1,
    live: bool = True,
) -> None:
    """Write or grow one array's description, and the groups above it. Touches no shard.

    A description that is right already is not rewritten; views and samples only grow. Raises BadCache when an
    array of another type, shape or layout is there and `live`; one that holds nothing yet is described anew.
    """
    _describe_groups(store, path)
    name = f"{path}/{META}"
    size = (num_views, num_samples)
    described = _kept_meta(store, name)
    if described is not None:
        size = (max(num_views, described["shape"][0]), max(num_samples, described["shape"][1]))
    wanted = _array_meta(size, shard_samples, part, zstd, chunk_rows)
    if described is None:
        store.put(name, wanted)
        return
    changed = _differences(described, json.loads(wanted))
    other = changed - {"shape"} or described["shape"][2:] != list(part.shape)
    if other and not live:
        store.put(name, _array_meta((num_views, num_samples), shard_samples, part, zstd, chunk_rows))
        return
    if other:
        raise BadCache(
            f"array '{path}' is there already with another {', '.join(sorted(changed))}",
            where=store.where(name),
            fix="run 'kdcache build --repair': it describes the array anew, as the manifest says",
        )
    if changed or _strange(described, _ESSENTIAL, _OPTIONAL) is not None:
        store.put(name, wanted)


class ZarrBlock:
    """One tap's rows of one block under one view: a mapped shard per part."""

    def __init__(self, shards: Mapping[str, ShardRows]) -> None:
        self._shards = dict(shards)
        self.parts = tuple(self._shards)

    def row(self, index: int, part: str) -> np.ndarray:
        return self._shards[part].row(index)

    def gather(self, places: np.ndarray, part: str, out: np.ndarray, slots: Slots) -> None:
        self._shards[part].gather(places, out, slots)


class ZarrFormat:
    """The default format: random access, windows, growth by views and taps."""

    name = "zarr"

    def prepare(self, store: Store, layout: TargetLayout, live: Container[str]) -> None:
        for path, part, rows in _arrays(layout):
            describe_array(
                store,
                path,
                num_views=layout.num_views,
                num_samples=layout.num_samples,
                shard_samples=layout.shard_samples,
                part=part,
                zstd=layout.zstd,
                chunk_rows=rows,
                live=path.split("/")[2] in live,
            )

    def problems(self, store: Store, layout: TargetLayout) -> Iterator[str]:
        """Descriptions from which plain zarr would read something else than what is there."""
        groups: set[str] = set()
        for path, part, rows in _arrays(layout):
            groups |= set(_groups_above(path))
            if text := _array_problem(store, f"{path}/{META}", layout, part, rows):
                yield text
        for name in sorted(groups):
            if text := _group_problem(store, name):
                yield text

    def pack(
        self,
        layout: TargetLayout,
        shard: ShardKey,
        *,
        targets: Mapping[str, Sequence[RowParts | None]],
        sizes: Mapping[str, Sequence[TensorSpec | None]],
    ) -> Iterator[tuple[str, Sequence[Buffer]]]:
        """One object per tap, map size and part. The pass is not part of a name: a tap has one array."""
        for tap, rows in targets.items():
            for size_key, sized in rows_by_size(rows, sizes[tap]).items():
                for name, part in layout.taps[tap].parts[size_key].items():
                    of_part = [None if row is None else row[name] for row in sized]
                    path = array_path(layout.teacher, tap, size_key, name)
                    many = chunk_rows(layout, size_key, part)
                    buffers = pack_shard(of_part, layout.shard_samples, part, layout.zstd, many)
                    yield shard_name(path, shard, part), buffers

    def open(
        self,
        store: Store,
        layout: TargetLayout,
        shard: ShardKey,
        *,
        tap: str,
        size_key: str,
        valid: np.ndarray | None = None,
    ) -> ZarrBlock:
        shards: dict[str, ShardRows] = {}
        for part_name, part in layout.taps[tap].parts[size_key].items():
            name = shard_name(array_path(layout.teacher, tap, size_key, part_name), shard, part)
            buffer = store.open_map(name)
            shards[part_name] = ShardRows(
                buffer, layout.shard_samples, part, layout.zstd, chunk_rows(layout, size_key, part), valid,
                name=name, where=store.where(name),
            )  # fmt: skip
        return ZarrBlock(shards)


def _arrays(layout: TargetLayout) -> Iterator[tuple[str, PartSpec, int]]:
    """The path of every array of a layout, what a row of it is, and how many share an inner chunk."""
    for tap, tap_layout in layout.taps.items():
        for size_key, parts in tap_layout.parts.items():
            for part_name, part in parts.items():
                path = array_path(layout.teacher, tap, size_key, part_name)
                yield path, part, chunk_rows(layout, size_key, part)


def _groups_above(path: str) -> list[str]:
    parents = path.split("/")[:-1]
    return ["/".join([*parents[:i], META]) for i in range(1, len(parents) + 1)]


def _describe_groups(store: Store, path: str) -> None:
    for name in _groups_above(path):
        if _group_problem(store, name):
            store.put(name, _group_meta())


def _group_problem(store: Store, name: str) -> str | None:
    if not store.exists(name):
        return f"'{name}' is missing"
    try:
        plain = read_json(store, name)
    except BadCache as error:
        return error.what
    if (plain.get("zarr_format"), plain.get("node_type")) != (3, "group"):
        return f"'{name}' does not describe a zarr group"
    return _strange_text(name, _strange(plain, ("zarr_format", "node_type"), _OPTIONAL_OF_GROUP))


def _array_problem(
    store: Store, name: str, layout: TargetLayout, part: PartSpec, chunk_rows: int
) -> str | None:
    try:
        described = _read_meta(store, name)
    except BadCache as error:
        return error.what
    views, samples = described["shape"][:2]
    if views < layout.num_views or samples < layout.num_samples:
        return f"'{name}' describes {views} views of {samples} samples, there are more"
    meta = _array_meta((views, samples), layout.shard_samples, part, layout.zstd, chunk_rows)
    wanted = json.loads(meta)
    if changed := ", ".join(sorted(_differences(described, wanted))):
        return f"'{name}' describes the array with another {changed}"
    return _strange_text(name, _strange(described, _ESSENTIAL, _OPTIONAL))


@cache
def _group_meta() -> bytes:
    import zarr.storage  # only here and in _array_meta: reading a cache must not pay for it

    memory: dict[str, Any] = {}
    zarr.create_group(zarr.storage.MemoryStore(memory), zarr_format=3)
    meta: bytes = memory[META].to_bytes()
    return meta


def _array_meta(
    size: tuple[int, int], shard_samples: int, part: PartSpec, zstd: bool, chunk_rows: int
) -> bytes:
    import zarr.codecs
    import zarr.storage

    memory: dict[str, Any] = {}
    zarr.create_array(
        zarr.storage.MemoryStore(memory),
        shape=(*size, *part.shape),
        shards=(1, shard_samples, *part.shape),
        chunks=(1, chunk_rows, *part.shape),
        dtype=part.dtype,
        fill_value=fill_of(part),
        compressors=zarr.codecs.ZstdCodec(level=ZSTD_LEVEL, checksum=False) if zstd else None,
        filters=None,
        zarr_format=3,
    )
    meta: bytes = memory[META].to_bytes()
    return meta


def _kept_meta(store: Store, name: str) -> dict[str, Any] | None:
    """What is described, None for nothing and for bytes that say nothing: these are written anew."""
    try:
        return _read_meta(store, name)
    except BadCache:
        return None


def _read_meta(store: Store, name: str) -> dict[str, Any]:
    try:
        meta = read_json(store, name)
        if len(meta["shape"]) < 2 or any(type(n) is not int or not 0 <= n < 1 << 53 for n in meta["shape"]):
            raise ValueError("an array of other axes")
    except (ValueError, KeyError, TypeError) as error:
        raise bad_object(f"'{name}' does not describe an array: {error}", store.where(name)) from error
    return meta


def _strange(
    described: Mapping[str, Any], essential: Sequence[str], optional: Mapping[str, Any]
) -> str | None:
    """A field at which another reader would stop, or read otherwise; None where there is none."""
    for name, value in described.items():
        if name == "attributes" and isinstance(value, dict):
            continue
        if name not in essential and (name not in optional or value != optional[name]):
            return name
    return None


def _strange_text(name: str, field: str | None) -> str | None:
    return None if field is None else f"'{name}' has '{field}', at which other readers stop or read otherwise"


def _differences(described: Mapping[str, Any], wanted: Mapping[str, Any]) -> set[str]:
    """What a reader of the array would do otherwise; versions of zarr differ in what else they write."""
    return {key for key in _ESSENTIAL if described.get(key) != wanted.get(key)}
