"""An opened cache: which views are complete, what is refused, what a run records of it."""

from pathlib import Path

import numpy as np
import pytest
from manifests import OTHER_SEAL
from stored_cache import KEYS, small_manifest, write_cache

from kdcache.cache.errors import BadCache, BadOption, Missing
from kdcache.cache.reader.cache import Cache, open_cache
from kdcache.cache.record.records import list_records, record_name
from kdcache.cache.stores.contract import ShardKey
from kdcache.cache.views.sets import ViewSet


def of_view(root: Path, block: int, view: int) -> Path:
    (shard,) = (key for key in list_records(root) if (key.block, key.view) == (block, view))
    return root / record_name(shard)


def test_a_set_of_views_is_complete_when_the_generation_says_so(tmp_path: Path) -> None:
    more = ViewSet(kind="full", first=2, count=1)
    manifest = small_manifest(views=(*small_manifest().views, more))
    written = write_cache(tmp_path, manifest=manifest)  # counts the first set alone
    cache = open_cache(tmp_path)
    assert [v.first for v in cache.complete_views(["stage4"])] == [0] and cache.view_numbers() == [0, 1]
    assert [v.first for v in cache.complete_views(())] == [0] and cache.complete_views(["logits"]) == []
    assert cache.complete_views(["stage4", "logits"]) == [], "a run reads all of its targets from one view"
    assert len(list(cache.stored_rows())) == 2 * 5
    with pytest.raises(BadCache, match="shard 00000 view 7 of 'any target' was never finished") as caught:
        cache.row(0, 7)
    assert caught.value.where == str(written.root) and "continues where it was" in caught.value.fix


def test_a_record_that_was_lost_is_an_error_and_not_fewer_views(tiny_cache: Path) -> None:
    complete = open_cache(tiny_cache).complete_views(["stage4", "logits"])
    assert complete == list(open_cache(tiny_cache).manifest.views)
    of_view(tiny_cache, 1, 1).unlink()
    cache = open_cache(tiny_cache)
    assert cache.complete_views(["logits"]) == complete
    with pytest.raises(BadCache, match="the record of shard 00001 view 1 is missing") as caught:
        cache.parts("logits", 2, 1)
    assert caught.value.where == str(of_view_name(tiny_cache)) and "--repair" in caught.value.fix


def of_view_name(root: Path) -> Path:
    """Where the record of block 1, view 1 lay: beside that of view 0."""
    other = of_view(root, 1, 0)
    return other.with_name(other.name.replace("v000", "v001"))


def test_a_lost_record_of_samples_is_an_error_for_whoever_reads_them(tiny_cache: Path) -> None:
    (tiny_cache / record_name(ShardKey(1))).unlink()
    cache = open_cache(tiny_cache)
    cache.image(0)
    for read in (Cache.image, Cache.truth, Cache.key, Cache.size, lambda c, i: c.row(i, 0)):
        with pytest.raises(BadCache, match=r"the record of shard 00001 \(samples\) is missing"):
            read(cache, 2)  # type: ignore[operator]


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


def test_each_row_has_the_target_and_the_pixel_digest_that_were_written_for_it(tmp_path: Path) -> None:
    write_cache(tmp_path)
    cache = open_cache(tmp_path)
    for index, key in ((0, "a"), (2, "c"), (3, "d"), (4, "e")):
        assert cache.key(index) == key and cache.image(index).tobytes().endswith(key.encode())
        for view in (0, 1):
            assert (cache.parts("stage4", index, view)["values"] == 10 * index + view).all()
            assert cache.pixel_digest(index, view) == 1000 + 10 * index + view
    assert list(cache.stored_rows()) == [(index, view) for view in (0, 1) for index in range(5)]


@pytest.mark.parametrize("name", ["samples/00000.safetensors", "samples/00000.tar"])
def test_a_changed_byte_is_noticed_when_a_sample_is_first_read(tiny_cache: Path, name: str) -> None:
    content = (tiny_cache / name).read_bytes()
    (tiny_cache / name).write_bytes(content.replace(b"scene00", b"scene99"))
    with pytest.raises(BadCache, match=f"'{name}' differs") as caught:
        open_cache(tiny_cache).image(0)
    assert caught.value.where == f"{tiny_cache}/{name}" and "--repair" in caught.value.fix
    assert open_cache(tiny_cache, check_digests=False).image(0).size


@pytest.mark.parametrize("kind", ["views", "targets.zarr"])
def test_a_changed_byte_of_targets_or_of_their_columns_is_noticed(tiny_cache: Path, kind: str) -> None:
    (record,) = (k for k in list_records(tiny_cache) if (k.block, k.view) == (0, 1))
    below = sorted((tiny_cache / kind).rglob("*"))
    path = next(p for p in below if p.is_file() and (f"v001-{record.pass_id}" in p.name or "c/1/0" in str(p)))
    content = bytearray(path.read_bytes())
    content[-30] ^= 1
    path.write_bytes(content)
    cache = open_cache(tiny_cache)
    cache.parts("stage4", 0, 0)  # of another view
    name = path.relative_to(tiny_cache).as_posix()
    for _ in range(2):  # the second time too
        with pytest.raises(BadCache, match=f"'{name}' differs") as caught:
            cache.parts("stage4", 0, 1)
        assert caught.value.where == f"{tiny_cache}/{name}" and "--repair" in caught.value.fix


def test_a_run_records_samples_views_and_every_target(tmp_path: Path) -> None:
    written = write_cache(tmp_path)
    before = open_cache(tmp_path).entry_digests()
    assert list(before) == ["cache", "samples", "views/0", "tap/stage4"]
    assert before["cache"] == written.manifest.name
    written.settle()
    assert open_cache(tmp_path).entry_digests() == before, "another number alone is no other contents"
    written.settle(retired=[1])
    assert changed(before, open_cache(tmp_path).entry_digests()) == {"samples"}
    mixed = {(0, 1): 2}
    written.add_targets(0, 1, KEYS[0], mixed)
    written.settle()
    assert changed(before, open_cache(tmp_path).entry_digests()) == {"views/0", "tap/stage4"}


def test_a_run_records_which_samples_it_saw(tmp_path: Path) -> None:
    """Other images or labels under the same indices."""
    written = write_cache(tmp_path)
    before = open_cache(tmp_path).entry_digests()
    written.blocks[1] = written.blocks[1]._replace(seal=OTHER_SEAL)
    written.settle()
    assert changed(before, open_cache(tmp_path).entry_digests()) == {"samples"}


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {name for name in before if before[name] != after[name]}


def test_a_sample_of_rows_is_spread_over_samples_and_views(tmp_path: Path) -> None:
    write_cache(tmp_path)
    rows = list(open_cache(tmp_path).stored_rows(limit=4))
    assert len(set(rows)) == 4 and {view for _, view in rows} == {0, 1}
    assert {index // 3 for index, _ in rows} == {0, 1}
    assert len(list(open_cache(tmp_path).stored_rows(limit=10**6))) == 5 * 2


def test_a_folder_that_is_none_and_one_that_no_build_finished_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Missing, match="is not a cache"):
        open_cache(tmp_path)
    written = write_cache(tmp_path)
    written.store.remove("generations/00001.json")
    with pytest.raises(BadCache, match="no build of this cache has finished") as caught:
        open_cache(tmp_path)
    assert caught.value.where == str(tmp_path) and "continues where it was" in caught.value.fix
