"""One contract for every target format: inherit `FormatContract`, read a row back through others' code."""

import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import zarr
from stored_shard import put_shard

from kdcache.cache.errors import BadCache, BadOption
from kdcache.cache.spec import PartSpec, RowParts, TensorSpec
from kdcache.cache.stores.contract import ObjectRecord, ShardKey, TapLayout, TargetFormat, TargetLayout
from kdcache.cache.stores.local import LocalStore
from kdcache.cache.stores.table import target_format

WIDE, TALL = TensorSpec((2, 3, 4), 8), TensorSpec((3, 2, 4), 8)
POOLED = TensorSpec((5,), 0)
PASS = "0123abcd"
Targets = Mapping[str, Sequence[RowParts | None]]
Sizes = Mapping[str, Sequence[TensorSpec | None]]


def int8_parts(spec: TensorSpec) -> dict[str, PartSpec]:
    scale = PartSpec((2, spec.channels), "float32", False)
    return {"values": PartSpec(spec.shape, "uint8", True), "scale": scale}


def layout(
    *, num_views: int = 2, num_samples: int = 7, zstd: bool = False, vector_bytes: int = 0
) -> TargetLayout:
    """Blocks of 4 samples, the last one of 3; a map tap in two sizes and a pooled one."""
    maps = TapLayout(codec="int8", parts={s.size_key: int8_parts(s) for s in (WIDE, TALL)})
    pooled = TapLayout(codec="fp16", parts={"vector": {"values": PartSpec((5,), "float16", False)}})
    return TargetLayout(
        teacher="t", num_views=num_views, num_samples=num_samples, shard_samples=4, zstd=zstd,
        taps={"stage4": maps, "stage4.pooled": pooled}, vector_bytes=vector_bytes,
    )  # fmt: skip


def draw(number_of_rows: int, seed: int) -> tuple[Targets, Sizes]:
    """Rows whose sizes alternate and whose second one has no target."""
    generator = np.random.default_rng(seed)
    maps: list[RowParts | None] = []
    pooled: list[RowParts | None] = []
    sizes: list[TensorSpec | None] = []
    for row in range(number_of_rows):
        spec = None if row == 1 else (WIDE, TALL)[row // 2 % 2]
        sizes.append(spec)
        values = None if spec is None else generator.integers(0, 255, spec.shape, dtype=np.uint8)
        scale = generator.normal(size=(2, 4)).astype(np.float32)
        maps.append(None if values is None else {"values": values, "scale": scale})
        vector = {"values": generator.normal(size=5).astype(np.float16)}
        pooled.append(None if spec is None else vector)
    vectors = [None if s is None else POOLED for s in sizes]
    return {"stage4": maps, "stage4.pooled": pooled}, {"stage4": sizes, "stage4.pooled": vectors}


class FormatContract:
    """What holds for every target format."""

    format_name: str
    zstd = False
    vector_bytes = 0

    def layout(self, **changes: int) -> TargetLayout:
        return layout(zstd=self.zstd, vector_bytes=self.vector_bytes, **changes)

    def raw_row(
        self, root: Path, tap: str, spec: TensorSpec, part: str, *, block: int, view: int, row: int
    ) -> np.ndarray:
        """A row read back without kdcache."""
        raise NotImplementedError

    @pytest.fixture
    def form(self) -> TargetFormat:
        return target_format(self.format_name)

    @pytest.fixture
    def store(self, tmp_path: Path) -> LocalStore:
        return LocalStore(tmp_path)

    def write(
        self, form: TargetFormat, store: LocalStore, *, block: int, view: int, seed: int, rows: int = 4
    ) -> tuple[Targets, Sizes, list[ObjectRecord]]:
        targets, sizes = draw(rows, seed)
        form.prepare(store, self.layout(), ())
        shard = ShardKey(block, view, PASS)
        written = put_shard(form, store, self.layout(), shard, targets=targets, sizes=sizes)
        return targets, sizes, written

    def row(
        self,
        form: TargetFormat,
        store: LocalStore,
        tap: str,
        size: str,
        part: str,
        *,
        block: int,
        view: int,
        row: int,
    ) -> np.ndarray:
        shard = ShardKey(block, view, PASS)
        opened = form.open(store, self.layout(), shard, tap=tap, size_key=size)
        return opened.row(row, part)

    @pytest.mark.parametrize(("block", "view", "rows"), [(0, 0, 4), (0, 1, 4), (1, 1, 3)])
    def test_every_row_comes_back_through_us_and_through_others(
        self, form: TargetFormat, store: LocalStore, block: int, view: int, rows: int
    ) -> None:
        targets, sizes, _ = self.write(form, store, block=block, view=view, seed=1, rows=rows)
        where = {"block": block, "view": view}
        for tap in targets:
            for row, (parts, spec) in enumerate(zip(targets[tap], sizes[tap], strict=True)):
                if parts is None or spec is None:
                    continue
                for part, array in parts.items():
                    ours = self.row(form, store, tap, spec.size_key, part, **where, row=row)
                    others = self.raw_row(store.root, tap, spec, part, **where, row=row)
                    np.testing.assert_array_equal(ours, array)
                    np.testing.assert_array_equal(others, array)
                    assert ours.dtype == array.dtype and not ours.flags.writeable

    def test_an_opened_block_names_its_parts_in_order(self, form: TargetFormat, store: LocalStore) -> None:
        self.write(form, store, block=0, view=0, seed=1)
        shard = ShardKey(0, 0, PASS)
        opened = form.open(store, self.layout(), shard, tap="stage4", size_key="2x3")
        assert tuple(opened.parts) == ("values", "scale")

    def test_a_row_without_target_or_of_another_size_is_an_error(
        self, form: TargetFormat, store: LocalStore
    ) -> None:
        self.write(form, store, block=0, view=0, seed=1)
        for size, row in (("2x3", 1), ("2x3", 2), ("3x2", 0)):
            with pytest.raises(BadCache, match=f"row {row} is not in"):
                self.row(form, store, "stage4", size, "values", block=0, view=0, row=row)

    def test_a_vector_without_target_is_an_error_where_the_shard_says_which_rows_it_has(
        self, form: TargetFormat, store: LocalStore
    ) -> None:
        targets, _, _ = self.write(form, store, block=1, view=0, seed=1, rows=3)
        valid = np.array([True, False, True])
        where = {"tap": "stage4.pooled", "size_key": "vector", "valid": valid}
        opened = form.open(store, self.layout(), ShardKey(1, 0, PASS), **where)  # type: ignore[arg-type]
        there = targets["stage4.pooled"][2]
        assert there is not None
        np.testing.assert_array_equal(opened.row(2, "values"), there["values"])
        for row in (1, 3):
            with pytest.raises(BadCache, match=f"row {row} is not in"):
                opened.row(row, "values")
            with pytest.raises(BadCache, match=f"row {row} is not in"):
                opened.gather(np.array([0, row]), "values", np.zeros((2, 5), np.float16), slice(0, 2))

    def test_rows_that_are_gathered_are_the_rows_one_by_one(
        self, form: TargetFormat, store: LocalStore
    ) -> None:
        self.write(form, store, block=0, view=0, seed=1)
        places = {"2x3": np.array([0, 0]), "3x2": np.array([3, 2, 3]), "vector": np.array([3, 0, 2])}
        for size, here in places.items():
            tap = "stage4.pooled" if size == "vector" else "stage4"
            opened = form.open(store, self.layout(), ShardKey(0, 0, PASS), tap=tap, size_key=size)
            for part in opened.parts:
                wanted = np.stack([opened.row(place, part) for place in here.tolist()])
                for slots in (slice(1, 1 + len(here)), np.arange(len(here))[::-1] + 1):
                    out = np.full((len(here) + 2, *wanted.shape[1:]), 99, wanted.dtype)
                    opened.gather(here, part, out, slots)
                    np.testing.assert_array_equal(out[slots], wanted)
                    assert (out[[0, -1]] == 99).all(), "rows of others are left alone"

    def test_damage_and_absence_are_told_with_the_full_path_of_the_object(
        self, form: TargetFormat, store: LocalStore
    ) -> None:
        written = self.write(form, store, block=0, view=0, seed=1)[2]
        with pytest.raises(BadCache, match="is not in") as caught:
            self.row(form, store, "stage4", "2x3", "values", block=0, view=0, row=1)
        assert Path(caught.value.where) in {store.root / entry.name for entry in written}
        for entry in written:
            store.put(entry.name, b"torn")
        with pytest.raises(BadCache) as caught:
            self.row(form, store, "stage4", "2x3", "values", block=0, view=0, row=0)
        assert Path(caught.value.where) in {store.root / entry.name for entry in written}

    def test_a_block_that_was_never_written_is_an_error_that_names_the_object(
        self, form: TargetFormat, store: LocalStore
    ) -> None:
        self.write(form, store, block=0, view=0, seed=1)
        with pytest.raises(BadCache, match="is missing") as caught:
            self.row(form, store, "stage4", "2x3", "values", block=1, view=0, row=0)
        assert "targets" in caught.value.where and "kdcache build --repair" in caught.value.fix

    def test_records_name_every_file_with_its_size(self, form: TargetFormat, store: LocalStore) -> None:
        form.prepare(store, self.layout(), ())
        before = set(store.list())
        _, _, written = self.write(form, store, block=0, view=0, seed=1)
        assert {r.name for r in written} == set(store.list()) - before
        assert all((store.root / r.name).stat().st_size == r.num_bytes for r in written)

    def test_the_same_rows_give_the_same_bytes(
        self, form: TargetFormat, store: LocalStore, tmp_path: Path
    ) -> None:
        _, _, first = self.write(form, store, block=0, view=0, seed=1)
        _, _, again = self.write(form, LocalStore(tmp_path / "other"), block=0, view=0, seed=1)
        assert first == again

    def test_writing_a_block_again_replaces_it_whole(self, form: TargetFormat, store: LocalStore) -> None:
        self.write(form, store, block=0, view=0, seed=1)
        targets, _, _ = self.write(form, store, block=0, view=0, seed=2)
        stored = self.row(form, store, "stage4", "2x3", "values", block=0, view=0, row=0)
        assert targets["stage4"][0] is not None
        np.testing.assert_array_equal(stored, targets["stage4"][0]["values"])

    def test_views_and_blocks_do_not_touch_each_other(self, form: TargetFormat, store: LocalStore) -> None:
        _, _, first = self.write(form, store, block=0, view=0, seed=1)
        self.write(form, store, block=1, view=0, seed=2, rows=3)
        self.write(form, store, block=0, view=1, seed=3)
        _, _, again = self.write(form, LocalStore(store.root / "other"), block=0, view=0, seed=1)
        assert [(store.root / r.name).read_bytes() for r in first] == [
            (store.root / "other" / r.name).read_bytes() for r in again
        ]

    def test_two_passes_over_one_block_and_view_do_not_touch_each_other(
        self, form: TargetFormat, store: LocalStore
    ) -> None:
        targets, sizes = draw(4, seed=1)
        form.prepare(store, self.layout(), ())
        passes = {"stage4": ShardKey(0, 0, PASS), "stage4.pooled": ShardKey(0, 0, "ffff0000")}
        for tap, shard in passes.items():
            only, its_sizes = {tap: targets[tap]}, {tap: sizes[tap]}
            put_shard(form, store, self.layout(), shard, targets=only, sizes=its_sizes)
        for tap, size in (("stage4", "2x3"), ("stage4.pooled", "vector")):
            rows = form.open(store, self.layout(), passes[tap], tap=tap, size_key=size)
            written = targets[tap][0]
            assert written is not None
            np.testing.assert_array_equal(rows.row(0, "values"), written["values"])

    def test_a_block_without_any_target_can_be_written(self, form: TargetFormat, store: LocalStore) -> None:
        form.prepare(store, self.layout(), ())
        nothing: dict[str, list[None]] = {"stage4": [None] * 4, "stage4.pooled": [None] * 4}
        put_shard(form, store, self.layout(), ShardKey(0, 0, PASS), targets=nothing, sizes=nothing)
        with pytest.raises(BadCache):
            self.row(form, store, "stage4", "2x3", "values", block=0, view=0, row=0)

    def test_preparing_again_writes_nothing_and_growing_keeps_the_rows(
        self, form: TargetFormat, store: LocalStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        targets, _, written = self.write(form, store, block=0, view=1, seed=1)
        before = {name: (store.root / name).stat().st_mtime_ns for name in store.list()}
        with monkeypatch.context() as patch:
            patch.setattr(store, "put", lambda *_: pytest.fail("prepare wrote something"))
            form.prepare(store, self.layout(), ())
        form.prepare(store, self.layout(num_views=9, num_samples=40), ())
        assert all((store.root / r.name).stat().st_mtime_ns == before[r.name] for r in written)
        assert targets["stage4"][0] is not None
        others = self.raw_row(store.root, "stage4", WIDE, "values", block=0, view=1, row=0)
        np.testing.assert_array_equal(others, targets["stage4"][0]["values"])

    def test_a_truncated_object_is_an_error_that_names_it(
        self, form: TargetFormat, store: LocalStore
    ) -> None:
        _, _, written = self.write(form, store, block=0, view=0, seed=1)
        for record in written:
            path = store.root / record.name
            whole = path.read_bytes()
            path.write_bytes(whole[: len(whole) // 3])
        for tap, size in (("stage4", "2x3"), ("stage4.pooled", "vector")):
            with pytest.raises(BadCache) as caught:
                self.row(form, LocalStore(store.root), tap, size, "values", block=0, view=0, row=0)
            assert any(record.name in str(caught.value) for record in written)
            assert "kdcache build --repair" in caught.value.fix


class TestZarr(FormatContract):
    format_name = "zarr"

    def raw_row(
        self, root: Path, tap: str, spec: TensorSpec, part: str, *, block: int, view: int, row: int
    ) -> np.ndarray:
        array = zarr.open(root / "targets.zarr", mode="r")[f"t/{tap}/{spec.size_key}/{part}"]
        return np.asarray(array[view, block * 4 + row])


class TestZarrWithZstd(TestZarr):
    zstd = True


class TestZarrWithVectorsInChunks(TestZarr):
    vector_bytes = 20  # two rows of the pooled tap

    def test_rows_of_vectors_share_a_chunk_and_those_of_maps_do_not(
        self, form: TargetFormat, store: LocalStore
    ) -> None:
        self.write(form, store, block=0, view=0, seed=1)
        arrays = zarr.open_group(store.root / "targets.zarr/t", mode="r")
        kept = {name: arrays[name].chunks for name in ("stage4/2x3/scale", "stage4.pooled/vector/values")}
        assert kept == {"stage4/2x3/scale": (1, 1, 2, 4), "stage4.pooled/vector/values": (1, 2, 5)}

    def test_a_vector_without_target_is_nothing_for_others_too(
        self, form: TargetFormat, store: LocalStore
    ) -> None:
        self.write(form, store, block=0, view=0, seed=1)
        row = self.raw_row(store.root, "stage4.pooled", POOLED, "values", block=0, view=0, row=1)
        assert np.isnan(row).all()


class TestZarrWithVectorsInChunksAndZstd(TestZarrWithVectorsInChunks):
    zstd = True


class TestWebdataset(FormatContract):
    format_name = "webdataset"

    def raw_row(
        self, root: Path, tap: str, spec: TensorSpec, part: str, *, block: int, view: int, row: int
    ) -> np.ndarray:
        tar = root / "targets" / "t" / f"{block:05d}-v{view:03d}-{PASS}.tar"
        name = f"{block * 4 + row:08d}.v{view:03d}.{tap.replace('.', '-')}.{part}.bin"
        with tarfile.open(tar) as file:
            member = file.extractfile(name)
            assert member is not None
            bytes_of_row = member.read()
        if part == "scale":
            return np.frombuffer(bytes_of_row, "<f4").reshape(2, spec.channels)
        return np.frombuffer(bytes_of_row, "u1" if len(spec.shape) == 3 else "<f2").reshape(spec.shape)


def test_an_unknown_format_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(BadOption) as caught:
        target_format("zar")
    assert "unknown target format 'zar'" in caught.value.what and "did you mean 'zarr'?" in caught.value.fix
