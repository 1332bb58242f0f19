"""An opened cache: which views are complete, what is refused, what a run records of it."""

from pathlib import Path

import numpy as np
import pytest

from kdcache.cache.errors import BadCache, BadOption
from kdcache.cache.reader.cache import open_cache
from kdcache.cache.record.records import list_records, record_name
from kdcache.cache.stores.contract import ShardKey


def of_view(root: Path, block: int, view: int) -> Path:
    (shard,) = (key for key in list_records(root) if (key.block, key.view) == (block, view))
    return root / record_name(shard)


def test_a_set_of_views_is_complete_when_every_block_of_every_view_is(tiny_cache: Path) -> None:
    assert open_cache(tiny_cache).complete_views(["stage4", "logits"]) == list(
        open_cache(tiny_cache).manifest.views
    )
    of_view(tiny_cache, 1, 1).unlink()
    assert open_cache(tiny_cache).complete_views(["logits"]) == []
    with pytest.raises(BadCache, match="shard 00001 view 1 of 'any target' was never finished") as caught:
        open_cache(tiny_cache).parts("logits", 2, 1)
    assert "continues where it was" in caught.value.fix


def test_views_without_the_samples_of_a_block_are_not_complete(tiny_cache: Path) -> None:
    (tiny_cache / record_name(ShardKey(1))).unlink()
    assert open_cache(tiny_cache).complete_views(["logits"]) == []


@pytest.mark.parametrize(
    ("target", "fix"),
    [
        ("stage1", "--tap stage1"),
        ("stage4.attention", "--for with the loss's name"),
        ("a.logits", "--tap a.logits"),
    ],
)
def test_a_target_that_is_not_kept_names_the_command_that_adds_it(
    tiny_cache: Path, target: str, fix: str
) -> None:
    cache = open_cache(tiny_cache)
    cache.require(["logits", "stage4"])
    with pytest.raises(
        BadOption, match=f"the loss needs '{target}', the cache keeps stage4, logits"
    ) as caught:
        cache.require(["logits", target])
    assert caught.value.fix == f"add it with: kdcache build --cache {cache.manifest.name} {fix}"


def test_samples_are_numbered_over_all_blocks(tiny_cache: Path) -> None:
    cache = open_cache(tiny_cache)
    assert [cache.key(index) for index in range(4)] == ["scene00", "scene01", "scene02", "scene03"]
    assert [cache.find(cache.key(index)) for index in range(4)] == [0, 1, 2, 3]
    assert cache.size(3) == (75, 100) and cache.invalid.tolist() == []
    row = cache.row(3, 1)
    assert (row.sample, row.view, row.geometry) == (3, 1, cache.geometry(3, 1))
    assert (row.geometry.crop_h, row.geometry.crop_w) == (40, 48)
    for outside in (-1, 4):
        with pytest.raises(IndexError, match=f"sample {outside} of 4"):
            cache.image(outside)


def test_a_row_has_every_part_of_its_target(tiny_cache: Path) -> None:
    cache = open_cache(tiny_cache)
    parts = cache.parts("stage4", 2, 1)
    assert {name: (part.shape, part.dtype) for name, part in parts.items()} == {
        "values": ((5, 6, 6), np.uint8),
        "scale": ((2, 6), np.float32),
    }
    for sample, view in ((3, 1), (2, 0), (0, 1)):  # another row, view, block
        assert not np.array_equal(parts["values"], cache.parts("stage4", sample, view)["values"])


@pytest.mark.parametrize("name", ["samples/00000.json", "samples/00000.tar"])
def test_a_changed_byte_is_found_when_a_sample_is_first_read(tiny_cache: Path, name: str) -> None:
    content = (tiny_cache / name).read_bytes()
    (tiny_cache / name).write_bytes(content.replace(b"scene00", b"scene99"))
    with pytest.raises(BadCache, match=f"'{name}' differs") as caught:
        open_cache(tiny_cache).image(0)
    assert caught.value.where == f"{tiny_cache}/{name}" and "--repair" in caught.value.fix
    assert open_cache(tiny_cache, check_digests=False).image(0).size


def test_a_run_records_samples_views_and_every_target(tiny_cache: Path) -> None:
    cache = open_cache(tiny_cache)
    digests = cache.entry_digests()
    assert list(digests) == ["cache", "samples", "views/0", "tap/stage4", "tap/logits"]
    assert digests["cache"] == cache.manifest.name and digests["tap/logits"] == cache.tap("logits").digest
    record = tiny_cache / record_name(ShardKey(1))
    record.write_text(record.read_text().replace('"digest":"', '"digest":"0'))
    changed = open_cache(tiny_cache).entry_digests()
    assert {name for name in digests if digests[name] != changed[name]} == {"samples"}


def test_pixels_are_checked_in_shards_from_all_over_the_cache(tiny_cache: Path) -> None:
    cache = open_cache(tiny_cache)
    rows = [(sample, view) for sample, view, _ in cache.pixel_digests(limit=2)]
    assert [sample // cache.shard_samples for sample, _ in rows] == [0, 1]
    assert len(cache.pixel_digests()) == 4
    assert all(len(digest) == 16 for _, _, digest in cache.pixel_digests())
