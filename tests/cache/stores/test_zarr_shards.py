"""Our shard reader and writer against zarr-python: each reads exactly what the other wrote."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import google_crc32c
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcache.cache.errors import BadCache
from kdcache.cache.spec import PartSpec
from kdcache.cache.stores.contract import ShardKey, TargetLayout
from kdcache.cache.stores.local import LocalStore
from kdcache.cache.stores.zarr_format import describe_array, shard_name
from kdcache.cache.stores.zarr_shards import (
    ABSENT,
    VECTOR_BYTES,
    ShardRows,
    _rows_of_chunk,
    chunk_rows,
    pack_shard,
)

Rows = list[np.ndarray | None]
DTYPES = ("uint8", "float16", "float32")


def draw_rows(part: PartSpec, present: list[bool], seed: int = 0) -> Rows:
    generator = np.random.default_rng(seed)
    return [generator.integers(0, 255, part.shape).astype(part.dtype) if here else None for here in present]


def fill(part: PartSpec) -> np.ndarray:
    return np.full(part.shape, 0 if part.dtype == "uint8" else np.nan, part.dtype)


def file_of(
    rows: Rows, shard_samples: int, part: PartSpec, zstd: bool = False, chunk_rows: int = 1
) -> np.ndarray:
    return np.frombuffer(b"".join(pack_shard(rows, shard_samples, part, zstd, chunk_rows)), dtype=np.uint8)


class Drawn(NamedTuple):
    """A shard: the rows that are there may be fewer than its places."""

    part: PartSpec
    slots: int
    present: list[bool]
    zstd: bool
    chunk_rows: int


@st.composite
def shards(draw: st.DrawFn) -> Drawn:
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    chunk_rows = draw(st.sampled_from((1, 2, 3)))
    slots = chunk_rows * draw(st.integers(1, 6 // chunk_rows))
    present = draw(st.lists(st.booleans(), min_size=1, max_size=slots))
    part = PartSpec(shape, draw(st.sampled_from(DTYPES)), len(shape) == 3)
    return Drawn(part, slots, present, draw(st.booleans()), chunk_rows)


@settings(deadline=None, max_examples=50)
@given(shard=shards())
def test_zarr_python_reads_what_we_write(tmp_path_factory: pytest.TempPathFactory, shard: Drawn) -> None:
    part, slots, present, zstd, chunk_rows = shard
    root = tmp_path_factory.mktemp("zarr")
    store, rows = LocalStore(root), draw_rows(part, present)
    num_samples = slots + len(present)  # block 1 is the last one and may be short
    describe_array(
        store, "t.zarr/a", num_views=2, num_samples=num_samples, shard_samples=slots, part=part, zstd=zstd,
        chunk_rows=chunk_rows,
    )  # fmt: skip
    buffers = pack_shard(rows, slots, part, zstd, chunk_rows)
    store.put(shard_name("t.zarr/a", ShardKey(1, 1), part), buffers)
    array = zarr.open_array(root / "t.zarr/a", mode="r")
    expected = np.stack([fill(part) if row is None else row for row in rows])
    np.testing.assert_array_equal(array[1, slots:], expected)
    assert array.dtype == part.dtype
    np.testing.assert_array_equal(array[0], np.broadcast_to(fill(part), (num_samples, *part.shape)))


@settings(deadline=None, max_examples=50)
@given(shard=shards())
def test_we_read_what_zarr_python_writes(tmp_path_factory: pytest.TempPathFactory, shard: Drawn) -> None:
    part, slots, present, zstd, chunk_rows = shard
    root = tmp_path_factory.mktemp("zarr")
    store, rows = LocalStore(root), draw_rows(part, present)
    describe_array(
        store, "a", num_views=1, num_samples=slots, shard_samples=slots, part=part, zstd=zstd,
        chunk_rows=chunk_rows,
    )  # fmt: skip
    # zarr-python leaves rows out that equal the fill value unless it is told not to.
    array = zarr.open_array(root / "a", mode="r+", config={"write_empty_chunks": True})
    for place, row in enumerate(rows):
        if row is not None:
            array[0, place] = row
    if not any(present):
        return
    file = store.open_map(shard_name("a", ShardKey(0, 0), part))
    ours = ShardRows(file, slots, part, zstd, chunk_rows, np.array(present))
    for place, row in enumerate(rows):
        assert bool(ours.present[place]) == (row is not None)
        if row is not None:
            np.testing.assert_array_equal(ours.row(place), row)
            assert ours.row(place).dtype == part.dtype


@settings(deadline=None, max_examples=100)
@given(shard=shards(), data=st.data())
def test_rows_that_are_gathered_are_the_rows_one_by_one(shard: Drawn, data: st.DataObject) -> None:
    part, slots, present, zstd, chunk_rows = shard
    rows = draw_rows(part, present)
    file = file_of(rows, slots, part, zstd, chunk_rows)
    ours = ShardRows(file, slots, part, zstd, chunk_rows, np.array(present))
    there = [place for place, here in enumerate(present) if here] or [0]
    places = np.array(data.draw(st.lists(st.sampled_from(there), min_size=1, max_size=9)))
    out = np.full((len(places) + 2, *part.shape), 99, part.dtype)
    some = slice(1, len(places) + 1) if data.draw(st.booleans()) else np.arange(len(places))[::-1] + 1
    if not any(present):
        with pytest.raises(BadCache, match="row 0 is not in"):
            ours.gather(places, out, some)
        return
    ours.gather(places, out, some)
    np.testing.assert_array_equal(out[some], [rows[place] for place in places])
    assert (out[0] == 99).all() and (out[-1] == 99).all(), "rows of others are left alone"


def test_a_row_of_a_chunk_with_others_is_there_only_where_the_shard_says_so() -> None:
    part, valid = PartSpec((3,), "float32", False), np.array([True, False, True, False, True])
    for zstd in (False, True):
        file = file_of(draw_rows(part, valid.tolist()), 8, part, zstd, 2)
        rows = ShardRows(file, 8, part, zstd, 2, valid, name="c/0/1")
        assert rows.present.tolist() == [True, False, True, False, True, *[False] * 3]
        for absent in (1, 3, 5, 6, 7):
            with pytest.raises(BadCache, match=f"row {absent} is not in 'c/0/1'"):
                rows.row(absent)
            with pytest.raises(BadCache, match=f"row {absent} is not in 'c/0/1'"):
                rows.gather(np.array([0, absent]), np.zeros((2, 3), np.float32), slice(0, 2))


@pytest.mark.parametrize(
    ("shard_samples", "row_bytes", "wanted"),
    [
        (4096, 20, 256),
        (367, 20, 367),
        (8, 20, 8),
        (4096, 4096, 1),
        (4096, 2000, 4),
        (4093, 3000, 1),
        (1, 20, 1),
    ],
)
def test_a_chunk_of_vectors_divides_its_shard_and_is_neither_small_nor_large(
    shard_samples: int, row_bytes: int, wanted: int
) -> None:
    part = PartSpec((row_bytes,), "uint8", False)
    described = TargetLayout(
        teacher="t", num_views=1, num_samples=9, shard_samples=shard_samples, zstd=False, taps={},
        vector_bytes=VECTOR_BYTES,
    )  # fmt: skip
    assert chunk_rows(described, "vector", part) == wanted and shard_samples % wanted == 0
    assert chunk_rows(described, "2x3", part) == 1, "a map has few rows of its size in a block"
    assert chunk_rows(replace(described, vector_bytes=0), "vector", part) == 1, "as it was before"


def test_vectors_of_ten_numbers_take_hardly_more_than_their_bytes() -> None:
    part = PartSpec((10,), "float16", False)
    for slots, there in ((4096, 4096), (4096, 1000), (2000, 2000), (367, 367)):
        file = file_of(
            draw_rows(part, [True] * there), slots, part, False, _rows_of_chunk(slots, 20, VECTOR_BYTES)
        )
        assert file.size <= 1.1 * there * part.num_bytes + (VECTOR_BYTES if there < slots else 0)


@pytest.mark.parametrize("zstd", [False, True])
def test_a_row_that_is_not_there_is_an_error_not_zeros(zstd: bool) -> None:
    part = PartSpec((2, 3), "float32", False)
    rows = ShardRows(file_of(draw_rows(part, [True, False]), 4, part, zstd), 4, part, zstd, name="c/0/1")
    assert rows.present.tolist() == [True, False, False, False]
    for absent in (1, 2, 3):
        with pytest.raises(BadCache, match=f"row {absent} is not in 'c/0/1'"):
            rows.row(absent)


def test_raw_rows_are_views_of_the_file_and_cannot_be_written_to(tmp_path: Path) -> None:
    part = PartSpec((4, 5, 3), "uint8", True)
    LocalStore(tmp_path).put("s", pack_shard(draw_rows(part, [True] * 3), 3, part, False))
    mapped = LocalStore(tmp_path).open_map("s")
    row = ShardRows(mapped, 3, part, False).row(2)
    assert np.shares_memory(row, mapped) and not row.flags.writeable
    assert row.flags.c_contiguous and row.flags.aligned


def test_raw_rows_are_packed_without_copying_them() -> None:
    part = PartSpec((4, 5, 3), "float16", True)
    rows = draw_rows(part, [True, True])
    buffers = pack_shard(rows, 2, part, False)
    for row, buffer in zip(rows, buffers, strict=False):
        assert row is not None and np.shares_memory(row, np.frombuffer(buffer, np.uint8))


def test_a_row_cut_out_of_a_larger_array_is_packed_with_its_own_numbers() -> None:
    part = PartSpec((2, 3), "uint8", False)
    whole = np.arange(24, dtype=np.uint8).reshape(4, 6)
    rows = ShardRows(file_of([whole[1:3, ::2]], 1, part), 1, part, False)
    np.testing.assert_array_equal(rows.row(0), whole[1:3, ::2])


@pytest.mark.parametrize("row", [np.zeros((2, 3), np.float64), np.zeros((3, 2), np.float32)])
def test_a_row_of_another_type_or_shape_is_our_own_mistake(row: np.ndarray) -> None:
    with pytest.raises(AssertionError, match="is not PartSpec"):
        pack_shard([row], 1, PartSpec((2, 3), "float32", False), False)


class TestDamage:
    part = PartSpec((2, 3), "float32", False)

    def damaged(self, file: np.ndarray, zstd: bool = False) -> BadCache:
        with pytest.raises(BadCache) as caught:
            rows = ShardRows(file, 4, self.part, zstd, name="values/c/0/7")
            [rows.row(i) for i in range(4)]
        assert "values/c/0/7" in str(caught.value)
        assert "kdcache build --repair" in caught.value.fix
        return caught.value

    def whole(self, zstd: bool = False) -> np.ndarray:
        return file_of(draw_rows(self.part, [True] * 4), 4, self.part, zstd).copy()

    def resealed(self, slots: list[tuple[int, int]]) -> np.ndarray:
        """A file whose index says `slots` under a checksum that agrees: damage the checksum cannot see."""
        index = np.array(slots, dtype="<u8").tobytes()
        end = google_crc32c.value(index).to_bytes(4, "little")
        return np.frombuffer(self.whole()[:96].tobytes() + index + end, np.uint8)

    @pytest.mark.parametrize("length", [0, 1, 67, 68, 90, 163])
    def test_a_truncated_file_is_refused(self, length: int) -> None:
        error = self.damaged(self.whole()[:length])
        assert "too short" in error.what or "truncated or corrupt" in error.what

    def test_every_flipped_bit_of_the_index_is_found(self) -> None:
        file = self.whole()
        for bit in range((len(file) - 68) * 8, len(file) * 8):
            flipped = file.copy()
            flipped[bit // 8] ^= 1 << bit % 8
            assert "checksum of its index differs" in self.damaged(flipped).what

    @pytest.mark.parametrize(
        "slot",
        [(96, 24), (80, 24), (0, 23), (2, 24), (2**63, 24), (0, ABSENT), (ABSENT, 24)],
    )
    def test_an_index_that_points_astray_is_refused(self, slot: tuple[int, int]) -> None:
        error = self.damaged(self.resealed([(0, 24), (24, 24), slot, (48, 24)]))
        assert "its index puts row 2 at" in error.what

    def test_an_index_of_another_shard_size_is_refused(self) -> None:
        with pytest.raises(BadCache):
            ShardRows(self.whole(), 3, self.part, False, name="x")

    def test_damage_of_a_chunk_names_all_of_its_rows(self) -> None:
        file = file_of(draw_rows(self.part, [True] * 4), 4, self.part, True, 2).copy()
        file[:4] = 0
        rows = ShardRows(file, 4, self.part, True, 2, name="x")
        with pytest.raises(
            BadCache, match="the chunk of rows 0 to 1 of 'x' claims to hold nothing, not 48 bytes"
        ):
            rows.row(1)

    def test_compressed_rows_that_are_damaged_are_refused(self) -> None:
        file = self.whole(zstd=True)
        file[:4] = 0
        assert (
            "row 0 of 'values/c/0/7' claims to hold nothing, not 24 bytes"
            in self.damaged(file, zstd=True).what
        )

    def test_a_compressed_row_of_another_length_is_refused(self) -> None:
        shorter = PartSpec((2, 2), "float32", False)
        file = file_of(draw_rows(shorter, [True] * 4), 4, shorter, True)
        assert "claims to hold 16 bytes, not 24" in self.damaged(file, zstd=True).what


def test_reading_raw_shards_loads_no_array_library() -> None:
    heavy = "('zarr', 'numcodecs', 'webdataset', 'torch')"
    code = (
        "import sys, numpy as np\n"
        "from kdcache.cache.spec import PartSpec\n"
        "import kdcache.cache.stores.table, kdcache.cache.stores.sample_tars\n"
        "from kdcache.cache.stores.zarr_shards import ShardRows, pack_shard\n"
        "part = PartSpec((2,), 'uint8', False)\n"
        "file = np.frombuffer(b''.join(pack_shard([np.ones(2, np.uint8)], 1, part, False)), np.uint8)\n"
        "ShardRows(file, 1, part, False).row(0)\n"
        f"sys.exit(str([m for m in {heavy} if m in sys.modules] or ''))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == "", done.stderr
