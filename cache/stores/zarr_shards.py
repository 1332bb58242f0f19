"""Whole zarr v3 shards, written and read without zarr-python.

A shard file (sharding codec, index at its end):

    chunk | chunk | ... | index: chunks of a shard x (offset u64, bytes u64) | crc32c of the index

All little endian. An inner chunk is one row of a map; of a vector, which may be smaller than its 16 bytes of
index, it is many rows (`chunk_rows`). A slot of the index whose offset and size are both 2^64-1 holds no row
and reads as the fill value. A chunk of many rows that holds any is whole, with the fill value in the others:
which rows are there is then the word of the shard's columns.

Reading maps the file once and checks the index once; a row is then a view of the map: less than a
microsecond, where zarr-python needs 1.2 ms, and many rows are one gather (`EvenRows`). Layout:
https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/index.html (version 1.0).
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, cast

import google_crc32c
import numpy as np

from kdcache.cache.spec import VECTOR, PartSpec, ceil_div
from kdcache.cache.stores.contract import Buffer, TargetLayout, bad_object
from kdcache.cache.stores.even_rows import EvenRows, Slots

ABSENT = 2**64 - 1
ZSTD_LEVEL = 1  # level 3 is never smaller on features and writes 1.7 times slower (measured)
SLOT_BYTES = 16
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
CRC_BYTES = 4
# A chunk of vectors: its index costs 0.4 % of 4 KiB, a row out of a compressed one a few microseconds; no
# more than 1 MiB where no number of rows in between divides a shard.
VECTOR_BYTES, MOST_CHUNK_BYTES = 1 << 12, 1 << 20


def chunk_rows(layout: TargetLayout, size_key: str, part: PartSpec) -> int:
    """How many rows share an inner chunk. Maps, and what is stored beside them, have one each: an array of
    one map size holds few of a block's rows, and chunks of many would be filled up with nothing."""
    if size_key != VECTOR or not layout.vector_bytes:
        return 1
    return _rows_of_chunk(layout.shard_samples, part.num_bytes, layout.vector_bytes)


@cache
def _rows_of_chunk(shard_samples: int, row_bytes: int, least_bytes: int) -> int:
    """The fewest rows, of those that divide a shard, that have `least_bytes`; else the most."""
    divisors = [n for n in range(1, shard_samples + 1) if shard_samples % n == 0]
    fitting = [n for n in divisors if n * row_bytes <= MOST_CHUNK_BYTES] or [1]
    return next((n for n in fitting if n * row_bytes >= least_bytes), fitting[-1])


def fill_of(part: PartSpec) -> float:
    """What a row that was never written reads as: NaN, or 0 where the type has none."""
    return 0 if np.dtype(part.dtype).kind in "iub" else float("nan")


def pack_shard(
    rows: Sequence[np.ndarray | None], shard_samples: int, part: PartSpec, zstd: bool, chunk_rows: int = 1
) -> list[Buffer]:
    """The buffers of one shard file, in order, without joining them: raw rows are passed on uncopied where
    each is a chunk.

    Fewer rows than `shard_samples` (the last block) leave the other slots absent, like rows that are None.
    """
    assert len(rows) <= shard_samples, f"{len(rows)} rows for a shard of {shard_samples}"
    compress = _compressor() if zstd else None
    slots = np.full((shard_samples // chunk_rows, 2), ABSENT, dtype="<u8")
    buffers: list[Buffer] = []
    offset = 0
    for place in range(ceil_div(len(rows), chunk_rows)):
        raw = _raw_chunk(rows[place * chunk_rows : (place + 1) * chunk_rows], chunk_rows, part)
        if raw is None:
            continue
        buffer = compress(raw) if compress else raw
        slots[place] = offset, len(buffer)
        offset += len(buffer)
        buffers.append(buffer)
    index = slots.tobytes()
    return [*buffers, index, _crc(index)]


def _raw_chunk(rows: Sequence[np.ndarray | None], chunk_rows: int, part: PartSpec) -> memoryview | None:
    """One chunk's bytes, the fill value where it has no row; None where it has none at all."""
    if all(row is None for row in rows):
        return None
    if chunk_rows == 1 and rows[0] is not None:
        return raw_row(rows[0], part)
    chunk = np.full((chunk_rows, *part.shape), fill_of(part), dtype=part.dtype)
    for place, row in enumerate(rows):
        if row is not None:
            chunk[place].reshape(-1).view(np.uint8)[:] = raw_row(row, part)
    return chunk.reshape(-1).view(np.uint8).data


def raw_row(row: np.ndarray, part: PartSpec) -> memoryview:
    """One row's bytes without a copy where it is contiguous. Shape and type must be the part's."""
    assert row.shape == part.shape and row.dtype == part.dtype, f"{row.dtype}{row.shape} is not {part}"
    return np.ascontiguousarray(row).reshape(-1).view(np.uint8).data


class ShardRows:
    """The rows of one mapped shard file. `present` says, per place, whether there is a row."""

    def __init__(
        self,
        buffer: np.ndarray,
        shard_samples: int,
        part: PartSpec,
        zstd: bool,
        chunk_rows: int = 1,
        valid: np.ndarray | None = None,
        *,
        name: str = "shard",
        where: str = "",
    ) -> None:
        """`buffer` is the file, 1-D uint8; `valid`, (rows,) bool, says which rows of a chunk are there.
        Raises BadCache, naming the file, for any damage of the index."""
        self.name, self.where = name, where or name
        self._buffer, self._chunk_rows = buffer, chunk_rows
        self._shape, self._dtype = (chunk_rows, *part.shape), np.dtype(part.dtype)
        self._chunk_bytes = chunk_rows * part.num_bytes
        self._decompress = _decompressor() if zstd else None
        num_slots = shard_samples // chunk_rows
        offsets, sizes = _read_index(buffer, num_slots, name, self.where)
        self._check_slots(offsets, sizes, buffer.size - num_slots * SLOT_BYTES - CRC_BYTES)
        self._offsets, self._sizes = offsets, sizes
        self.present = np.repeat(offsets >= 0, chunk_rows)
        if valid is not None and chunk_rows > 1:
            self.present[: len(valid)] &= valid
            self.present[len(valid) :] = False
        self._whole = bool(self.present.all())
        inside = np.tile(np.arange(chunk_rows) * part.num_bytes, num_slots)
        of_rows = np.where(self.present, np.repeat(offsets, chunk_rows) + inside, -1)
        self._even = None if zstd else EvenRows(buffer, of_rows, part)

    def row(self, index: int) -> np.ndarray:
        """The row at place `index`: a read-only view of the map, or a decompressed copy. Raises BadCache if
        absent."""
        if not self.present[index]:
            raise bad_object(f"row {index} is not in '{self.name}'", self.where)
        if self._even is not None:
            return self._even.row(index)
        chunk, place = divmod(index, self._chunk_rows)
        row: np.ndarray = self._decompressed(chunk)[place]
        return row

    def gather(self, places: np.ndarray, out: np.ndarray, slots: Slots) -> None:
        """Copy the rows at these places of the shard into these rows of `out`. Raises BadCache if one is
        absent."""
        if not self._whole and not (here := self.present[places]).all():
            self.row(int(places[~here][0]))  # raises
        if self._even is not None:
            self._even.copy(places, out, slots)
            return
        chunks, inside = np.divmod(places, self._chunk_rows)
        targets = np.arange(len(out))[slots]
        for chunk in dict.fromkeys(chunks.tolist()):
            asked = chunks == chunk
            out[targets[asked]] = self._decompressed(chunk)[inside[asked]]

    def _decompressed(self, chunk: int) -> np.ndarray:
        """The rows of one chunk, read-only."""
        assert self._decompress is not None
        offset = int(self._offsets[chunk])
        packed = self._buffer[offset : offset + int(self._sizes[chunk])]
        claimed = zstd_content_bytes(packed[:18].tobytes())
        if claimed != self._chunk_bytes:  # its own word is what the library would make room for
            said = "nothing" if claimed is None else f"{claimed} bytes"
            wanted = f"{said}, not {self._chunk_bytes} bytes"
            raise bad_object(f"{self._rows_of(chunk)} of '{self.name}' claims to hold {wanted}", self.where)
        raw = np.empty(self._chunk_bytes, dtype=np.uint8)
        try:
            self._decompress(packed, raw)
        except (RuntimeError, ValueError, MemoryError) as error:
            raise bad_object(
                f"{self._rows_of(chunk)} of '{self.name}' cannot be decompressed: {error}", self.where
            ) from error
        raw.setflags(write=False)
        return np.ndarray(self._shape, self._dtype, raw.data)

    def _check_slots(self, offsets: np.ndarray, sizes: np.ndarray, num_bytes: int) -> None:
        here = offsets >= 0
        # Absent means both numbers are; every other offset beyond 2^63 is negative here and caught as damage.
        good = np.where(
            here, (sizes >= 0) & (offsets <= num_bytes) & (sizes <= num_bytes - offsets), sizes == -1
        )
        good &= here | (offsets == -1)
        if self._decompress is None:
            good &= ~here | (sizes == self._chunk_bytes)
            # An unaligned float would still read, but slowly; our rows and zarr's start at whole elements.
            good &= ~here | (offsets % self._dtype.itemsize == 0)
        if not good.all():
            bad = int(np.flatnonzero(~good)[0])
            span = f"{sizes[bad]} bytes at {offsets[bad]} of {num_bytes}"
            raise bad_object(
                f"'{self.name}' is corrupt: its index puts {self._rows_of(bad)} at {span}", self.where
            )

    def _rows_of(self, chunk: int) -> str:
        """'row 2', or of many 'the chunk of rows 8 to 11'."""
        first, last = chunk * self._chunk_rows, (chunk + 1) * self._chunk_rows - 1
        return f"row {first}" if first == last else f"the chunk of rows {first} to {last}"


def zstd_content_bytes(head: bytes) -> int | None:
    """The bytes that a zstd frame says it holds; None for one that does not say, and for what is no frame.
    RFC 8878, 3.1.1.1: magic, descriptor, window unless it is a single segment, dictionary, content size."""
    if len(head) < 6 or not head.startswith(_ZSTD_MAGIC):
        return None
    descriptor = head[4]
    flag, single, dictionary = descriptor >> 6, descriptor >> 5 & 1, (0, 1, 2, 4)[descriptor & 3]
    num_bytes = (single, 2, 4, 8)[flag]
    start = 5 + (0 if single else 1) + dictionary
    if not num_bytes or len(head) < start + num_bytes:
        return None
    return int.from_bytes(head[start : start + num_bytes], "little") + (256 if flag == 1 else 0)


def _read_index(buffer: np.ndarray, num_slots: int, name: str, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Offsets and sizes as int64 (-1 = absent), after the checksum has been compared."""
    footer = num_slots * SLOT_BYTES + CRC_BYTES
    if buffer.size < footer:
        raise bad_object(f"'{name}' is too short: {buffer.size} bytes, its index alone takes {footer}", where)
    index = buffer[-footer:-CRC_BYTES].tobytes()
    stored, computed = buffer[-CRC_BYTES:].tobytes(), _crc(index)
    if stored != computed:
        raise bad_object(
            f"'{name}' is truncated or corrupt: checksum of its index differs "
            f"(stored {stored[::-1].hex()}, found {computed[::-1].hex()})",
            where,
        )
    slots = np.frombuffer(index, dtype="<i8").reshape(num_slots, 2)
    return np.ascontiguousarray(slots[:, 0]), np.ascontiguousarray(slots[:, 1])


def _crc(index: bytes) -> bytes:
    return int(google_crc32c.value(index)).to_bytes(CRC_BYTES, "little")


def _compressor() -> Callable[[memoryview], bytes]:
    # Imported here: reading a raw cache then loads no compression library at all.
    from numcodecs.zstd import Zstd

    return cast(Callable[[memoryview], bytes], Zstd(level=ZSTD_LEVEL).encode)


def _decompressor() -> Callable[[np.ndarray, np.ndarray], Any]:
    from numcodecs.zstd import Zstd

    return cast(Callable[[np.ndarray, np.ndarray], Any], Zstd().decode)
