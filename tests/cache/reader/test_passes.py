"""Targets of several passes of the teacher over one block and view: one geometry, or an error."""

from pathlib import Path

import numpy as np
import pytest
from stored_cache import KEYS, PASS, SHARD, TAP, HandWritten, entry, small_manifest

from kdcache.cache.errors import BadCache
from kdcache.cache.reader.cache import open_cache
from kdcache.cache.record.generation import RecordEntry
from kdcache.cache.record.manifest import TapEntry, pass_id
from kdcache.cache.record.records import TargetsRecord, record_bytes, record_name
from kdcache.cache.record.row_columns import columns_name, pack_views
from kdcache.cache.record.sealed import seal_of
from kdcache.cache.stores.contract import ShardKey
from kdcache.cache.views.block_views import BlockViews

LATER_TAP = TapEntry(name="logits", tap="logits", module="head", stride=4, channels=3, codec="fp16")
LATER = pass_id(("logits",), {"logits": LATER_TAP})


def two_passes(root: Path, **changes: np.ndarray) -> HandWritten:
    """Block 0 under view 0, seen by a second pass whose columns are those of the first but for `changes`."""
    passes = {PASS: (TAP.name,), LATER: ("logits",)}
    cache = HandWritten(root, small_manifest(taps=(TAP, LATER_TAP), passes=passes))
    cache.add_block([entry(key) for key in KEYS[0]])
    cache.add_targets(0, 0, KEYS[0])
    cache.settle()
    _record_later(cache, open_cache(root).block_views(0, 0)._replace(**changes))
    cache.settle()
    return cache


def _record_later(cache: HandWritten, views: BlockViews) -> None:
    shard = ShardKey(0, 0, LATER)
    record = TargetsRecord(
        block=0, view=0, pass_id=LATER, targets=("logits",), samples=cache.blocks[0].seal, rows=SHARD,
        views=cache.store.put(columns_name(shard), pack_views(views)), objects=(),
    )  # fmt: skip
    content = record_bytes(record)
    cache.store.create(record_name(shard), content)
    cache.records.append(RecordEntry(*shard, seal_of(content)))


def valid(*rows: int) -> np.ndarray:
    return np.array([row in rows for row in range(SHARD)])


def test_a_later_pass_may_leave_out_rows_that_had_retired_by_then(tmp_path: Path) -> None:
    two_passes(tmp_path, valid=valid(0, 2))
    views = open_cache(tmp_path).block_views(0, 0)
    assert views.valid.tolist() == [True, True, True] and views.pixels.tolist() == [1000, 1010, 1020]


@pytest.mark.parametrize(
    "changes",
    [
        {"pixels": np.array([1000, 1011, 1020], dtype=np.uint64)},
        {"geometry": np.array([[8, 8, flip, 0, 0, 8, 8] for flip in (0, 0, 1)], dtype=np.int32)},
    ],
)
def test_two_passes_that_saw_other_pixels_are_refused(tmp_path: Path, changes: dict[str, np.ndarray]) -> None:
    two_passes(tmp_path, **changes)
    with pytest.raises(BadCache, match="two passes of the teacher saw other pixels in shard 00000 view 0"):
        open_cache(tmp_path).parts(TAP.name, 0, 0)


def test_rows_that_only_one_of_two_passes_has_are_not_compared(tmp_path: Path) -> None:
    pixels = np.array([1000, 0, 1020], dtype=np.uint64)  # of a row that is not there
    two_passes(tmp_path, valid=valid(0, 2), pixels=pixels)
    assert open_cache(tmp_path).pixel_digest(1, 0) == 1010


def test_a_run_records_the_targets_of_every_pass(tmp_path: Path) -> None:
    two_passes(tmp_path)
    first, second = (open_cache(tmp_path, generation=number).entry_digests() for number in (1, 2))
    assert list(first) == ["cache", "samples", "views/0", "tap/stage4", "tap/logits"]
    assert {name for name in first if first[name] != second[name]} == {"views/0", "tap/logits"}


def test_a_target_that_was_never_finished_says_so_beside_one_that_was(tmp_path: Path) -> None:
    two_passes(tmp_path)
    cache = open_cache(tmp_path, generation=1)
    assert (cache.parts(TAP.name, 0, 0)["values"] == 0).all()
    with pytest.raises(BadCache, match="shard 00000 view 0 of 'logits' was never finished") as caught:
        cache.parts("logits", 0, 0)
    assert "continues where it was" in caught.value.fix
