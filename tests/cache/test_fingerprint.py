"""Digests that must agree: fixed for good, because manifests and records hold them."""

import hashlib
from pathlib import Path

import pytest

from kdcache.cache.fingerprint import CHUNK_BYTES, canonical, digest_bytes, digest_file, digest_of


def test_equal_values_have_one_byte_form() -> None:
    assert canonical({"b": [1, 2.5], "a": "\u00e4"}) == b'{"a":"\\u00e4","b":[1,2.5]}'
    assert canonical({"a": "\u00e4", "b": [1, 2.5]}) == canonical({"b": [1, 2.5], "a": "\u00e4"})


@pytest.mark.parametrize("num_hex", [8, 16, 32])
def test_a_digest_of_values_is_blake2b_of_that_form(num_hex: int) -> None:
    expected = hashlib.blake2b(b'{"a":1}', digest_size=num_hex // 2).hexdigest()
    assert digest_of({"a": 1}, num_hex) == expected and len(expected) == num_hex
    assert len(digest_of({"a": 1})) == 32


def test_a_digest_of_buffers_is_that_of_their_joined_bytes() -> None:
    expected = "b2:" + hashlib.blake2b(b"onetwo", digest_size=16).hexdigest()
    assert digest_bytes(b"onetwo") == digest_bytes(b"one", memoryview(b"two")) == expected
    assert digest_bytes(b"twoone") != expected


@pytest.mark.parametrize("num_bytes", [0, 5, CHUNK_BYTES, CHUNK_BYTES + 1])
def test_a_file_has_the_digest_of_its_bytes_however_long_it_is(tmp_path: Path, num_bytes: int) -> None:
    content = bytes(index % 251 for index in range(1000)) * (num_bytes // 1000 + 1)
    (tmp_path / "file").write_bytes(content[:num_bytes])
    assert digest_file(tmp_path / "file") == digest_bytes(content[:num_bytes])
