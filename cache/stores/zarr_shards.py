"""Whole zarr v3 shards, written and read without zarr-python.

A shard file (sharding codec, index at its end, one inner chunk per row):

    row bytes | row bytes | ... | index: shard_samples x (offset u64, bytes u64) | crc32c of the index

All little endian. A slot whose offset and size are both 2^64-1 holds no row and reads as the fill value.
Reading maps the file once and checks the index once; a row is then one `np.ndarray` over the map: about a
microsecond, where zarr-python needs 1.2 ms. Layout:
https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/index.html (version 1.0).
"""

from collections.abc import Callable, Sequence
from typing import Any, cast

import google_crc32c
import numpy as np

from kdcache.cache.spec import PartSpec
from kdcache.cache.stores.contract import Buffer, bad_object
from kdcache.cache.stores.even_rows import EvenRows, Slots

ABSENT = 2**64 - 1
ZSTD_LEVEL = 1  # level 3 is never smaller on features and writes 1.7 times slower (measured)
SLOT_BYTES = 16
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
CRC_BYTES = 4


def pack_shard(
    rows: Sequence[np.ndarray | None], shard_samples: int, part: PartSpec, zstd: bool
) -> list[Buffer]:
    """The buffers of one shard file, in order, without joining them: raw rows are passed on uncopied.

    Fewer rows than `shard_samples` (the last block) leave the other slots absent, like rows that are None.
    """
    assert len(rows) <= shard_samples, f"{len(rows)} rows for a shard of {shard_samples}"
    compress = _compressor() if zstd else None
    slots = np.full((shard_samples, 2), ABSENT, dtype="<u8")
    buffers: list[Buffer] = []
    offset = 0
    for place, row in enumerate(rows):
        if row is None:
            continue
        raw = raw_row(row, part)
        buffer = compress(raw) if compress else raw
        slots[place] = offset, len(buffer)
        offset += len(buffer)
        buffers.append(buffer)
    index = slots.tobytes()
    return [*buffers, index, _crc(index)]


def raw_row(row: np.ndarray, part: PartSpec) -> memoryview:
    """One row's bytes without a copy where it is contiguous. Shape and type must be the part's."""
    assert row.shape == part.shape and row.dtype == part.dtype, f"{row.dtype}{row.shape} is not {part}"
    return np.ascontiguousarray(row).reshape(-1).view(np.uint8).data


class ShardRows:
    """The rows of one mapped shard file. `present` says, per slot, whether there is a row."""

    def __init__(
        self,
        buffer: np.ndarray,
        shard_samples: int,
        part: PartSpec,
        zstd: bool,
        *,
        name: str = "shard",
        where: str = "",
    ) -> None:
        """`buffer` is the file, 1-D uint8. Raises BadCache, naming the file, for any damage of the index."""
        self.name, self.where = name, where or name
        self._buffer = buffer
        self._shape, self._dtype = part.shape, np.dtype(part.dtype)
        self._row_bytes = part.num_bytes
        self._decompress = _decompressor() if zstd else None
        offsets, sizes = _read_index(buffer, shard_samples, name, self.where)
        self.present = offsets >= 0
        self._check_slots(offsets, sizes, buffer.size - shard_samples * SLOT_BYTES - CRC_BYTES)
        self._offsets, self._sizes = offsets, sizes
        self._even = EvenRows(buffer, offsets, part) if self._decompress is None else None

    def row(self, index: int) -> np.ndarray:
        """The row in slot `index`: a read-only view of the map, or a decompressed copy. Raises BadCache if
        absent."""
        row = self._even.row(index) if self._even is not None else self._decompressed(index)
        if row is None:
            raise bad_object(f"row {index} is not in '{self.name}'", self.where)
        return row

    def gather(self, places: np.ndarray, out: np.ndarray, slots: Slots) -> None:
        """Copy the rows in these slots of the shard into these rows of `out`. Raises BadCache if one is
        absent."""
        if self._even is None:
            for place, target in zip(places.tolist(), np.arange(len(out))[slots].tolist(), strict=True):
                out[target] = self.row(place)
            return
        if (absent := self._even.lacking(places)) is not None:
            self.row(absent)  # raises
        self._even.copy(places, out, slots)

    def _decompressed(self, index: int) -> np.ndarray | None:
        assert self._decompress is not None
        offset = int(self._offsets[index])
        if offset < 0:
            return None
        packed = self._buffer[offset : offset + int(self._sizes[index])]
        claimed = zstd_content_bytes(packed[:18].tobytes())
        if claimed != self._row_bytes:  # its own word is what the library would make room for
            said = "nothing" if claimed is None else f"{claimed} bytes"
            raise bad_object(
                f"row {index} of '{self.name}' claims to hold {said}, not {self._row_bytes} bytes", self.where
            )
        raw = np.empty(self._row_bytes, dtype=np.uint8)
        try:
            self._decompress(packed, raw)
        except (RuntimeError, ValueError, MemoryError) as error:
            raise bad_object(
                f"row {index} of '{self.name}' cannot be decompressed: {error}", self.where
            ) from error
        raw.setflags(write=False)
        return np.ndarray(self._shape, self._dtype, raw.data)

    def _check_slots(self, offsets: np.ndarray, sizes: np.ndarray, num_bytes: int) -> None:
        here = self.present
        # Absent means both numbers are; every other offset beyond 2^63 is negative here and caught as damage.
        good = np.where(
            here, (sizes >= 0) & (offsets <= num_bytes) & (sizes <= num_bytes - offsets), sizes == -1
        )
        good &= here | (offsets == -1)
        if self._decompress is None:
            good &= ~here | (sizes == self._row_bytes)
            # An unaligned float would still read, but slowly; our rows and zarr's start at whole elements.
            good &= ~here | (offsets % self._dtype.itemsize == 0)
        if not good.all():
            bad = int(np.flatnonzero(~good)[0])
            span = f"{sizes[bad]} bytes at {offsets[bad]} of {num_bytes}"
            raise bad_object(f"'{self.name}' is corrupt: its index puts row {bad} at {span}", self.where)


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


def _read_index(
    buffer: np.ndarray, shard_samples: int, name: str, where: str
) -> tuple[np.ndarray, np.ndarray]:
    """Offsets and sizes as int64 (-1 = absent), after the checksum has been compared."""
    footer = shard_samples * SLOT_BYTES + CRC_BYTES
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
    slots = np.frombuffer(index, dtype="<i8").reshape(shard_samples, 2)
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
