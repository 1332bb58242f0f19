"""What a generation sums up of blocks and targets: against slow loops over rows; nobody reads what it says;
caches of before there were sums are read as they are."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from stored_cache import CROP, HandWritten, small_manifest, write_cache

from kdcache.cache.errors import BadCache, BadOption
from kdcache.cache.reader.cache import Cache, open_cache
from kdcache.cache.reader.samples import StoredSamples
from kdcache.cache.record.generation import (
    UNKNOWN,
    BlockEntry,
    Total,
    generation_bytes,
    generation_name,
    newest_generation,
)
from kdcache.cache.record.records import objects_of
from kdcache.cache.record.sums import _sizes, block_entry, divided, totals, with_sums
from kdcache.cache.stores.sample_tars import SampleEntry, bad_entry
from kdcache.cache.tasks.table import DETECTION
from kdcache.cache.views.block_views import BlockViews
from kdcache.trainer.stream.stored_views import check_windows_fit, stored_sizes

SIZE = 3  # samples of a block
# (height, width, objects); None cannot be used
ROWS = [(9, 8, 1), (8, 20, 2), None, (30, 7, 1), (31, 40, 0), (32, 41, 5), (6, 60, 1)]


def entry(number: int, row: tuple[int, int, int] | None) -> SampleEntry:
    if row is None:
        return bad_entry(f"k{number}", columns={"objects": 0})
    height, width, objects = row
    picture = b"\x89PNG picture"
    return SampleEntry(
        f"k{number}", "png", picture, "truth.json", b"{}", height, width, columns={"objects": objects}
    )


def written(root: Path, rows: Sequence[tuple[int, int, int] | None] = ROWS) -> HandWritten:
    cache = HandWritten(root, small_manifest(DETECTION, shard_samples=SIZE))
    for first in range(0, len(rows), SIZE):
        numbered = enumerate(rows[first : first + SIZE], first)
        cache.add_block([entry(number, row) for number, row in numbered])
    return cache


def settle(cache: HandWritten, blocks: Sequence[BlockEntry], totals: Sequence[Total] = ()) -> None:
    """One more generation of the same, with these sums; the third sample cannot be used."""
    number = len(cache.store.list("generations/")) + 1
    content = generation_bytes(
        number, cache.manifest, blocks=blocks, retired=[2], complete=(), records=cache.records, totals=totals
    )
    cache.store.create(generation_name(number), content)


def test_a_block_is_summed_up_as_a_loop_over_its_samples_does(tmp_path: Path) -> None:
    cache = written(tmp_path)
    summed = [block_entry(cache.store, cache.manifest, block) for block in range(3)]
    for block, one in enumerate(summed):
        used = [row for row in ROWS[block * SIZE : (block + 1) * SIZE] if row is not None]
        assert one[:2] == cache.blocks[block][:2]
        assert one[2:] == (sum(row[2] == 0 for row in used), min(r[0] for r in used), min(r[1] for r in used))
    assert list(with_sums(cache.store, cache.manifest, cache.blocks)) == summed
    nobody = written(tmp_path / "bad", [None])
    assert block_entry(nobody.store, nobody.manifest, 0)[2:] == (0, 0, 0)


def test_samples_that_teach_nothing_are_left_out_and_only_their_blocks_are_read(tmp_path: Path) -> None:
    cache = written(tmp_path)
    settle(cache, list(with_sums(cache.store, cache.manifest, cache.blocks)))
    for block in (0, 2):
        (tmp_path / f"samples/{block:05d}.safetensors").unlink()
    samples = StoredSamples(tmp_path)
    assert samples.without(False).tolist() == [2, 4, 7, 8] and samples.without(True).tolist() == [2, 7, 8]


def test_a_cache_of_before_there_were_sums_leaves_out_the_same(tmp_path: Path) -> None:
    cache = written(tmp_path)
    settle(cache, [one._replace(empty=UNKNOWN, height=UNKNOWN, width=UNKNOWN) for one in cache.blocks])
    assert StoredSamples(tmp_path).without(False).tolist() == [2, 4, 7, 8]


@pytest.mark.parametrize("change", [{"empty": 1}, {"height": 9}, {"width": 9}])
def test_sums_that_are_not_those_of_the_samples_are_refused(tmp_path: Path, change: dict[str, int]) -> None:
    cache = written(tmp_path)
    blocks = list(with_sums(cache.store, cache.manifest, cache.blocks))
    settle(cache, [blocks[0]._replace(**change), *blocks[1:]])
    samples = StoredSamples(tmp_path)
    assert samples.key(3) == "k3"
    for read in (lambda: samples.key(0), lambda: list(samples.sides([0]))):
        with pytest.raises(BadCache, match="samples of block 00000 are not those that the generation sums"):
            read()


def test_columns_are_read_as_an_opened_block_gives_them(tmp_path: Path) -> None:
    cache = written(tmp_path)
    settle(cache, cache.blocks)
    closed, opened = StoredSamples(tmp_path), StoredSamples(tmp_path)
    for index in (0, 3, 6):
        opened.key(index)
    for samples in (closed, opened):
        assert samples.column("objects").tolist() == [1, 2, 0, 1, 0, 5, 1, 0, 0]
        sides = {first: sizes.tolist() for first, sizes in samples.sides(range(3))}
        assert sides == {0: [[9, 8], [8, 20], [0, 0]], 3: [[30, 7], [31, 40], [32, 41]], 6: [[6, 60]]}
    assert stored_sizes(closed)[6:].tolist() == [[6, 60], [0, 0], [0, 0]]
    path = tmp_path / "samples/00001.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(BadCache, match="'samples/00001.safetensors' differs"):
        StoredSamples(tmp_path).column("objects")
    path.unlink()
    with pytest.raises(BadCache, match="'samples/00001.safetensors' is missing"):
        StoredSamples(tmp_path).column("objects")


@pytest.mark.parametrize("known", [True, False])
def test_the_largest_window_is_that_of_the_smallest_image_that_is_read(tmp_path: Path, known: bool) -> None:
    cache = written(tmp_path)
    settle(cache, list(with_sums(cache.store, cache.manifest, cache.blocks)) if known else cache.blocks)
    reader = Cache(tmp_path)
    check_windows_fit(reader, (8, 8), 4, reader.invalid)  # 6 and 7 pixels fill two cells of 4
    check_windows_fit(reader, (30, 40), 1, np.array([0, 1, 2, 3, 6, 7, 8]))
    with pytest.raises(BadOption, match="a window of 12x8 does not fit 'k1', which is 8x20") as caught:
        check_windows_fit(reader, (12, 8), 4, reader.invalid)
    assert "at most 8x8" in caught.value.fix
    with pytest.raises(BadOption, match="a window of 6x8 does not fit 'k3', which is 30x7"):
        check_windows_fit(reader, (6, 8), 1, reader.invalid)


def test_windows_that_fit_every_block_are_found_without_reading_one(tmp_path: Path) -> None:
    cache = written(tmp_path)
    settle(cache, list(with_sums(cache.store, cache.manifest, cache.blocks)))
    for path in tmp_path.glob("samples/*"):
        path.unlink()
    reader = Cache(tmp_path)
    check_windows_fit(reader, (6, 7), 1, reader.invalid)
    with pytest.raises(BadCache):
        check_windows_fit(reader, (7, 7), 1, reader.invalid)


# ---- what targets take -------------------------------------------------------------------------------------


def test_a_record_that_counts_no_longer_is_taken_off(tmp_path: Path) -> None:
    cache = write_cache(tmp_path)
    generation = newest_generation(tmp_path)
    assert generation is not None
    whole = totals(cache.store, cache.manifest, cache.records, None)
    (tmp_path / generation_name(1)).unlink()
    settled = generation_bytes(
        1, cache.manifest, blocks=cache.blocks, retired=(), complete=(), records=cache.records, totals=whole
    )
    (tmp_path / generation_name(1)).write_bytes(settled)
    old = newest_generation(tmp_path)
    fewer = [one for one in cache.records if one.block == 0]
    (part,) = totals(cache.store, cache.manifest, fewer, old)
    assert part == totals(cache.store, cache.manifest, fewer, None)[0] and part.values == 2 * 3 * 12
    assert whole[0].values == 2 * 5 * 12
    objects = objects_of(open_cache(tmp_path).targets_record(fewer[0].shard))
    (tmp_path / objects[0].name).unlink()
    assert totals(cache.store, cache.manifest, fewer, None) == (), "nobody knows"
    assert totals(cache.store, cache.manifest, cache.records, old) == whole, "nobody asks"


def test_bytes_are_divided_to_the_last_one() -> None:
    for num_bytes in range(50):
        shares = list(divided(num_bytes, "abc", {"a": 1, "b": 0, "c": 5}))
        assert sum(shares) == num_bytes and shares[1] == 0 and abs(shares[0] * 6 - num_bytes) < 6


def test_sums_belong_to_the_cache_that_they_are_of(tmp_path: Path) -> None:
    cache = write_cache(tmp_path)
    assert replace(cache.manifest).crop == CROP
    entries = list(with_sums(cache.store, cache.manifest, cache.blocks))
    assert [one[2:] for one in entries] == [(0, *CROP), (0, *CROP)], "of maps every sample teaches"


def test_places_without_targets_count_for_no_size() -> None:
    """A pooled tap has as many values whatever the size of its input, also where nothing was shown."""
    geometry = np.array([[9, 9, 0, 0, 0, 4, 5], [0] * 7, [9, 9, 0, 1, 1, 4, 5]], dtype=np.int32)
    nobody = np.zeros(0, dtype=np.int64)
    views = BlockViews(0, 0, np.array([True, False, True]), geometry, np.zeros(3, np.uint64), nobody, [])
    assert _sizes(views) == {(4, 5): 2}
