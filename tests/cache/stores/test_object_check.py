"""One object against its record: whatever differs is said in its own words."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kdcache.cache.errors import BadCache
from kdcache.cache.fingerprint import digest_bytes
from kdcache.cache.stores.contract import ObjectRecord
from kdcache.cache.stores.local import LocalStore
from kdcache.cache.stores.object_check import object_problem, read_columns_object

CONTENT = bytes(range(200))


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


@pytest.fixture
def entry(store: LocalStore) -> ObjectRecord:
    return store.put("a/x", CONTENT)


def test_an_object_that_is_as_recorded_has_no_problem(store: LocalStore, entry: ObjectRecord) -> None:
    assert object_problem(store, entry) is None
    assert object_problem(store, store.put("empty", b"")) is None


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT + b"\0", b""])
def test_another_size_is_said_with_both_numbers(
    store: LocalStore, entry: ObjectRecord, content: bytes
) -> None:
    (store.root / "a/x").write_bytes(content)
    assert object_problem(store, entry) == f"'a/x' has {len(content)} bytes, its record says 200"


def test_another_digest_is_said_with_both(store: LocalStore, entry: ObjectRecord) -> None:
    changed = CONTENT[:77] + b"\xff" + CONTENT[78:]
    (store.root / "a/x").write_bytes(changed)
    text = f"'a/x' differs (stored {entry.digest}, found {digest_bytes(changed)})"
    assert object_problem(LocalStore(store.root), entry) == text


def test_what_is_gone_is_missing(store: LocalStore, entry: ObjectRecord) -> None:
    (store.root / "a/x").unlink()
    assert object_problem(store, entry) == "'a/x' is missing"


@pytest.mark.parametrize("put", [Path.mkdir, os.mkfifo])
def test_what_is_no_file_is_never_waited_for(
    store: LocalStore, entry: ObjectRecord, put: Callable[[Path], None]
) -> None:
    path = store.root / "a/x"
    path.unlink()
    put(path)
    assert object_problem(store, entry) == "'a/x' is no regular file"


@pytest.mark.parametrize("name", ["../../etc/hostname", "/etc/hostname", "x" * 300])
def test_a_recorded_name_outside_of_the_cache_is_never_opened(store: LocalStore, name: str) -> None:
    with pytest.raises(BadCache, match="is no file of this cache") as caught:
        object_problem(store, ObjectRecord(name, 3, "x3:" + "0" * 32))
    assert caught.value.where == str(store.root) and caught.value.fix


def test_columns_that_are_read_at_once_are_compared_too(store: LocalStore, entry: ObjectRecord) -> None:
    assert read_columns_object(store, entry) == CONTENT
    path = store.root / "a/x"
    path.write_bytes(CONTENT[:77] + b"\xff" + CONTENT[78:])
    with pytest.raises(BadCache, match=f"'a/x' differs \\(stored {entry.digest}") as caught:
        read_columns_object(store, entry)
    assert "--repair" in caught.value.fix
    path.unlink()
    with pytest.raises(BadCache, match="'a/x' is missing"):
        read_columns_object(store, entry)
    path.mkdir()
    with pytest.raises(BadCache, match="'a/x' cannot be read"):
        read_columns_object(store, entry)
