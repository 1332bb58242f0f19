"""Pickles that cost more than their bytes are refused; honest ones of every protocol pass."""

import io
import pickle
from collections import OrderedDict

import pytest

from kdcache.cache.files.pickled import MAX_DEPTH, MAX_MEMO, check_pickle

HONEST = {
    "a": [1, 2, (3, 4)],
    b"b": OrderedDict(x={"y": (1, (2, (3,)))}),
    "same": ["a"] * 3,
    "none": None,
    "f": 0.5,
}


@pytest.mark.parametrize("protocol", range(6))
def test_an_honest_pickle_passes_and_the_file_stands_behind_it(protocol: int) -> None:
    file = io.BytesIO(pickle.dumps(HONEST, protocol) + b"rest")
    check_pickle(file, refused=())
    assert file.read() == b"rest"


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_names_that_take_any_memory_are_refused(protocol: int) -> None:
    with pytest.raises(ValueError, match="takes any amount of memory"):
        check_pickle(io.BytesIO(pickle.dumps(bytearray(b"a"), protocol)))


def test_bytes_that_grow_by_encoding_are_refused() -> None:
    with pytest.raises(ValueError, match="takes any amount of memory"):
        check_pickle(io.BytesIO(pickle.dumps(b"\xff\xfe", 2)))  # _codecs.encode, as protocol 2 has bytes


@pytest.mark.parametrize("copied", [b"2\x86", b"q\x01h\x01\x86"], ids=["twice", "from the memo"])
def test_tuples_of_themselves_are_refused_before_anybody_hashes_them(copied: bytes) -> None:
    chain = b"\x80\x02}" + b"K\x01" + copied * 60 + b"K\x02s."
    with pytest.raises(ValueError, match=f"more than {MAX_DEPTH} deep"):
        check_pickle(io.BytesIO(chain))
    check_pickle(io.BytesIO(b"\x80\x02}" + b"K\x01" + copied * 3 + b"K\x02s."))


def test_a_place_in_the_memo_beyond_reason_is_refused() -> None:
    with pytest.raises(ValueError, match=f"at most {MAX_MEMO} are kept"):
        check_pickle(io.BytesIO(b"\x80\x02K\x01r" + (1 << 31).to_bytes(4, "little") + b"."))


def test_what_is_no_pickle_is_refused() -> None:
    for content in (b"", b"\x80", b"nonsense", b"\x80\x02]"):
        with pytest.raises(ValueError):
            check_pickle(io.BytesIO(content))
