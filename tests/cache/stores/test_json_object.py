"""Descriptions as JSON objects: one form for equal values, an error that names what is none."""

from pathlib import Path

import pytest

from kdcache.cache.errors import BadCache
from kdcache.cache.stores.json_object import MAX_BYTES, json_bytes, read_json
from kdcache.cache.stores.local import LocalStore


def test_equal_values_are_equal_bytes_and_come_back(tmp_path: Path) -> None:
    content = json_bytes({"b": [1, None], "a": "\u00e9"})
    assert content == b'{"a":"\\u00e9","b":[1,null]}\n' == json_bytes({"a": "\u00e9", "b": [1, None]})
    store = LocalStore(tmp_path)
    store.put("d/x.json", content)
    assert read_json(store, "d/x.json") == {"a": "\u00e9", "b": [1, None]}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "is not JSON"),
        (b'{"rows": 3', "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[" * 100_000 + b"]" * 100_000, "is not JSON"),
        (b"[1]", "holds no JSON object"),
        (b"null", "holds no JSON object"),
        (b'"text"', "holds no JSON object"),
    ],
)
def test_what_is_no_object_is_named_with_the_way_out(tmp_path: Path, content: bytes, text: str) -> None:
    store = LocalStore(tmp_path)
    store.put("d/x.json", content)
    with pytest.raises(BadCache, match=f"'d/x.json' {text}") as caught:
        read_json(store, "d/x.json")
    assert caught.value.where == str(tmp_path / "d/x.json") and "kdcache build --repair" in caught.value.fix


def test_a_missing_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadCache, match=r"'d/x\.json' is missing"):
        read_json(LocalStore(tmp_path), "d/x.json")


def test_one_beyond_all_bounds_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    with (tmp_path / "x.json").open("wb") as file:
        file.truncate(MAX_BYTES + 1)  # a hole: takes no disk, and would be 'not JSON' if it were parsed
    with pytest.raises(BadCache, match=f"has {MAX_BYTES + 1} bytes, at most {MAX_BYTES} are read"):
        read_json(LocalStore(tmp_path), "x.json")
