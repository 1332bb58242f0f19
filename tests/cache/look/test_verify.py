"""Verifying: every kind of damage is found and named, also what belongs together and does not."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cache_scene import damage
from resealed import reseal

from kdcache.cache.errors import BadCache, Missing
from kdcache.cache.look.verify import damaged_shards, problems, unfinished
from kdcache.cache.reader.cache import open_cache
from kdcache.cache.record.generation import newest_generation, read_generation
from kdcache.cache.record.records import list_records, objects_of, read_record, record_name
from kdcache.cache.record.row_columns import columns_name
from kdcache.cache.stores.contract import ShardKey


def of_view(root: Path, block: int, view: int) -> ShardKey:
    (shard,) = (key for key in list_records(root) if (key.block, key.view) == (block, view))
    return shard


def titles(root: Path) -> list[str]:
    return [problem.title for problem in problems(root)]


def lost(root: Path) -> list[ShardKey]:
    generation = newest_generation(root)
    assert generation is not None
    return damaged_shards(root, generation)


def test_a_whole_cache_has_no_problem_and_every_byte_of_it_is_read(tiny_cache: Path) -> None:
    seen: list[int] = []
    assert list(problems(tiny_cache, seen.append)) == [] and lost(tiny_cache) == []
    records = [read_record(tiny_cache, key)[0] for key in list_records(tiny_cache)]
    assert sum(seen) == sum(entry.num_bytes for record in records for entry in objects_of(record))
    named = {entry.name for record in records for entry in objects_of(record)}
    assert {name.split("/")[0] for name in named} == {"samples", "views", "targets.zarr"}


@pytest.mark.parametrize(
    ("harm", "text"), [("remove", "is missing"), ("cut", "bytes, its record says"), ("flip", "differs")]
)
@pytest.mark.parametrize("kind", ["targets", "columns"])
def test_damage_of_an_object_is_found_and_its_shard_named(
    tiny_cache: Path, harm: str, text: str, kind: str
) -> None:
    shard = of_view(tiny_cache, 0, 1)
    targets = next((tiny_cache / "targets.zarr").rglob("stage4/5x6/values/c/1/0/0/0/0"))
    victim = targets if kind == "targets" else tiny_cache / columns_name(shard)
    whole = victim.read_bytes()
    if harm == "remove":
        victim.unlink()
    else:
        victim.write_bytes(whole[:-1] if harm == "cut" else bytes([whole[0] ^ 1]) + whole[1:])
    (problem,) = problems(tiny_cache)
    assert problem.title == "shard 00000 view 1" and text in problem.text
    assert str(victim.relative_to(tiny_cache)) in problem.text
    assert lost(tiny_cache) == [shard]


@pytest.mark.parametrize("suffix", ["tar", "safetensors"])
def test_damaged_samples_are_a_shard_of_their_own(tiny_cache: Path, suffix: str) -> None:
    (tiny_cache / f"samples/00001.{suffix}").unlink()
    assert [(p.key, p.title) for p in problems(tiny_cache)] == [(ShardKey(1), "shard 00001 (samples)")]


def test_a_torn_record_is_a_problem_and_not_the_end_of_the_search(tiny_cache: Path) -> None:
    (tiny_cache / record_name(of_view(tiny_cache, 0, 0))).write_text("{")
    (tiny_cache / "samples/00001.tar").unlink()
    assert titles(tiny_cache) == ["shard 00000 view 0", "shard 00001 (samples)"]
    assert lost(tiny_cache) == [of_view(tiny_cache, 0, 0), ShardKey(1)]


def test_a_missing_record_is_lost_and_not_unfinished(tiny_cache: Path) -> None:
    shard = of_view(tiny_cache, 1, 0)
    (tiny_cache / record_name(shard)).unlink()
    (problem,) = problems(tiny_cache)
    assert problem.title == "shard 00001 view 0" and problem.text.endswith("is missing")
    shutil.rmtree(tiny_cache / "records")
    assert len(titles(tiny_cache)) == 6, "and all of them where all are gone"


def test_two_records_that_changed_places_are_found(tiny_cache: Path) -> None:
    """Both are sealed, and both are of this cache."""
    one, other = (tiny_cache / record_name(of_view(tiny_cache, 0, view)) for view in (0, 1))
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    assert titles(tiny_cache) == ["shard 00000 view 0", "shard 00000 view 1"]


def test_a_record_that_is_sealed_anew_is_not_the_one_that_counts(tiny_cache: Path) -> None:
    shard = of_view(tiny_cache, 0, 0)
    reseal(tiny_cache / record_name(shard), lambda plain: plain.update(samples="x3:" + "0" * 32))
    (problem,) = problems(tiny_cache)
    assert problem.key == shard and "another one than the cache's generation names" in problem.text


def test_targets_of_other_samples_are_found_where_every_seal_fits(tiny_cache: Path) -> None:
    """As when somebody puts back samples, records and generation of before an update."""
    shard, path = of_view(tiny_cache, 0, 0), tiny_cache / "generations" / "00001.json"
    record = tiny_cache / record_name(shard)
    reseal(record, lambda plain: plain.update(samples="x3:" + "0" * 32))
    seal = json.loads(record.read_text())["seal"]

    def point_at_it(plain: dict[str, list[list[object]]]) -> None:
        (entry,) = (entry for entry in plain["records"] if entry[:2] == [0, 0])
        entry[3] = seal

    reseal(path, point_at_it)
    (problem,) = problems(tiny_cache)
    assert problem.key == shard and "made from other samples" in problem.text
    with pytest.raises(BadCache, match="made from other samples"):
        open_cache(tiny_cache).parts("stage4", 0, 0)


@pytest.mark.parametrize("name", ["manifest.json", "generations/00001.json"])
def test_a_flipped_bit_in_what_is_of_no_shard_is_found_and_named(tiny_cache: Path, name: str) -> None:
    damage(tiny_cache / name)
    assert titles(tiny_cache) == [name]
    assert {problem.key for problem in problems(tiny_cache)} == {None}


def test_what_counted_before_a_damaged_generation_is_looked_at_too(tiny_cache: Path) -> None:
    generation = read_generation(tiny_cache, 1)
    (tiny_cache / "generations" / "00002.json").write_text("{")
    (tiny_cache / "samples" / "00000.tar").unlink()
    assert generation.num_blocks == 2
    assert titles(tiny_cache) == ["generations/00002.json", "shard 00000 (samples)"]


def test_the_manifest_of_another_cache_is_found(tiny_cache: Path) -> None:
    """A reader refuses to open such a cache, and verify must not call it whole."""
    reseal(tiny_cache / "manifest.json", lambda plain: plain["identity"].update(weights="other"))
    with pytest.raises(BadCache, match="is that of another cache"):
        open_cache(tiny_cache)
    assert titles(tiny_cache) == ["manifest.json"]


def torn(path: Path) -> None:
    path.write_text(path.read_text()[:-20])


def with_shape(path: Path, axis: int, length: int) -> None:
    plain = json.loads(path.read_text())
    plain["shape"][axis] = length
    path.write_text(json.dumps(plain))


def fewer_samples(path: Path) -> None:
    with_shape(path, 1, 3)


def other_cells(path: Path) -> None:
    with_shape(path, 3, 7)


@pytest.mark.parametrize("harm", [Path.unlink, torn, fewer_samples, other_cells])
def test_a_description_of_an_array_that_would_mislead_other_readers_is_found(
    tiny_cache: Path, harm: Callable[[Path], object]
) -> None:
    harm(next((tiny_cache / "targets.zarr").rglob("stage4/5x6/values/zarr.json")))
    (problem,) = problems(tiny_cache)
    assert problem.key is None and "stage4/5x6/values" in problem.text
    assert lost(tiny_cache) == [], "any build writes it anew"


def test_a_link_in_the_place_of_a_file_is_not_followed(tiny_cache: Path, tmp_path: Path) -> None:
    tar = tiny_cache / "samples" / "00000.tar"
    outside = tmp_path / "outside.tar"
    shutil.move(tar, outside)
    tar.symlink_to(outside)
    assert titles(tiny_cache) == ["shard 00000 (samples)"]


def test_a_cache_of_another_format_is_refused_and_not_searched(tiny_cache: Path) -> None:
    (tiny_cache / "manifest.json").write_text(
        '{"format": 1, "teacher_origin": "r101", "data_spec": "camvid:/d d"}'
    )
    with pytest.raises(BadCache, match="has format 1, this kdcache reads 2") as caught:
        list(problems(tiny_cache))
    assert caught.value.fix == "build it again: kdcache build --teacher r101 --data 'camvid:/d d'"


def test_a_folder_that_is_no_cache_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Missing, match="is not a cache"):
        list(problems(tmp_path))


def test_what_is_recorded_beyond_the_generation_is_unfinished_and_no_damage(tiny_cache: Path) -> None:
    shard = of_view(tiny_cache, 0, 0)
    later = shard._replace(view=7)
    shutil.copy(tiny_cache / record_name(shard), tiny_cache / record_name(later))
    assert unfinished(tiny_cache) == [later] and list(problems(tiny_cache)) == []
    shutil.rmtree(tiny_cache / "generations")
    assert len(unfinished(tiny_cache)) == 7 and list(problems(tiny_cache)) == []
