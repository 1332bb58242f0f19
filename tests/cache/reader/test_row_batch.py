"""A batch of rows at once is what its rows are one by one: views, partners, targets, and what is refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from stored_cache import KEYS, PASS, SHARD, HandWritten, small_manifest, write_cache

from kdcache.cache.errors import BadCache, KdError
from kdcache.cache.reader import resident
from kdcache.cache.reader.cache import Cache, open_cache
from kdcache.cache.reader.row_batch import RowBatch
from kdcache.cache.record.records import read_targets_record, record_name
from kdcache.cache.stores.contract import ShardKey
from kdcache.cache.views.block_views import NOBODY

STORES = {"zarr": {}, "zstd": {"zstd": True}, "webdataset": {"target_format": "webdataset"}}
SHAPES = {"values": ((2, 2, 3), np.uint8), "scale": ((2, 3), np.float32)}
MIXED = {(0, 0): 4, (2, 0): 1, (3, 1): 0, (4, 0): 0}


@pytest.fixture(params=["resident", "block by block"], autouse=True)
def _room(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to put a batch together, and neither does another thing than the other."""
    if request.param != "resident":
        monkeypatch.setattr(resident, "RESIDENT_BYTES", 0)


@pytest.fixture(params=STORES)
def written(request: pytest.FixtureRequest, tmp_path: Path) -> HandWritten:
    return write_cache(tmp_path, mixed=MIXED, manifest=small_manifest(**STORES[request.param]))


def drawn(cache: Cache, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Living rows of all blocks and views in no order, some of them twice."""
    rows = np.array(list(cache.stored_rows()))[np.random.default_rng(seed).integers(0, 10, count)]
    return rows[:, 0], rows[:, 1]


def gathered(cache: Cache, rows: RowBatch, part: str) -> np.ndarray:
    shape, kind = SHAPES[part]
    out = np.full((len(rows.samples), *shape), 99, dtype=kind)
    cache.gather("stage4", rows, part, out)
    return out


@pytest.mark.parametrize("count", [1, 2, 7, 40])
def test_a_batch_is_its_rows_one_by_one(written: HandWritten, count: int) -> None:
    cache = open_cache(written.root)
    samples, views = drawn(cache, count, seed=count)
    rows = cache.row_batch(samples, views)
    assert [rows.row(i) for i in range(count)] == [
        cache.row(*one) for one in zip(samples, views, strict=True)
    ]
    for part in SHAPES:
        one_by_one = [cache.parts("stage4", s, v)[part] for s, v in zip(samples, views, strict=True)]
        np.testing.assert_array_equal(gathered(cache, rows, part), one_by_one)
    np.testing.assert_array_equal(gathered(cache, rows, "values")[:, 0, 0, 0], 10 * samples + views)


def test_two_batches_in_turn_are_two(written: HandWritten) -> None:
    cache = open_cache(written.root)
    batches = [cache.row_batch(*drawn(cache, 5, seed)) for seed in (1, 2)]
    for _ in range(2):
        for rows in batches:
            assert (gathered(cache, rows, "values")[:, 0, 0, 0] == 10 * rows.samples + rows.views).all()


def test_a_partner_has_targets_too_and_where_nobody_is_nothing_is_written(written: HandWritten) -> None:
    cache = open_cache(written.root)
    rows = cache.row_batch(np.array([0, 1, 2, 3, 4]), np.array([0, 0, 0, 1, 0]))
    assert rows.partners is not None and rows.partners.samples.tolist() == [4, NOBODY, 1, 0, 0]
    assert rows.partners.views.tolist() == [0, NOBODY, 0, 1, 0] and not any(rows.partners.effects)
    assert gathered(cache, rows.partners, "values")[:, 0, 0, 0].tolist() == [40, 99, 10, 1, 0]


def test_a_batch_in_which_nobody_is_mixed_says_so(written: HandWritten) -> None:
    rows = open_cache(written.root).row_batch(np.array([1, 0]), np.array([0, 1]))
    assert rows.partners is None and len(rows.effects) == 0


def test_an_empty_batch_is_one_too(written: HandWritten) -> None:
    cache = open_cache(written.root)
    rows = cache.row_batch(np.zeros(0, np.int64), np.zeros(0, np.int64))
    assert len(gathered(cache, rows, "values")) == len(cache.key_hashes(rows.samples)) == 0
    assert cache.sizes(rows.samples).shape == (0, 2)


def test_keys_and_sizes_of_many_samples_are_those_of_each(written: HandWritten) -> None:
    cache = open_cache(written.root)
    samples = np.array([4, 0, 3, 3, 1])
    assert cache.key_hashes(samples).tolist() == [cache.key_hash(i) for i in samples]
    assert cache.sizes(samples).tolist() == [list(cache.size(i)) for i in samples]


def refusal(read: Callable[[], object]) -> tuple[type, str, str]:
    with pytest.raises((KdError, IndexError)) as caught:
        read()
    error = caught.value
    return type(error), getattr(error, "what", str(error)), getattr(error, "fix", "")


@pytest.mark.parametrize("index", [-1, 5, 6, 1 << 40])
def test_an_index_that_nobody_has_is_refused_alike(written: HandWritten, index: int) -> None:
    cache, other = open_cache(written.root), np.array([0, index])
    alone = refusal(lambda: cache.row(index, 0))
    assert refusal(lambda: cache.row_batch(other, np.zeros(2, np.int64))) == alone
    assert refusal(lambda: cache.key_hashes(other)) == refusal(lambda: cache.sizes(other)) == alone


@pytest.mark.parametrize("view", [-1, 7])
def test_a_view_that_is_not_stored_is_refused_alike(written: HandWritten, view: int) -> None:
    cache = open_cache(written.root)
    alone = refusal(lambda: cache.row(0, view))
    assert refusal(lambda: cache.row_batch(np.array([0, 1]), np.array([0, view]))) == alone


@pytest.mark.parametrize("index", [1, 2])
def test_a_row_without_targets_is_refused_alike_and_so_is_who_is_mixed_with_it(
    written: HandWritten, index: int
) -> None:
    views = open_cache(written.root).block_views(0, 0)
    changed = views._replace(valid=np.array([True, False, True]))
    written.write_targets(ShardKey(0, 0, PASS), changed, written.blocks[0].seal)
    written.settle()
    cache = open_cache(written.root)
    alone = refusal(lambda: cache.row(index, 0))
    assert "'b' has no targets under view 0" in alone[1]
    assert refusal(lambda: cache.row_batch(np.array([0, index]), np.array([0, 0]))) == alone


def test_a_row_without_targets_is_refused_where_no_row_has_effects(tmp_path: Path) -> None:
    written = write_cache(tmp_path)
    views = open_cache(tmp_path).block_views(0, 0)._replace(valid=np.array([True, False, True]))
    written.write_targets(ShardKey(0, 0, PASS), views, written.blocks[0].seal)
    written.settle()
    cache = open_cache(tmp_path)
    assert len(cache.row_batch(np.array([0, 2]), np.array([0, 0])).samples) == 2
    alone = refusal(lambda: cache.row(1, 0))
    assert refusal(lambda: cache.row_batch(np.array([0, 1]), np.array([0, 0]))) == alone


@pytest.mark.parametrize("partners", [[1, NOBODY, 1], [5, NOBODY, 1], [NOBODY, NOBODY, 1], [4, 0, 1], None])
def test_partners_that_disagree_are_refused_alike(tmp_path: Path, partners: list[int] | None) -> None:
    written = write_cache(tmp_path, mixed=MIXED)
    views = open_cache(tmp_path).block_views(0, 0)
    column = np.array(partners if partners is not None else [], dtype=np.int64)
    written.write_targets(ShardKey(0, 0, PASS), views._replace(partners=column), written.blocks[0].seal)
    written.settle()
    cache = open_cache(tmp_path)
    bad = 1 if partners == [4, 0, 1] else 0
    alone = refusal(lambda: cache.row(bad, 0))
    assert alone[0] is BadCache and "is mixed with" in alone[1]
    assert refusal(lambda: cache.row_batch(np.array([3, bad]), np.array([0, 0]))) == alone


def test_damage_is_seen_before_a_number_of_it_reaches_a_batch(written: HandWritten) -> None:
    (record, _) = read_targets_record(written.root, ShardKey(1, 1, PASS))
    path = written.root / record.objects[0].name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    cache = open_cache(written.root)
    rows = cache.row_batch(np.array([0, 3]), np.array([1, 1]))
    out = np.full((2, 2, 2, 3), 99, dtype=np.uint8)
    with pytest.raises(BadCache, match="differs") as caught:
        cache.gather("stage4", rows, "values", out)
    assert "--repair" in caught.value.fix and (out[1] == 99).all()


def test_a_lost_record_is_refused_alike(written: HandWritten) -> None:
    (written.root / record_name(ShardKey(1, 0, PASS))).unlink()
    alone = refusal(lambda: open_cache(written.root).row(3, 0))
    assert refusal(lambda: open_cache(written.root).row_batch(np.array([1, 3]), np.array([0, 0]))) == alone


def test_a_sample_mixed_in_from_a_later_block_is_read_there(tmp_path: Path) -> None:
    write_cache(tmp_path, mixed={(0, 1): 4})
    rows = open_cache(tmp_path).row_batch(np.array([0]), np.array([1]))
    assert rows.partners is not None and rows.partners.samples.tolist() == [4] and 4 // SHARD == 1
    assert rows.effects[0][-1][-1] == KEYS[1][1]
