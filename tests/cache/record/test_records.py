"""Records: file names that say which shards exist, and what a cache then holds."""

import json
from pathlib import Path

import pytest

from kdcache.cache.errors import BadCache
from kdcache.cache.record.records import (
    Coverage,
    has_record,
    list_records,
    read_record,
    record_name,
    stored_shard_samples,
)
from kdcache.cache.stores.contract import ObjectRecord, ShardKey

PASS, OTHER = "0123abcd", "ffff0000"
SAMPLES, TARGETS = ShardKey(7), ShardKey(7, 3, PASS)


def write(root: Path, shard: ShardKey, **fields: object) -> Path:
    path = root / record_name(shard)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"objects": [["a/b", 3, "b2:00"]], **fields}))
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
    for litter in (".kdtmp-1-1-00007-samples.json", "00008-samples.json.tmp", "7-samples.json", "notes.txt"):
        (tmp_path / "records" / litter).write_text("{}")
    assert list_records(tmp_path) == shards


def test_a_record_comes_back_with_its_objects(tmp_path: Path) -> None:
    assert not has_record(tmp_path, TARGETS)
    write(tmp_path, TARGETS, rows=4)
    record = read_record(tmp_path, TARGETS)
    assert has_record(tmp_path, TARGETS) and not has_record(tmp_path, SAMPLES)
    assert record["rows"] == 4 and record["objects"] == [ObjectRecord("a/b", 3, "b2:00")]


@pytest.mark.parametrize("content", ["", '{"rows": 1}', '{"objects": 5}', '{"objects": [["a"]]}', "[1]"])
def test_a_torn_record_names_its_shard_its_file_and_the_way_out(tmp_path: Path, content: str) -> None:
    path = write(tmp_path, TARGETS)
    path.write_text(content)
    with pytest.raises(BadCache, match="the record of shard 00007 view 3 cannot be read") as caught:
        read_record(tmp_path, TARGETS)
    assert caught.value.where == str(path) and "--repair" in caught.value.fix


def test_a_missing_record_is_named_too(tmp_path: Path) -> None:
    with pytest.raises(BadCache, match=r"the record of shard 00007 \(samples\) cannot be read"):
        read_record(tmp_path, SAMPLES)


def test_samples_per_shard_are_known_without_a_manifest(tmp_path: Path) -> None:
    assert stored_shard_samples(tmp_path) is None
    write(tmp_path, ShardKey(0), shard_samples=48)
    assert stored_shard_samples(tmp_path) == 48


def test_what_exists_is_told_by_records_and_the_table_of_passes() -> None:
    first, second, samples = ShardKey(0, 1, PASS), ShardKey(1, 1, OTHER), ShardKey(0)
    unknown = ShardKey(0, 2, "deadbeef")  # of a pass that the manifest does not name
    coverage = Coverage({samples, first, second, unknown}, {PASS: ("logits", "stage4"), OTHER: ("stage4",)})
    assert coverage.samples == {0}
    assert coverage.key("stage4", 1, 0) == first and coverage.key("stage4", 1, 1) == second
    assert coverage.key("logits", 1, 1) is None and coverage.key("stage4", 0, 1) is None
    assert coverage.missing(("stage4", "logits"), 1, 0) == ()
    assert coverage.missing(("stage4", "logits"), 1, 1) == ("logits",)
    assert coverage.missing(("stage4", "logits"), 2, 0) == ("stage4", "logits")
    assert list(coverage.keys()) == [first, second]
