"""Vectors lie many to a chunk: what retires, what is repaired, what was built before, what is copied."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from cache_scene import damage, living_rows, operations, tree
from mixed_scene import MixedScene, built_mixed_scene

from kdcache.cache.build import plan as planning
from kdcache.cache.build.build import BuildEvents, build_cache
from kdcache.cache.build.compact import compact
from kdcache.cache.build.options import parse_tap
from kdcache.cache.build.predict import FILE_BYTES, ROW_BYTES
from kdcache.cache.errors import BadCache
from kdcache.cache.look.verify import problems
from kdcache.cache.reader import resident
from kdcache.cache.reader.cache import Cache, open_cache
from kdcache.cache.stores.zarr_format import array_path

TARGETS = ("embedding", "logits")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> MixedScene:
    return built_mixed_scene(tmp_path_factory.mktemp("dense") / "scene")


@pytest.fixture
def scene(built: MixedScene, tmp_path: Path) -> MixedScene:
    return built.copy(tmp_path / "scene")


@pytest.fixture(scope="module")
def built_before(tmp_path_factory: pytest.TempPathFactory) -> MixedScene:
    """By a kdcache that gave every vector a chunk of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "VECTOR_BYTES", 0)
        return built_mixed_scene(tmp_path_factory.mktemp("before") / "scene")


@pytest.fixture
def before(built_before: MixedScene, tmp_path: Path) -> MixedScene:
    return built_before.copy(tmp_path / "before")


def array_of(cache: Cache, target: str) -> zarr.Array:
    path = cache.root / array_path(cache.manifest.teacher, target, "vector", "values")
    return zarr.open_array(path, mode="r")


def chunk_rows(root: Path) -> set[int]:
    cache = open_cache(root)
    return {array_of(cache, target).chunks[1] for target in TARGETS}


def assert_others_read_the_same(root: Path) -> None:
    cache = open_cache(root)
    for target in TARGETS:
        array = array_of(cache, target)
        for index, view in cache.stored_rows():
            np.testing.assert_array_equal(array[view, index], cache.parts(target, index, view)["values"])


def assert_batches_are_rows(root: Path) -> None:
    """In memory, and block by block."""
    for room in (resident.RESIDENT_BYTES, 0):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(resident, "RESIDENT_BYTES", room)
            assert_batch_is_rows(open_cache(root))


def assert_batch_is_rows(cache: Cache) -> None:
    samples, views = np.array(list(cache.stored_rows()))[::-1].T
    rows = cache.row_batch(samples, views)
    assert [rows.row(i) for i in range(len(samples))] == [
        cache.row(int(s), int(v)) for s, v in zip(samples, views, strict=True)
    ]
    for target in TARGETS:
        wanted = [cache.parts(target, s, v)["values"] for s, v in zip(samples, views, strict=True)]
        out = np.empty((len(samples), *wanted[0].shape), wanted[0].dtype)
        cache.gather(target, rows, "values", out)
        np.testing.assert_array_equal(out, wanted)


def stored(root: Path) -> dict[str, str]:
    """Digests of everything but what says where the data lie."""
    folders = ("targets.zarr", "records", "samples", "views")
    return {name: digest for name, digest in tree(root).items() if name.split("/")[0] in folders}


def change(scene: MixedScene) -> None:
    """One sample more, one of another content: rows retire, and so do those that show them."""
    scene.draw("dog/new", 52)
    scene.draw("cat/1", 51)


def test_a_shard_of_vectors_is_one_chunk_that_others_read_too(scene: MixedScene) -> None:
    assert chunk_rows(scene.cache) == {3} and list(problems(scene.cache)) == []
    assert_others_read_the_same(scene.cache)
    assert_batches_are_rows(scene.cache)


def test_what_retired_before_a_later_tap_is_not_in_its_chunks(scene: MixedScene) -> None:
    change(scene)
    build_cache(scene.options(update=True))
    retired = open_cache(scene.cache).generation.retired.tolist()
    build_cache(scene.options(taps=(parse_tap("stage1"), parse_tap("logits"))))
    build_cache(scene.options(views="crops:3"))
    cache = open_cache(scene.cache)
    assert retired and list(problems(scene.cache)) == []
    with pytest.raises(BadCache, match="has no targets under view 2"):
        cache.row_batch(np.array(retired[:1]), np.array([2]))
    for index in retired:
        assert np.isnan(array_of(cache, "logits")[2, index]).all()
        assert not cache.block_views(index // 3, 2).valid[index % 3]
    assert_others_read_the_same(scene.cache)
    assert_batches_are_rows(scene.cache)


def test_a_pass_that_left_a_row_out_does_not_give_its_fill_value(
    scene: MixedScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two passes over one view: the later one without what had retired by then."""
    first = {"taps": (parse_tap("embedding=fp32"),), "augment": "pad=4,flip"}
    scene = scene.with_options(caches_dir=tmp_path / "others", **first)
    change(scene)
    build_cache(scene.options(update=True))
    build_cache(scene.options(taps=(parse_tap("logits=fp32"),)))
    cache = open_cache(scene.cache)
    index = int(cache.generation.retired[0])
    assert np.isfinite(cache.parts("embedding", index, 0)["values"]).all(), "an old run still reads it"
    with pytest.raises(BadCache, match=f"row {index % 3} is not in"):
        cache.parts("logits", index, 0)
    for room in (resident.RESIDENT_BYTES, 0):
        monkeypatch.setattr(resident, "RESIDENT_BYTES", room)
        cache = open_cache(scene.cache)
        rows = cache.row_batch(np.array([index]), np.array([0]))
        with pytest.raises(BadCache, match=f"row {index % 3} is not in"):
            cache.gather("logits", rows, "values", np.empty((1, 2), np.float32))
    assert_others_read_the_same(scene.cache)
    assert_batches_are_rows(scene.cache)


def test_a_damaged_chunk_is_repaired_to_the_same_bytes(scene: MixedScene) -> None:
    whole = stored(scene.cache)
    cache = open_cache(scene.cache)
    folder = scene.cache / array_path(cache.manifest.teacher, "logits", "vector", "values")
    described = json.loads((folder / "zarr.json").read_text())
    described["codecs"][0]["configuration"]["chunk_shape"][1] = 1
    (folder / "zarr.json").write_text(json.dumps(described))
    (said,) = problems(scene.cache)
    assert "describes the array with another codecs" in said.text, "plain zarr would read something else"
    damage(folder / "c" / "0" / "0" / "0")
    with pytest.raises(BadCache, match="differs"):
        open_cache(scene.cache).parts("logits", 0, 0)
    build_cache(scene.options(repair=True))
    assert stored(scene.cache) == whole and list(problems(scene.cache)) == []


def test_the_bytes_of_chunks_are_predicted(scene: MixedScene) -> None:
    """Also where the last block is short, and where a row of a chunk has retired."""
    change(scene)
    build_cache(scene.options(update=True))
    before, said = set(tree(scene.cache)), []
    told = BuildEvents(planned=lambda plan, prediction, assignment: said.append(prediction))
    build_cache(scene.options(views="crops:3"), told)
    new = [scene.cache / name for name in set(tree(scene.cache)) - before]
    shards = sum(path.stat().st_size for path in new if "targets.zarr" in path.parts)
    columns = len([path for path in new if path.parent.name == "views"])
    assert said[0].target_bytes == shards + columns * FILE_BYTES + said[0].rows * ROW_BYTES


def test_growth_writes_blocks_and_no_shard_that_is_there(scene: MixedScene) -> None:
    shards = {n: d for n, d in tree(scene.cache).items() if "/c/" in n}
    change(scene)
    build_cache(scene.options(update=True))
    now = tree(scene.cache)
    assert shards.items() < now.items() and len([n for n in now if "/c/" in n]) > len(shards)


def test_a_cache_of_before_is_read_grows_and_repairs_in_its_own_layout(before: MixedScene) -> None:
    said = json.loads((before.cache / "manifest.json").read_text())
    assert "vector_bytes" not in said and chunk_rows(before.cache) == {1}
    assert_others_read_the_same(before.cache)
    whole = stored(before.cache)
    cache = open_cache(before.cache)
    damage(before.cache / array_path(cache.manifest.teacher, "logits", "vector", "values") / "c/1/0/0")
    (before.cache / "manifest.json").unlink()
    build_cache(before.options(repair=True))
    assert stored(before.cache) == whole, "bytes of today are those of then"
    change(before)
    build_cache(before.options(update=True))
    build_cache(before.options(views="crops:3"))
    assert chunk_rows(before.cache) == {1} and list(problems(before.cache)) == []
    assert_others_read_the_same(before.cache)
    assert_batches_are_rows(before.cache)


def test_rows_are_the_same_in_both_layouts(scene: MixedScene, before: MixedScene) -> None:
    assert living_rows(scene.cache) == living_rows(before.cache)


def test_a_build_that_was_begun_before_goes_on_in_its_layout(
    tmp_path: Path, built: MixedScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = built.copy(tmp_path / "scene")
    shutil.rmtree(scene.caches)
    with monkeypatch.context() as patch:
        patch.setattr(planning, "VECTOR_BYTES", 0)
        patch.setattr("kdcache.cache.build.build.settle", _die)
        with pytest.raises(KeyboardInterrupt):
            build_cache(scene.options())
    assert not (scene.cache / "generations").exists()
    shutil.rmtree(next((scene.cache / "targets.zarr").glob("*/logits/vector/values/c/1")))
    for record in (scene.cache / "records").glob("*-v001-*.json"):
        record.unlink()
    build_cache(scene.options())
    assert chunk_rows(scene.cache) == {1} and list(problems(scene.cache)) == []


def test_a_copy_has_the_layout_of_today_whatever_was_copied(before: MixedScene, scene: MixedScene) -> None:
    copies = {}
    for one in (before, scene):
        out = one.caches / "small"
        compact(one.cache, out)
        assert chunk_rows(out) == {3} and list(problems(out)) == []
        assert living_rows(out) == living_rows(one.cache)
        copies[one.root.name] = {n: d for n, d in tree(out).items() if "/c/" in n}
    assert copies["before"] == copies["scene"]


def test_a_copy_that_was_begun_in_the_other_layout_begins_again(
    before: MixedScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = before.caches / "small"
    with monkeypatch.context() as patch:
        patch.setattr("kdcache.cache.build.compact.VECTOR_BYTES", 0)
        patch.setattr("kdcache.cache.build.compact.Copy.settle", _die)
        with pytest.raises(KeyboardInterrupt):
            compact(before.cache, out)
    assert operations(lambda: compact(before.cache, out)) > 0
    assert chunk_rows(out) == {3} and living_rows(out) == living_rows(before.cache)
    assert list(problems(out)) == []


def _die(*_: object) -> None:
    raise KeyboardInterrupt
