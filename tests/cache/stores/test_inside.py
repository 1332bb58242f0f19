"""Names and links never leave a cache, for reading and for writing."""

from pathlib import Path

import pytest

from kdcache.cache.errors import BadCache
from kdcache.cache.stores.inside import path_inside
from kdcache.cache.stores.local import LocalStore


@pytest.mark.parametrize(
    "name", ["", "/etc/hostname", "../../etc/hostname", "a/../../b", "a//b", ".", "a/.", "a\0b"]
)
def test_a_name_that_points_outside_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadCache, match="it points outside the cache") as caught:
        path_inside(tmp_path, name)
    assert caught.value.where == str(tmp_path) and "someone you trust" in caught.value.fix


@pytest.mark.parametrize("name", ["x" * 300, "a/" + "x" * 256, "/".join(["x" * 200] * 6), "a/\ud800"])
def test_a_name_that_no_file_system_takes_is_refused_and_does_not_fail_below(
    tmp_path: Path, name: str
) -> None:
    store = LocalStore(tmp_path)
    for use in (store.exists, store.get, store.remove, lambda n: store.put(n, b"x")):
        with pytest.raises(BadCache, match="no file system takes such a name") as caught:
            use(name)
    assert len(caught.value.what) < 150 and list(tmp_path.iterdir()) == []


def test_the_longest_names_that_file_systems_take_are_names(tmp_path: Path) -> None:
    name = "a/" + "x" * 255
    assert path_inside(tmp_path, name) == tmp_path / name


@pytest.mark.parametrize("linked", ["records", "records/x.json"])
def test_a_linked_folder_or_file_is_neither_read_nor_written_through(tmp_path: Path, linked: str) -> None:
    outside, root = tmp_path / "outside", tmp_path / "cache"
    (outside / "records").mkdir(parents=True)
    (outside / "records" / "x.json").write_text("secret")
    (root / linked).parent.mkdir(parents=True)
    (root / linked).symlink_to(outside / linked)
    store = LocalStore(root)
    for use in (
        lambda: store.get("records/x.json"),
        lambda: store.put("records/x.json", b"mine"),
        lambda: store.create("records/x.json", b"mine"),
        lambda: store.remove("records/x.json"),
        lambda: store.exists("records/x.json"),
    ):
        with pytest.raises(BadCache, match=f"'{linked}' is a link"):
            use()
    assert (outside / "records" / "x.json").read_text() == "secret"
    assert [p.name for p in (outside / "records").iterdir()] == ["x.json"]


def test_the_folder_of_a_cache_may_itself_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "cache").symlink_to(tmp_path / "disk")
    LocalStore(tmp_path / "cache").put("a/b", b"bytes")
    assert (tmp_path / "disk" / "a" / "b").read_bytes() == b"bytes"
