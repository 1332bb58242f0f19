"""What pairs a target with its image: names, seals and links, compared when a block is first read."""

from collections.abc import Callable
from pathlib import Path

import pytest
from stored_cache import KEYS, PASS, HandWritten, entry, small_manifest, write_cache

from kdcache.cache.errors import BadCache
from kdcache.cache.reader.cache import Cache, open_cache
from kdcache.cache.record.generation import generation_name
from kdcache.cache.record.manifest import FILE_NAME, manifest_bytes
from kdcache.cache.record.records import record_name
from kdcache.cache.stores.contract import ShardKey
from kdcache.cache.views.block_views import block_views

OF_ROWS: list[Callable[[Cache, int, int], object]] = [
    lambda cache, index, view: cache.parts("stage4", index, view),
    Cache.row,
    Cache.geometry,
    Cache.pixel_digest,
]


def refused(cache: Cache, index: int, view: int, text: str) -> BadCache:
    """The one error of everything that is read of a row; the second time too."""
    for read in (*OF_ROWS, *OF_ROWS):
        with pytest.raises(BadCache, match=text) as caught:
            read(cache, index, view)
    assert "kdcache build --repair" in caught.value.fix and str(cache.root) in caught.value.where
    return caught.value


def swap(root: Path, one: ShardKey, other: ShardKey) -> None:
    first, second = root / record_name(one), root / record_name(other)
    first_bytes, second_bytes = first.read_bytes(), second.read_bytes()
    first.write_bytes(second_bytes), second.write_bytes(first_bytes)


@pytest.mark.parametrize("other", [ShardKey(1, 0, PASS), ShardKey(0, 1, PASS)])
def test_two_records_of_targets_that_changed_places_are_refused(tmp_path: Path, other: ShardKey) -> None:
    write_cache(tmp_path)
    swap(tmp_path, ShardKey(0, 0, PASS), other)
    text = f"the record of shard 00000 view 0 is that of {other.title}"
    refused(open_cache(tmp_path), 0, 0, text)


def test_two_records_of_samples_that_changed_places_are_refused(tmp_path: Path) -> None:
    write_cache(tmp_path)
    swap(tmp_path, ShardKey(0), ShardKey(1))
    cache = open_cache(tmp_path)
    text = r"the record of shard 00000 \(samples\) is that of shard 00001 \(samples\)"
    refused(cache, 0, 0, text)
    for read in (Cache.key, Cache.image, Cache.truth, Cache.size, Cache.key_hash):
        with pytest.raises(BadCache, match=text):
            read(cache, 0)


def test_one_record_twice_is_refused(tmp_path: Path) -> None:
    write_cache(tmp_path)
    copy = (tmp_path / record_name(ShardKey(0, 0, PASS))).read_bytes()
    (tmp_path / record_name(ShardKey(0, 1, PASS))).write_bytes(copy)
    refused(open_cache(tmp_path), 0, 1, "the record of shard 00000 view 1 is that of shard 00000 view 0")


def test_samples_of_another_time_are_not_paired_with_targets_of_this_one(tmp_path: Path) -> None:
    """The whole of samples/ and its records, restored from a backup: every seal and digest in it agrees."""
    old, new = write_cache(tmp_path / "old"), HandWritten(tmp_path / "new")
    for keys in (("a", "z", "c"), KEYS[1]):  # one image differed then
        new.add_block([entry(key) for key in keys])
    for block, keys in enumerate(KEYS):
        for name in (f"samples/{block:05d}.tar", f"samples/{block:05d}.safetensors"):
            (old.root / name).write_bytes((new.root / name).read_bytes())
        record = record_name(ShardKey(block))
        (old.root / record).write_bytes((new.root / record).read_bytes())
        assert len(keys) == new.blocks[block].rows
    cache = open_cache(old.root)
    refused(
        cache, 1, 0, r"record of shard 00000 \(samples\) is another one than the cache's generation names"
    )
    assert (cache.parts("stage4", 3, 0)["values"] == 30).all()  # of the block that is the same


def test_targets_of_other_samples_are_refused_though_the_generation_names_them(tmp_path: Path) -> None:
    cache = write_cache(tmp_path)
    cache.add_targets(0, 1, KEYS[0], samples=cache.blocks[1].seal)
    cache.settle()
    text = "the targets of shard 00000 view 1 were made from other samples than the cache holds"
    refused(open_cache(tmp_path), 0, 1, text)


def test_a_record_that_is_not_the_one_of_the_generation_is_refused(tmp_path: Path) -> None:
    written = write_cache(tmp_path)
    reader = open_cache(tmp_path)
    shard, seal = ShardKey(0, 1, PASS), written.records[2].seal
    assert written.records[2].shard == shard
    written.add_targets(0, 1, KEYS[0], {(0, 1): 2})  # sound in itself, and of these samples
    (new,) = (entry.seal for entry in written.records if entry.shard == shard)
    for cache in (reader, open_cache(tmp_path)):
        error = refused(cache, 0, 1, "another one than the cache's generation names")
        assert f"named {seal}, found {new}" in error.what
    written.settle()
    assert open_cache(tmp_path).row(0, 1).partner is not None


def test_a_record_of_another_number_of_rows_is_refused(tmp_path: Path) -> None:
    written = write_cache(tmp_path)
    views = open_cache(tmp_path).block_views(0, 0)
    written.write_targets(ShardKey(0, 0, PASS), views, written.blocks[0].seal, rows=2)
    written.settle()
    refused(open_cache(tmp_path), 0, 0, "cannot be read: 2 rows for 3 samples")


def test_views_that_no_set_draws_are_refused_though_everything_is_sealed(tmp_path: Path) -> None:
    written = write_cache(tmp_path)
    views = open_cache(tmp_path).block_views(0, 0)
    geometry = views.geometry.copy()
    geometry[1, 5] = 30_000  # the height of a crop
    written.write_targets(ShardKey(0, 0, PASS), views._replace(geometry=geometry), written.blocks[0].seal)
    written.settle()
    refused(open_cache(tmp_path), 1, 0, "cannot be read: the view of row 1 cannot be")


def test_a_generation_of_another_cache_is_refused(tmp_path: Path) -> None:
    write_cache(tmp_path / "one")
    other = small_manifest(name="some-t-ffffffff", identity={"weights": "other"})
    written = write_cache(tmp_path / "other", manifest=other)
    name = generation_name(1)
    (tmp_path / "one" / name).write_bytes((written.root / name).read_bytes())
    with pytest.raises(BadCache, match="generation 1 is that of another cache, some-t-ffffffff") as caught:
        open_cache(tmp_path / "one")
    assert caught.value.where == str(tmp_path / "one") and "take the whole folder" in caught.value.fix


def test_a_manifest_of_another_cache_is_refused(tmp_path: Path) -> None:
    write_cache(tmp_path)
    (tmp_path / FILE_NAME).write_bytes(manifest_bytes(small_manifest(identity={"weights": "other"})))
    with pytest.raises(BadCache, match="generation 1 is that of another cache, some-t-00000000"):
        open_cache(tmp_path)


@pytest.mark.parametrize("linked", ["records", "views", "targets.zarr", "samples", "generations"])
def test_a_linked_folder_is_not_read_through(tmp_path: Path, linked: str) -> None:
    write_cache(tmp_path / "cache")
    (tmp_path / "cache" / linked).rename(tmp_path / "elsewhere")
    (tmp_path / "cache" / linked).symlink_to(tmp_path / "elsewhere")
    text = "no build of this cache has finished" if linked == "generations" else f"'{linked}' is a link"
    with pytest.raises(BadCache, match=text):
        open_cache(tmp_path / "cache").parts("stage4", 0, 0)


def test_the_folder_of_a_cache_may_be_a_link(tmp_path: Path) -> None:
    write_cache(tmp_path / "disk")
    (tmp_path / "cache").symlink_to(tmp_path / "disk")
    assert (open_cache(tmp_path / "cache").parts("stage4", 1, 0)["values"] == 10).all()


def test_a_row_without_targets_is_refused_before_its_numbers_reach_the_pipeline(tmp_path: Path) -> None:
    """The geometry of such a row is all 0: a crash in the decoder, not a picture."""
    written = write_cache(tmp_path, mixed={(0, 0): 1})
    views = open_cache(tmp_path).block_views(0, 0)
    rows = [None if place == 1 else views.row(place) for place in range(3)]
    without = block_views(0, 0, rows, views.pixels)
    assert without.geometry[1].tolist() == [0] * 7
    partners = views.partners
    written.write_targets(ShardKey(0, 0, PASS), without._replace(partners=partners), written.blocks[0].seal)
    written.settle()
    cache = open_cache(tmp_path)
    for index in (1, 0):  # itself, and who is mixed with it
        with pytest.raises(BadCache, match="'b' has no targets under view 0") as caught:
            cache.row(index, 0)
        assert caught.value.where == str(tmp_path) and caught.value.fix
    with pytest.raises(BadCache):
        cache.parts("stage4", 1, 0)
    assert cache.row(2, 0).geometry.crop_h == 8
