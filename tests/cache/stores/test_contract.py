"""One contract for every store: inherit `StoreContract` and say how to reach its bytes without it."""

from pathlib import Path

import numpy as np
import pytest
import xxhash

from kdcache.cache.errors import BadCache
from kdcache.cache.fingerprint import digest_bytes
from kdcache.cache.stores.contract import Store
from kdcache.cache.stores.local import LocalStore


class StoreContract:
    """What holds for every store. `raw_set` and `raw_get` go around the store, so it never checks itself."""

    def open_store(self, root: Path) -> Store:
        raise NotImplementedError

    def raw_set(self, root: Path, name: str, content: bytes) -> None:
        raise NotImplementedError

    def raw_get(self, root: Path, name: str) -> bytes | None:
        raise NotImplementedError

    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return self.open_store(tmp_path)

    def test_an_object_holds_its_buffers_one_after_another(self, store: Store, tmp_path: Path) -> None:
        numbers = np.arange(300, dtype=np.float32)
        record = store.put("a/b/c", [b"head", numbers.data.cast("B"), b"", b"tail"])
        expected = b"head" + numbers.tobytes() + b"tail"
        assert self.raw_get(tmp_path, "a/b/c") == expected
        assert record.name == "a/b/c" and record.num_bytes == len(expected)
        assert record.digest == f"x3:{xxhash.xxh3_128(expected).hexdigest()}"

    def test_its_digest_is_the_one_that_verify_computes(self, store: Store) -> None:
        assert store.put("a", [b"one", b"two"]).digest == digest_bytes(b"onetwo")

    def test_an_empty_object_is_an_object(self, store: Store, tmp_path: Path) -> None:
        store.put("empty", b"")
        assert self.raw_get(tmp_path, "empty") == b""
        assert store.exists("empty") and store.open_map("empty").size == 0
        assert bytes(store.get("empty")[0]) == b""

    def test_ranges_come_back_in_the_order_asked(self, store: Store, tmp_path: Path) -> None:
        self.raw_set(tmp_path, "a", bytes(range(100)))
        spans = store.get("a", [(90, 10), (0, 3), (50, 0)])
        assert [bytes(v) for v in spans] == [bytes(range(90, 100)), b"\0\1\2", b""]
        assert bytes(store.get("a")[0]) == bytes(range(100))

    @pytest.mark.parametrize("span", [(95, 6), (-1, 3), (5, -1), (200, 0)])
    def test_a_range_that_is_not_there_is_an_error_that_names_the_object(
        self, store: Store, tmp_path: Path, span: tuple[int, int]
    ) -> None:
        self.raw_set(tmp_path, "a", bytes(100))
        with pytest.raises(BadCache, match="'a' has 100 bytes") as caught:
            store.get("a", [span])
        assert "kdcache build --repair" in caught.value.fix

    def test_what_is_read_cannot_be_written_to(self, store: Store, tmp_path: Path) -> None:
        self.raw_set(tmp_path, "a", b"bytes")
        assert not store.open_map("a").flags.writeable
        assert store.get("a")[0].readonly

    def test_a_missing_object_is_an_error_that_names_it(self, store: Store) -> None:
        for read in (store.open_map, store.get):
            with pytest.raises(BadCache, match="'gone/x' is missing") as caught:
                read("gone/x")
            assert "kdcache build --repair" in caught.value.fix

    def test_a_replaced_object_reads_anew_and_its_old_readers_keep_the_old_bytes(self, store: Store) -> None:
        store.put("a", b"old bytes")
        old = store.open_map("a")
        store.put("a", b"new")
        assert old.tobytes() == b"old bytes"
        assert store.open_map("a").tobytes() == b"new"

    def test_an_object_replaced_by_another_process_reads_anew(self, store: Store, tmp_path: Path) -> None:
        store.put("a", b"old bytes")
        store.open_map("a")
        self.open_store(tmp_path).put("a", b"new bytes")
        assert store.open_map("a").tobytes() == b"new bytes"

    def test_names_are_listed_by_prefix_and_sorted(self, store: Store, tmp_path: Path) -> None:
        for name in ("b/2", "b/1", "b1", "a/x/y", "bc/3"):
            self.raw_set(tmp_path, name, b"")
        assert store.list() == ["a/x/y", "b/1", "b/2", "b1", "bc/3"]
        assert store.list("b/") == ["b/1", "b/2"]
        assert store.list("b") == ["b/1", "b/2", "b1", "bc/3"]
        assert store.list("none/") == []

    def test_removing_forgets_an_object_and_does_not_mind_a_missing_one(self, store: Store) -> None:
        store.put("a/b", b"bytes")
        kept = store.open_map("a/b")
        store.remove("a/b")
        store.remove("a/b")
        assert not store.exists("a/b") and store.list() == []
        assert kept.tobytes() == b"bytes"

    def test_what_is_created_is_there_and_is_never_replaced(self, store: Store, tmp_path: Path) -> None:
        first = store.create("records/x.json", b"one")
        assert self.raw_get(tmp_path, "records/x.json") == b"one"
        assert (first.num_bytes, first.digest) == (3, digest_bytes(b"one"))
        with pytest.raises(
            BadCache, match=r"'records/x\.json' is there already, with other contents"
        ) as caught:
            store.create("records/x.json", b"two")
        assert "run the same command again" in caught.value.fix
        assert self.raw_get(tmp_path, "records/x.json") == b"one" and store.list() == ["records/x.json"]

    def test_creating_the_same_bytes_again_is_no_error(self, store: Store) -> None:
        assert store.create("a", b"one") == store.create("a", b"one")

    @pytest.mark.parametrize("name", ["/etc/passwd", "../out", "a/../../out", ""])
    def test_a_name_cannot_leave_the_store(self, store: Store, tmp_path: Path, name: str) -> None:
        with pytest.raises(BadCache, match="points outside the cache"):
            store.put(name, b"x")
        with pytest.raises(BadCache, match="points outside the cache"):
            store.open_map(name)
        assert not (tmp_path.parent / "out").exists()


class TestLocalStore(StoreContract):
    def open_store(self, root: Path) -> Store:
        return LocalStore(root)

    def raw_set(self, root: Path, name: str, content: bytes) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)

    def raw_get(self, root: Path, name: str) -> bytes | None:
        return (root / name).read_bytes() if (root / name).is_file() else None
