"""Digests that must agree: fixed for good, because manifests and records hold them."""

import hashlib
from collections.abc import Callable

import pytest

from kdcache.cache.fingerprint import RunningDigest, canonical, digest16, digest_bytes, digest_of


def test_equal_values_have_one_byte_form() -> None:
    assert canonical({"b": [1, 2.5], "a": "\u00e4"}) == b'{"a":"\\u00e4","b":[1,2.5]}'
    assert canonical({"a": "\u00e4", "b": [1, 2.5]}) == canonical({"b": [1, 2.5], "a": "\u00e4"})


@pytest.mark.parametrize("num_hex", [8, 16, 32])
def test_a_digest_of_values_is_blake2b_of_that_form(num_hex: int) -> None:
    expected = hashlib.blake2b(b'{"a":1}', digest_size=num_hex // 2).hexdigest()
    assert digest_of({"a": 1}, num_hex) == expected and len(expected) == num_hex
    assert len(digest_of({"a": 1})) == 32


def test_a_digest_of_bytes_is_the_published_xxh3_of_128_bits() -> None:
    # Of the empty input and of 'abc': test values of the xxHash project, not of the library that is used.
    assert digest_bytes() == digest_bytes(b"") == "x3:99aa06d3014798d86001c324468d497f"
    assert digest_bytes(b"abc") == "x3:06b05ab6733a618578af5f94892f3950"


def test_a_digest_of_buffers_is_that_of_their_joined_bytes() -> None:
    assert digest_bytes(b"one", memoryview(b"two")) == digest_bytes(b"onetwo") != digest_bytes(b"twoone")
    state = RunningDigest()
    for piece in (b"o", b"", memoryview(b"netw"), b"o"):
        state.update(piece)
    assert state.text() == digest_bytes(b"onetwo")


def test_columns_hold_the_same_128_bits_as_bytes() -> None:
    assert digest16(b"one", memoryview(b"two")).hex() == digest_bytes(b"onetwo").removeprefix("x3:")
    assert len(digest16()) == 16


def test_every_bit_counts() -> None:
    content = bytearray(range(256)) * 2
    digests = {digest_bytes(content)}
    for place in range(len(content)):
        content[place] ^= 1 << place % 8
        digests.add(digest_bytes(content))
        content[place] ^= 1 << place % 8
    assert len(digests) == len(content) + 1


@pytest.mark.parametrize("digest", [digest_bytes, digest16])
def test_a_long_file_is_covered_to_its_last_byte(digest: Callable[[memoryview], object]) -> None:
    content = bytearray(3 << 20)
    digests = {digest(memoryview(content))}
    places = [*range(1 << 15, len(content), 1 << 16), len(content) - 1]
    for place in places:
        content[place] ^= 1
        digests.add(digest(memoryview(content)))
        content[place] ^= 1
    assert len(digests) == len(places) + 1
