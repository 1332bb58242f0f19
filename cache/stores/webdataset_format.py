"""Targets as raw members of tars, for media that are only ever read from front to back.

One tar per (block, view, pass of the teacher), `targets/<teacher>/<block>-v<view>-<pass>.tar`. The member of
sample 12, view 3, tap 'stage4', part 'values' is `00000012.v003.stage4.values.bin`: the part's numbers,
little endian, nothing else. WebDataset groups them by the digits before the first dot, so dots of a tap's
name become '-'. The index `...idx.json` beside it names each member's type, shape and offset: with it rows
are views of the mapped tar, as in zarr.
"""

from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kdcache.cache.errors import BadOption
from kdcache.cache.spec import PartSpec, RowParts, TensorSpec
from kdcache.cache.stores.contract import Buffer, ShardKey, Store, TargetLayout, bad_object
from kdcache.cache.stores.json_object import json_bytes, read_json
from kdcache.cache.stores.tar_pack import pack_tar
from kdcache.cache.stores.zarr_shards import raw_row

FORMAT = 1
NOT_HERE = -1  # offset of a row without targets


class TarBlock:
    """One tap's rows of one shard, those of one map size."""

    def __init__(
        self,
        tar: np.ndarray,
        parts: Mapping[str, PartSpec],
        offsets: Mapping[str, np.ndarray],
        name: str,
        where: str,
    ):
        """`offsets[part]` is int64 per row, NOT_HERE where there is none. Raises BadCache when one is out of
        reach."""
        self.parts = tuple(parts)
        self._tar, self._specs, self._name = tar, dict(parts), name
        self._where = where
        self._offsets = {part: offsets[part] for part in parts}
        for part, places in self._offsets.items():
            if places.size and int(places.max()) + parts[part].num_bytes > tar.size:
                raise bad_object(f"'{name}' is truncated: {tar.size} bytes, its index needs more", where)

    def row(self, index: int, part: str) -> np.ndarray:
        """A read-only view of the mapped tar. Raises BadCache when the row is not there."""
        offset = int(self._offsets[part][index])
        if offset < 0:
            raise bad_object(f"row {index} is not in '{self._name}'", self._where)
        spec = self._specs[part]
        return np.ndarray(spec.shape, spec.dtype, self._tar, offset)


class WebdatasetFormat:
    """Sequential tars with raw members; one more pass of the teacher is one more tar."""

    name = "webdataset"

    def prepare(self, store: Store, layout: TargetLayout, live: Container[str]) -> None:
        """Nothing to write: every tar describes itself. Raises BadOption for what tars cannot hold."""
        del store, live
        if layout.zstd:
            raise BadOption(
                "targets in tars are stored raw, so zstd cannot be combined with them",
                where="--format webdataset --zstd",
                fix="drop --zstd, or use --format zarr",
            )
        members: dict[str, str] = {}
        for tap in layout.taps:
            other = members.setdefault(_member_tap(tap), tap)
            if other != tap:
                raise BadOption(
                    f"taps '{other}' and '{tap}' would share the member name '{_member_tap(tap)}'",
                    where="--format webdataset",
                    fix="use --format zarr, or keep only one of them",
                )

    def problems(self, store: Store, layout: TargetLayout) -> Iterator[str]:
        """None: every tar's index is an object of its record."""
        del store, layout
        return iter(())

    def pack(
        self,
        layout: TargetLayout,
        shard: ShardKey,
        *,
        targets: Mapping[str, Sequence[RowParts | None]],
        sizes: Mapping[str, Sequence[TensorSpec | None]],
    ) -> Iterator[tuple[str, Sequence[Buffer]]]:
        """The tar, then its index."""
        members = list(_members(layout, shard, targets, sizes))
        buffers, offsets = pack_tar((member.name, member.buffer) for member in members)
        num_rows = max((len(rows) for rows in targets.values()), default=0)
        index: dict[str, Any] = {
            "format": FORMAT,
            "sizes": {
                t: [s.size_key if s and r else "" for s, r in zip(sizes[t], targets[t], strict=True)]
                for t in targets
            },
            "offsets": {t: {} for t in targets},
            "parts": {t: {} for t in targets},
        }
        for member, offset in zip(members, offsets, strict=True):
            column = index["offsets"][member.tap].setdefault(member.part, [NOT_HERE] * num_rows)
            column[member.row] = offset
            about = {"shape": list(member.spec.shape), "dtype": member.spec.dtype}
            index["parts"][member.tap].setdefault(member.size_key, {})[member.part] = about
        name = tar_name(layout.teacher, shard)
        yield name, buffers
        yield _index_of(name), [json_bytes(index)]

    def open(
        self, store: Store, layout: TargetLayout, shard: ShardKey, *, tap: str, size_key: str
    ) -> TarBlock:
        name = tar_name(layout.teacher, shard)
        parts = layout.taps[tap].parts[size_key]
        offsets = _read_offsets(store, _index_of(name), tap, size_key, parts)
        return TarBlock(store.open_map(name), parts, offsets, name, store.where(name))


class _Member(NamedTuple):
    name: str
    buffer: memoryview
    tap: str
    part: str
    row: int
    size_key: str
    spec: PartSpec


def tar_name(teacher: str, shard: ShardKey) -> str:
    return f"targets/{teacher}/{shard.block:05d}-v{shard.view:03d}-{shard.pass_id}.tar"


def _index_of(name: str) -> str:
    return f"{name.removesuffix('.tar')}.idx.json"


def _member_tap(tap: str) -> str:
    return tap.replace(".", "-")


def _members(
    layout: TargetLayout,
    shard: ShardKey,
    targets: Mapping[str, Sequence[RowParts | None]],
    sizes: Mapping[str, Sequence[TensorSpec | None]],
) -> Iterator[_Member]:
    """Row by row, so that what belongs to one sample lies together, as WebDataset's grouping requires."""
    num_rows = max((len(rows) for rows in targets.values()), default=0)
    for row in range(num_rows):
        sample = f"{shard.block * layout.shard_samples + row:08d}.v{shard.view:03d}"
        for tap, rows in targets.items():
            parts, size = rows[row], sizes[tap][row]
            if parts is None or size is None:
                continue
            for part, spec in layout.taps[tap].parts[size.size_key].items():
                name = f"{sample}.{_member_tap(tap)}.{part}.bin"
                yield _Member(name, raw_row(parts[part], spec), tap, part, row, size.size_key, spec)


def _read_offsets(
    store: Store, name: str, tap: str, size_key: str, parts: Mapping[str, PartSpec]
) -> dict[str, np.ndarray]:
    """Offsets per part and row, NOT_HERE where a row has another size. Raises BadCache for disagreement."""
    try:
        index = read_json(store, name)
        if index["format"] != FORMAT:
            raise ValueError(f"format {index['format']}, this kdcache reads {FORMAT}")
        written = index["parts"][tap].get(size_key, {})
        wanted = {part: {"shape": list(spec.shape), "dtype": spec.dtype} for part, spec in parts.items()}
        if written != wanted:
            raise ValueError(f"'{tap}' at {size_key} is {written or 'absent'}, the manifest says {wanted}")
        here = np.asarray([size == size_key for size in index["sizes"][tap]], dtype=bool)
        columns = index["offsets"][tap]
        return {part: np.where(here, np.asarray(columns[part], dtype=np.int64), NOT_HERE) for part in parts}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise bad_object(f"'{name}' cannot be read: {error}", store.where(name)) from error
