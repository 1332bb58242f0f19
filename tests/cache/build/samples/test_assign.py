"""Which block takes which new samples: the free numbers in order, and what a dead builder packed as it is."""

import pytest
from cache_scene import Scene, add, counted_store, damage, images, living_rows, remove, repaint, tree

from kdcache.cache.build.build import build_cache
from kdcache.cache.build.samples.assign import Assignment, assign
from kdcache.cache.look.verify import pixel_check, problems, unfinished
from kdcache.cache.reader.cache import Cache, open_cache
from kdcache.cache.record.records import list_records
from kdcache.cache.sources.table import open_source
from kdcache.cache.stores.contract import ShardKey

NEW = ("aaa", "mmm", "nnn", "zzz")  # two blocks: 3 and 4


class Killed(BaseException):
    """The builder died here."""


def grow(scene: Scene, *names: str) -> None:
    for number, name in enumerate(names):
        add(scene, name, 10 + number)


def dies_after_packing(scene: Scene, *, records: int) -> None:
    """A builder that has recorded so many new shards, of samples first."""
    there = len(list_records(scene.cache))

    def at(operation: int, moment: str) -> None:
        if len(list_records(scene.cache)) == there + records:
            raise Killed

    with counted_store(at), pytest.raises(Killed):
        build_cache(scene.options())


def keys_of(cache: Cache) -> list[list[str]]:
    """Of the living samples, by block."""
    keys: list[list[str]] = [[] for _ in range(cache.num_blocks)]
    for index in cache.living.tolist():
        keys[index // cache.shard_samples].append(cache.key(index))
    return keys


OLD = [["scene00", "scene01", "scene02"], ["scene03", "scene04", "scene05"], ["scene06"]]


def whole(scene: Scene) -> bool:
    living_rows(scene.cache)
    cache = open_cache(scene.cache)
    return not list(problems(cache.root)) and not list(pixel_check(cache)) and not unfinished(cache.root)


def assigned(scene: Scene, *wanted: str) -> Assignment:
    source = open_source(f"folder:{scene.data}", "train")
    beyond = {key for key in list_records(scene.cache) if key.block >= 3}
    assignment = assign(scene.cache, source, wanted, beyond, counted=3, shard_samples=3, keep=True)
    assert beyond == {key for key in list_records(scene.cache) if key.block >= 3}, "who goes is known to go"
    return assignment


def test_new_samples_go_to_new_blocks_in_the_order_of_the_source(scene: Scene) -> None:
    """The last block has room for two, and is never touched."""
    files = tree(scene.cache)
    grow(scene, *NEW)
    build_cache(scene.options())
    assert keys_of(open_cache(scene.cache)) == [*OLD, ["aaa", "mmm", "nnn"], ["zzz"]]
    now = tree(scene.cache)
    growing = {"manifest.json", *(name for name in files if name.endswith("zarr.json"))}
    assert {n: now[n] for n in files if n not in growing} == {n: files[n] for n in files if n not in growing}


def test_what_was_packed_is_kept_and_the_rest_follows(scene: Scene) -> None:
    grow(scene, *NEW)
    dies_after_packing(scene, records=1)
    packed = assigned(scene, *NEW)
    assert (packed.num_blocks, dict(packed.to_pack), packed.unwanted) == (5, {4: ("zzz",)}, frozenset())
    build_cache(scene.options())
    assert keys_of(open_cache(scene.cache)) == [*OLD, ["aaa", "mmm", "nnn"], ["zzz"]] and whole(scene)


def test_what_came_since_fills_the_next_numbers(scene: Scene) -> None:
    grow(scene, *NEW)
    dies_after_packing(scene, records=1)
    grow(scene, "aab")
    build_cache(scene.options())
    assert keys_of(open_cache(scene.cache))[3:] == [["aaa", "mmm", "nnn"], ["aab", "zzz"]] and whole(scene)


def test_a_packed_sample_that_changed_since_never_counts_and_gets_a_row(scene: Scene) -> None:
    grow(scene, *NEW)
    dies_after_packing(scene, records=3)
    repaint(next(p for p in images(scene) if p.stem == "mmm"), 99)
    build_cache(scene.options())
    cache = open_cache(scene.cache)
    assert keys_of(cache)[3:] == [["aaa", "nnn"], ["zzz"], ["mmm"]] and cache.generation.retired.tolist() == [
        10
    ]
    assert whole(scene)


def test_a_packed_sample_that_is_gone_since_never_counts(scene: Scene) -> None:
    grow(scene, *NEW)
    dies_after_packing(scene, records=3)
    remove(next(p for p in images(scene) if p.stem == "mmm"))
    build_cache(scene.options())
    assert keys_of(open_cache(scene.cache))[3:] == [["aaa", "nnn"], ["zzz"]] and whole(scene)


def test_a_block_of_which_nothing_is_wanted_any_more_goes(scene: Scene) -> None:
    grow(scene, *NEW)
    files = tree(scene.cache)
    dies_after_packing(scene, records=3)
    for name in NEW:
        remove(next(p for p in images(scene) if p.stem == name))
    report = build_cache(scene.options())
    assert not report.settled and {k.block for k in list_records(scene.cache)} == {0, 1, 2}
    left = tree(scene.cache).keys() - files.keys()
    assert {name for name in left if not name.startswith("stamps/")} == set()


def test_a_number_between_two_that_are_kept_stays_a_number(scene: Scene) -> None:
    """The first of two packed blocks is no longer wanted: the second keeps its name, and its indices."""
    grow(scene, *NEW)
    dies_after_packing(scene, records=2)
    for name in NEW[:3]:
        remove(next(p for p in images(scene) if p.stem == name))
    assert assigned(scene, "zzz").to_pack == {3: ()}
    build_cache(scene.options())
    cache = open_cache(scene.cache)
    assert keys_of(cache)[3:] == [[], ["zzz"]] and cache.living.tolist() == [*range(7), 12] and whole(scene)
    build_cache(scene.options(update=True))
    assert whole(scene)


def test_a_damaged_unfinished_block_is_packed_again(scene: Scene) -> None:
    grow(scene, *NEW)
    dies_after_packing(scene, records=2)
    damage(scene.cache / "records" / "00003-samples.json")
    build_cache(scene.options())
    assert keys_of(open_cache(scene.cache))[3:] == [["aaa", "mmm", "nnn"], ["zzz"]] and whole(scene)
    assert ShardKey(3) in open_cache(scene.cache).generation.seals
