"""A packed row is unpacked into the room that it was declared to take, whatever its frame says."""

import numpy as np
import pytest
from bounded_memory import bounded_memory
from numcodecs.zstd import Zstd

from kdcache.cache.errors import BadCache
from kdcache.cache.spec import PartSpec
from kdcache.cache.stores.zarr_shards import ShardRows, pack_shard, zstd_content_bytes

PART = PartSpec((1000,), "uint8", False)


def frame(num_bytes: int) -> bytes:
    packed: bytes = Zstd(level=1).encode(np.zeros(num_bytes, np.uint8))
    return packed


def shard(packed: bytes) -> ShardRows:
    """A shard whose only row is this frame, index and checksum with it."""
    claimed = PartSpec((len(packed),), "uint8", False)
    buffers = pack_shard([np.frombuffer(packed, np.uint8)], 1, claimed, zstd=False)
    return ShardRows(np.frombuffer(b"".join(buffers), np.uint8), 1, PART, True, name="rows", where="there")


def with_size(packed: bytes, num_bytes: int) -> bytes:
    """The frame with an eight byte content size, single segment."""
    old = zstd_content_bytes(packed[:18])
    assert old is not None
    flag, single = packed[4] >> 6, packed[4] >> 5 & 1
    body = 5 + (0 if single else 1) + (single, 2, 4, 8)[flag]
    return packed[:4] + bytes([0xE0]) + num_bytes.to_bytes(8, "little") + packed[body:]


@pytest.mark.parametrize("num_bytes", [1, 255, 256, 257, 65_791, 65_792, 1 << 20])
def test_the_size_that_a_frame_claims_is_what_it_holds(num_bytes: int) -> None:
    assert zstd_content_bytes(frame(num_bytes)[:18]) == num_bytes
    assert zstd_content_bytes(with_size(frame(num_bytes), num_bytes)[:18]) == num_bytes


def test_an_honest_row_comes_back() -> None:
    row = np.arange(1000, dtype=np.uint8)
    packed = Zstd(level=1).encode(row)
    assert np.array_equal(shard(packed).row(0), row)
    assert np.array_equal(shard(with_size(packed, 1000)).row(0), row)


@pytest.mark.parametrize(
    ("packed", "said"),
    [
        (with_size(frame(1000), 3_600_000_000), "claims to hold 3600000000 bytes, not 1000 bytes"),
        (with_size(frame(1000), 2**63 + 1), "claims to hold 9223372036854775809 bytes"),
        (frame(64 << 20), "claims to hold 67108864 bytes"),
        (frame(999), "claims to hold 999 bytes"),
        (b"\x28\xb5\x2f\xfd\x00\x58" + bytes(30), "claims to hold nothing"),
        (b"\x50\x2a\x4d\x18" + bytes(30), "claims to hold nothing"),
        (b"\x28\xb5\x2f\xfd", "claims to hold nothing"),
        (with_size(frame(64 << 20), 1000), "cannot be decompressed"),
        (with_size(frame(500), 1000), "cannot be decompressed"),
        (frame(1000)[:-3], "cannot be decompressed"),
    ],
    ids=[
        "gigabytes",
        "past 2^63",
        "megabytes",
        "a byte less",
        "no size",
        "skippable",
        "cut",
        "more",
        "less",
        "torn",
    ],
)
def test_a_frame_that_holds_another_row_is_refused_in_the_memory_of_the_row(packed: bytes, said: str) -> None:
    rows = shard(packed)
    with bounded_memory(32 << 20), pytest.raises(BadCache, match=said) as caught:
        rows.row(0)
    assert "row 0 of 'rows'" in caught.value.what and caught.value.where == "there"
