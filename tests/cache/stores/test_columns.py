"""Columns: any reader of safetensors opens them, and what is not of its type, shape or rows is refused."""

import json
import struct
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load, save

from kdcache.cache.stores.columns import column, pack_columns, read_columns, text_column

NUMBERS = np.arange(6, dtype=np.int32).reshape(3, 2)


def packed(name: str, dtype: str, shape: list[int], num_bytes: int) -> bytes:
    """A file with one array, written by hand."""
    header = json.dumps({name: {"dtype": dtype, "shape": shape, "data_offsets": [0, num_bytes]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(num_bytes)


def test_columns_are_what_plain_safetensors_reads() -> None:
    arrays = load(pack_columns({"keys": ["a", "", "\u00e9"], "numbers": NUMBERS}))
    assert sorted(arrays) == ["keys.ends", "keys.text", "numbers"]
    assert arrays["keys.text"].tobytes() == "a\u00e9".encode() and arrays["keys.ends"].tolist() == [1, 1, 3]
    assert np.array_equal(arrays["numbers"], NUMBERS) and arrays["numbers"].dtype == np.int32


def test_equal_columns_are_equal_bytes_whatever_their_order_and_their_place_in_memory() -> None:
    first = pack_columns({"a": NUMBERS, "b": ["x"]})
    strided = np.repeat(NUMBERS, 2, axis=1)[:, ::2]
    assert not strided.flags.c_contiguous
    assert pack_columns({"b": ["x"], "a": strided}) == first


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=5), max_size=6))
def test_texts_come_back_as_they_were(texts: list[str]) -> None:
    assert text_column(read_columns(pack_columns({"keys": texts})), "keys", len(texts)) == texts


def test_a_column_comes_back_with_its_type_and_shape() -> None:
    arrays = read_columns(memoryview(pack_columns({"numbers": NUMBERS})))
    assert np.array_equal(column(arrays, "numbers", "int32", (3, 2)), NUMBERS)


@pytest.mark.parametrize(
    ("name", "dtype", "shape", "text"),
    [
        ("numbers", "int64", (3, 2), r"column 'numbers' is int32\[3, 2\], not int64\[3, 2\]"),
        ("numbers", "uint32", (3, 2), r"is int32\[3, 2\], not uint32\[3, 2\]"),
        ("numbers", "int32", (2, 3), r"is int32\[3, 2\], not int32\[2, 3\]"),
        ("numbers", "int32", (6,), r"is int32\[3, 2\], not int32\[6\]"),
        ("number", "int32", (3, 2), r"column 'number' is absent, not int32\[3, 2\]"),
    ],
)
def test_a_column_of_another_type_or_shape_is_refused(
    name: str, dtype: str, shape: tuple[int, ...], text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        column(read_columns(pack_columns({"numbers": NUMBERS})), name, dtype, shape)


ENDS = np.array([1, 3], dtype=np.int64)
TEXT = np.frombuffer(b"abc", dtype=np.uint8)


@pytest.mark.parametrize(
    "change",
    [
        {"k.ends": ENDS.astype(np.int32)},
        {"k.ends": ENDS[:1]},
        {"k.ends": ENDS[::-1].copy()},  # falls: the second text would be cut out of the first
        {"k.ends": np.array([-1, 3])},
        {"k.ends": np.array([1, 4])},  # beyond the text
        {"k.ends": np.array([1, 2])},  # some text is nobody's
        {"k.text": TEXT.astype(np.int8)},
        {"k.text": TEXT.reshape(1, 3)},
        {"k.text": np.frombuffer(b"\xff\xfe\xfd", dtype=np.uint8)},  # no UTF-8
        {"k.text": np.frombuffer("\u00e9c".encode(), dtype=np.uint8)},  # an end in the middle of a letter
    ],
)
def test_a_text_whose_ends_do_not_fit_is_refused(change: Mapping[str, np.ndarray]) -> None:
    arrays = {"k.text": TEXT, "k.ends": ENDS}
    assert text_column(arrays, "k", 2) == ["a", "bc"]
    with pytest.raises(ValueError):
        text_column(arrays | change, "k", 2)


@pytest.mark.parametrize("missing", ["k.text", "k.ends"])
def test_half_a_text_is_refused(missing: str) -> None:
    arrays = {"k.text": TEXT, "k.ends": ENDS}
    del arrays[missing]
    with pytest.raises(ValueError, match="column 'k"):
        text_column(arrays, "k", 2)


WHOLE = save({"a": NUMBERS})


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nothing",
        WHOLE[:-1],
        WHOLE[:20],
        WHOLE + b"\0",
        struct.pack("<Q", 1 << 60) + WHOLE[8:],  # a header of an exabyte is not allocated
        WHOLE.replace(b"I32", b"I99"),
        WHOLE.replace(b"[3,2]", b"[3,9]"),
        packed("a", "BF16", [2], 4),  # nothing that numpy has
        packed("a", "F8_E5M2", [2], 2),
        packed("a", "I32", [1 << 62, 1 << 62], 4),
    ],
)
def test_bytes_that_are_no_such_file_are_refused(content: bytes) -> None:
    with pytest.raises(ValueError):
        read_columns(content)


def test_no_flipped_bit_of_a_file_is_more_than_an_error() -> None:
    """Digests tell that it happened; what reads before or without them must not crash."""
    for place in range(len(WHOLE)):
        for bit in range(8):
            changed = bytearray(WHOLE)
            changed[place] ^= 1 << bit
            try:
                column(read_columns(bytes(changed)), "a", "int32", (3, 2))
            except ValueError:
                continue
