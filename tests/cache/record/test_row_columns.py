"""Columns of a shard's rows: they come back, and what cannot be is refused."""

import numpy as np
import pytest
from safetensors.numpy import load, save

from kdcache.cache.record.row_columns import columns_name, pack_views, unpack_views
from kdcache.cache.stores.contract import ShardKey
from kdcache.cache.views.block_views import BlockViews, block_views
from kdcache.cache.views.view import View

MIXED = View((("crop", 0, 0, 8, 8), ("mixup", 300, "b")))
PLAIN = View((("crop", 0, 0, 8, 8),))


def columns(mixed: bool = True) -> BlockViews:
    own, other = (MIXED if mixed else PLAIN).row(12, 7, (8, 8)), PLAIN.row(13, 7, (8, 8))
    rows = [own.mixed_with(other) if mixed else own, other, None]
    return block_views(12, 7, rows, np.array([1, 1 << 63, 0], dtype=np.uint64))


def test_the_name_is_fixed_for_good_because_caches_hold_it() -> None:
    assert columns_name(ShardKey(7, 3, "0123abcd")) == "views/00007-v003-0123abcd.safetensors"


@pytest.mark.parametrize("mixed", [True, False])
def test_columns_come_back(mixed: bool) -> None:
    whole = columns(mixed)
    read = unpack_views(pack_views(whole), first=12, number=7, rows=3)
    assert [read.row(place) for place in (0, 1)] == [whole.row(place) for place in (0, 1)]
    assert read.pixels.tolist() == [1, 1 << 63, 0] and read.valid.tolist() == [True, True, False]
    assert read.partner(0) == (13 if mixed else None) and read.partner(1) is None
    names = {"valid", "geometry", "pixels"} | (
        {"partner", "effects.text", "effects.ends"} if mixed else set()
    )
    assert set(load(pack_views(whole))) == names


@pytest.mark.parametrize(
    "change",
    [
        {"valid": np.array([1, 2, 0], np.uint8)},
        {"valid": np.ones(2, np.uint8)},
        {"valid": np.ones(3, bool)},
        {"geometry": np.zeros((3, 6), np.int32)},
        {"pixels": np.zeros(3, np.int64)},
        {"partner": np.array([-2, 0, 0])},
        {"effects.ends": np.array([3, 2, 9])},
    ],
)
def test_columns_that_cannot_be_are_refused(change: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match="column"):
        unpack_views(save(load(pack_views(columns())) | change), first=12, number=7, rows=3)
    with pytest.raises(ValueError, match="column"):
        unpack_views(pack_views(columns()), first=12, number=7, rows=4)
