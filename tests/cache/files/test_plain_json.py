"""JSON within bounds: what is refused before it is parsed, and that honest text means what json says."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdcache.cache.files.plain_json import MAX_DEPTH, check_depth, parse_json, read_json_object

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=20,
)


@given(PLAIN, st.booleans())
def test_values_come_back_and_their_depth_is_that_of_a_walk(plain: object, ascii_only: bool) -> None:
    content = json.dumps(plain, ensure_ascii=ascii_only).encode()
    assert parse_json(content) == plain
    depth = _depth(plain)
    check_depth(content, depth)
    if depth:
        with pytest.raises(ValueError, match=f"more than {depth - 1} deep"):
            check_depth(content, depth - 1)


def _depth(plain: object) -> int:
    inner = plain if isinstance(plain, list) else plain.values() if isinstance(plain, dict) else None
    return 0 if inner is None else 1 + max((_depth(one) for one in inner), default=0)


def test_brackets_inside_of_texts_are_no_depth() -> None:
    content = json.dumps(['["\\', "[" * 1000, '{"a": [']).encode()
    check_depth(content, 1)


@pytest.mark.parametrize("opened", [b"[", b'{"a":', b'[{"a":'])
@pytest.mark.timeout(10)
def test_values_deep_in_each_other_are_refused(opened: bytes) -> None:
    with pytest.raises(ValueError, match=f"more than {MAX_DEPTH} deep"):
        parse_json(opened * 300_000)


def test_a_text_that_is_too_long_is_refused_unparsed() -> None:
    with pytest.raises(ValueError, match="has 6 bytes, at most 5 are read"):
        parse_json(b"[1, 2]", 5)


@pytest.mark.parametrize(
    ("text", "what"), [("[]", "a list"), ("3", "a number"), ("null", "null"), ('"a"', "a text")]
)
def test_a_file_that_holds_no_object_says_what_it_holds(tmp_path: Path, text: str, what: str) -> None:
    (tmp_path / "file").write_text(text)
    with pytest.raises(ValueError, match=f"it holds {what}, not an object"):
        read_json_object(tmp_path / "file")
