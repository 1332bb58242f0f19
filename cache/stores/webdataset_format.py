"""Targets as raw members of tars, for media that are only ever read from front to back.

One tar per (block, view, pass of the teacher), `targets/<teacher>/<block>-v<view>-<pass>.tar`. The member of
sample 12, view 3, tap 'stage4', part 'values' is `00000012.v003.stage4.values.bin`: the part's numbers,
little endian, nothing else. WebDataset groups them by the digits before the first dot, so dots of a tap's
name become '-'. The index `...idx.json` beside it names each member's type, shape and offset: with it rows
are views of the mapped tar, as in zarr.
"""

from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np

from kdcache.cache.errors import BadOption
from kdcache.cache.spec import PartSpec, RowParts, TensorSpec
from kdcache.cache.stores.contract import Buffer, ShardKey, Store, TargetLayout, bad_object
from kdcache.cache.stores.even_rows import EvenRows, Slots
from kdcache.cache.stores.json_object import json_bytes, read_bytes
from kdcache.cache.stores.tar_pack import pack_tar
from kdcache.cache.stores.zarr_shards import raw_row

FORMAT = 1
NOT_HERE = -1  # offset of a row without targets
# Of an index: as every row with fifty targets takes, and of what one tap says of one row.
FREE_BYTES, BYTES_OF_ROW, MOST_BYTES, BYTES_OF_ENTRY = 1 << 20, 4096, 32 << 20, 32

Offset = Annotated[int, msgspec.Meta(ge=NOT_HERE, lt=1 << 62)]


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
        self._name, self._where = name, where
        for part in parts:
            places = offsets[part]
            if places.size and int(places.max()) + parts[part].num_bytes > tar.size:
                raise bad_object(f"'{name}' is truncated: {tar.size} bytes, its index needs more", where)
            if (places[places >= 0] % np.dtype(parts[part].dtype).itemsize).any():
                raise bad_object(f"'{name}' is corrupt: its index points between two numbers", where)
        self._rows = {part: EvenRows(tar, offsets[part], spec) for part, spec in parts.items()}

    def row(self, index: int, part: str) -> np.ndarray:
        """A read-only view of the mapped tar. Raises BadCache when the row is not there."""
        rows = self._rows[part]
        if index >= len(rows.ranks) or rows.ranks[index] < 0:
            raise bad_object(f"row {index} is not in '{self._name}'", self._where)
        return rows.row(index)

    def gather(self, places: np.ndarray, part: str, out: np.ndarray, slots: Slots) -> None:
        rows = self._rows[part]
        here = places < len(rows.ranks)
        here[here] = rows.ranks[places[here]] >= 0
        if not here.all():
            self.row(int(places[~here][0]), part)  # raises
        rows.copy(places, out, slots)


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
        self,
        store: Store,
        layout: TargetLayout,
        shard: ShardKey,
        *,
        tap: str,
        size_key: str,
        valid: np.ndarray | None = None,
    ) -> TarBlock:
        del valid  # the index says it of each row
        name = tar_name(layout.teacher, shard)
        parts = layout.taps[tap].parts[size_key]
        offsets = _read_offsets(store, _index_of(name), tap, size_key, parts, layout.shard_samples)
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


class _Index(msgspec.Struct):
    """Of an index what every tap has; what one tap says of its rows is decoded when it is asked for."""

    format: int
    sizes: dict[str, msgspec.Raw]
    offsets: dict[str, msgspec.Raw]
    parts: dict[str, msgspec.Raw]


class _Part(msgspec.Struct):
    shape: tuple[int, ...]
    dtype: str


def _read_offsets(
    store: Store, name: str, tap: str, size_key: str, parts: Mapping[str, PartSpec], shard_samples: int
) -> dict[str, np.ndarray]:
    """Offsets per part and row, NOT_HERE where a row has another size. Raises BadCache for disagreement."""
    content = read_bytes(store, name, min(MOST_BYTES, FREE_BYTES + BYTES_OF_ROW * shard_samples))
    try:
        index = msgspec.json.decode(content, type=_Index)
        if index.format != FORMAT:
            raise ValueError(f"format {index.format}, this kdcache reads {FORMAT}")
        described = _decoded(index.parts, tap, dict[str, dict[str, _Part]], FREE_BYTES)
        written = {part: (one.shape, one.dtype) for part, one in described.get(size_key, {}).items()}
        wanted = {part: (tuple(spec.shape), spec.dtype) for part, spec in parts.items()}
        if written != wanted:
            raise ValueError(f"'{tap}' at {size_key} is {written or 'absent'}, the manifest says {wanted}")
        most = 1024 + BYTES_OF_ENTRY * shard_samples
        sizes = _decoded(index.sizes, tap, list[str], most)
        columns = _decoded(index.offsets, tap, dict[str, list[Offset]], most * len(parts))
        if any(len(columns[part]) != len(sizes) for part in parts) or len(sizes) > shard_samples:
            raise ValueError(f"'{tap}' has not one size and one offset for each of its rows")
        here = np.asarray([size == size_key for size in sizes], dtype=bool)
        return {part: np.where(here, np.asarray(columns[part], dtype=np.int64), NOT_HERE) for part in parts}
    except KeyError as error:
        raise bad_object(f"'{name}' cannot be read: it lacks {error}", store.where(name)) from error
    except (ValueError, RecursionError) as error:
        raise bad_object(f"'{name}' cannot be read: {error}", store.where(name)) from error


def _decoded(column: Mapping[str, msgspec.Raw], tap: str, kind: Any, most: int) -> Any:
    """What an index says of one tap. Raises KeyError, or ValueError for another type or too much of it."""
    if len(content := bytes(column[tap])) > most:
        raise ValueError(f"it says {len(content)} bytes of '{tap}', at most {most} are read")
    return msgspec.json.decode(content, type=kind)
