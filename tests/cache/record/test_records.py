"""Records: file names that say which shards exist, seals that say that nothing was changed, swapped or
lost."""

from itertools import product
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from manifests import OTHER_SEAL, SEAL

from kdcache.cache.errors import BadCache
from kdcache.cache.record.records import (
    Coverage,
    Record,
    SamplesRecord,
    TargetsRecord,
    file_name,
    file_names,
    list_records,
    objects_of,
    read_record,
    read_samples_record,
    read_targets_record,
    record_bytes,
    record_name,
    shards_of,
)
from kdcache.cache.record.sealed import seal_of, sealed
from kdcache.cache.stores.contract import ObjectRecord, ShardKey

PASS, OTHER = "0123abcd", "ffff0000"
SAMPLES, TARGETS = ShardKey(7), ShardKey(7, 3, PASS)
OBJECT, VIEWS = ObjectRecord("a/b", 3, SEAL), ObjectRecord("views/x", 5, SEAL)


def record_of(shard: ShardKey) -> Record:
    if shard.of_samples:
        return SamplesRecord(block=shard.block, rows=4, objects=(OBJECT,))
    return TargetsRecord(
        block=shard.block, view=shard.view, pass_id=shard.pass_id, targets=("logits",), samples=SEAL, rows=4,
        views=VIEWS, objects=(OBJECT,),
    )  # fmt: skip


def write(root: Path, shard: ShardKey) -> Path:
    path = root / record_name(shard)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(record_bytes(record_of(shard)))
    return path


def test_names_of_records_are_fixed_for_good_because_caches_hold_them() -> None:
    assert record_name(SAMPLES) == "records/00007-samples.json"
    assert record_name(TARGETS) == "records/00007-v003-0123abcd.json"
    assert record_name(ShardKey(123456, 1000, PASS)) == "records/123456-v1000-0123abcd.json"


def test_a_shard_is_shown_by_its_block_and_view() -> None:
    assert SAMPLES.title == "shard 00007 (samples)" and TARGETS.title == "shard 00007 view 3"
    assert SAMPLES.of_samples and not TARGETS.of_samples and not ShardKey(0, 0, PASS).of_samples


def test_the_folder_tells_every_shard_and_nothing_else(tmp_path: Path) -> None:
    assert list_records(tmp_path) == set()
    shards = {SAMPLES, TARGETS, ShardKey(0), ShardKey(123456, 1000, OTHER)}
    for shard in shards:
        write(tmp_path, shard)
    litter_names = (
        *(".kdtmp-1-1-00007-samples.json", "00008-samples.json.tmp", "7-samples.json", "notes.txt"),
        *("000009-samples.json", "00009-v0003-0123abcd.json", "00009-v003-0123ABCD.json"),
        *("00009-samples.json\n", "\u0660\u0660\u0660\u0660\u0661-samples.json"),
    )
    for litter in litter_names:
        (tmp_path / "records" / litter).write_text("{}")
    assert list_records(tmp_path) == shards


def test_a_linked_folder_of_records_holds_none(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    write(tmp_path / "elsewhere", SAMPLES)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "records").symlink_to(tmp_path / "elsewhere" / "records")
    assert list_records(tmp_path / "cache") == set()
    with pytest.raises(BadCache, match="'records' is a link"):
        read_record(tmp_path / "cache", SAMPLES)


@pytest.mark.parametrize("shard", [SAMPLES, TARGETS])
def test_a_record_comes_back_with_its_seal_and_all_of_its_objects(tmp_path: Path, shard: ShardKey) -> None:
    path = write(tmp_path, shard)
    record, seal = read_record(tmp_path, shard)
    assert record == record_of(shard) and record.shard == shard and seal == seal_of(path.read_bytes())
    assert objects_of(record) == ((OBJECT,) if shard.of_samples else (VIEWS, OBJECT))
    assert read_record(tmp_path, shard, seal) == (record, seal)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rows", -1),
        ("rows", 1 << 40),
        ("rows", "4"),
        ("block", -1),
        ("samples", "nothing"),
        ("targets", ["../logits"]),
        ("targets", "logits"),
        ("objects", [["a", -3, SEAL]]),
        ("objects", [["a", 3]]),
        ("views", None),
        ("kind", "samples"),
        ("objects", [["a", 3, SEAL, 1]]),
        ("objects", [["", 3, SEAL]]),
        ("objects", [["a\nb", 3, SEAL]]),
        ("objects", [["a", 3.5, SEAL]]),
        ("objects", [["a", 1 << 60, SEAL]]),
        ("view", -1),
        ("view", True),
        ("targets", [""]),
        ("rows", None),
        ("more", 1),
    ],
)
def test_a_value_that_cannot_be_is_refused_even_under_a_seal(
    tmp_path: Path, name: str, value: object
) -> None:
    plain = msgspec.to_builtins(record_of(TARGETS)) | {name: value}
    path = write(tmp_path, TARGETS)
    path.write_bytes(sealed(plain))
    with pytest.raises(BadCache, match="the record of shard 00007 view 3 cannot be read") as caught:
        read_targets_record(tmp_path, TARGETS)
    assert caught.value.where == str(path) and "--repair" in caught.value.fix


def test_a_missing_record_is_named_too(tmp_path: Path) -> None:
    with pytest.raises(BadCache, match=r"the record of shard 00007 \(samples\) is missing"):
        read_samples_record(tmp_path, 7)


@pytest.mark.parametrize("other", [ShardKey(8, 3, PASS), ShardKey(7, 2, PASS), ShardKey(7, 3, OTHER)])
def test_a_record_under_another_shards_name_is_refused(tmp_path: Path, other: ShardKey) -> None:
    content = write(tmp_path, TARGETS).read_bytes()
    write(tmp_path, other).write_bytes(content)
    with pytest.raises(BadCache, match=f"the record of {other.title} is that of shard 00007 view 3"):
        read_targets_record(tmp_path, other)


def test_samples_of_another_block_are_refused(tmp_path: Path) -> None:
    content = write(tmp_path, SAMPLES).read_bytes()
    write(tmp_path, ShardKey(8)).write_bytes(content)
    with pytest.raises(BadCache, match=r"the record of shard 00008 \(samples\) is that of shard 00007"):
        read_samples_record(tmp_path, 8)


def test_another_record_than_the_generation_names_is_refused(tmp_path: Path) -> None:
    write(tmp_path, TARGETS)
    with pytest.raises(BadCache, match="another one than the cache's generation names") as caught:
        read_targets_record(tmp_path, TARGETS, OTHER_SEAL)
    assert f"named {OTHER_SEAL}" in caught.value.what and "--repair" in caught.value.fix


def test_what_exists_is_told_by_records_and_the_table_of_passes() -> None:
    first, second, samples = ShardKey(0, 1, PASS), ShardKey(1, 1, OTHER), ShardKey(0)
    unknown = ShardKey(0, 2, "deadbeef")  # of a pass that the manifest does not name
    coverage = Coverage({samples, first, second, unknown}, {PASS: ("logits", "stage4"), OTHER: ("stage4",)})
    assert coverage.key("stage4", 1, 0) == first and coverage.key("stage4", 1, 1) == second
    assert coverage.key("logits", 1, 1) is None and coverage.key("stage4", 0, 1) is None
    assert coverage.missing(("stage4", "logits"), 1, 0) == ()
    assert coverage.missing(("stage4", "logits"), 1, 1) == ("logits",)
    assert coverage.missing(("stage4", "logits"), 2, 0) == ("stage4", "logits")
    assert list(coverage.keys()) == [first, second]


def slow_holders(
    shards: set[ShardKey], passes: dict[str, tuple[str, ...]]
) -> dict[tuple[str, int, int], str]:
    """(target, view, block) -> the last of the passes that wrote it."""
    holders: dict[tuple[str, int, int], str] = {}
    for shard in sorted(shards):
        for target in passes.get(shard.pass_id, ()):
            holders[target, shard.view, shard.block] = shard.pass_id
    return holders


MADE = st.tuples(st.integers(0, 3), st.integers(0, 2), st.sampled_from("abcd")).map(
    lambda key: ShardKey(*key)
)
OF_PASSES = st.fixed_dictionaries({}, optional={m: st.just(t) for m, t in zip(
    "abc", (("x",), ("x", "y"), ("y", "z")), strict=True)})  # fmt: skip


@given(before=st.sets(MADE), added=st.sets(MADE), passes=OF_PASSES)
def test_what_is_covered_is_what_a_slow_loop_says(
    before: set[ShardKey], added: set[ShardKey], passes: dict[str, tuple[str, ...]]
) -> None:
    holders = slow_holders(before | added, passes)
    first = Coverage(before, {})
    for coverage in (Coverage(before | added, passes), first.grown(added, passes)):
        assert set(coverage.keys()) == {ShardKey(b, v, made) for (_, v, b), made in holders.items()}
        assert list(coverage.keys()) == sorted(coverage.keys())
        for target, view in product("xyz", range(3)):
            blocks = {b for t, v, b in holders if (t, v) == (target, view)}
            assert coverage.blocks(target, view) == blocks
            for block in range(4):
                made = holders.get((target, view, block))
                assert coverage.key(target, view, block) == (made and ShardKey(block, view, made))
        for target in "xyz":
            assert coverage.count(target) == sum(t == target for t, _, _ in holders)
    assert {key[2] for key in before} == {made for _, made in first.by_pass}, "what it grew from is as it was"
    assert sum(map(len, first.by_pass.values())) == len(before)


def test_files_are_named_alike_one_by_one_and_all_at_once() -> None:
    shards = {SAMPLES, TARGETS, ShardKey(0), ShardKey(123456, 1000, OTHER), ShardKey(3, 3, PASS)}
    made: dict[tuple[int, str], list[int]] = {}
    for block, view, pass_id in shards:
        made.setdefault((view, pass_id), []).append(block)
    assert sorted(file_names(made)) == sorted(map(file_name, shards))
    assert shards_of(map(file_name, shards)) == shards
