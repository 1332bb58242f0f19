"""Rows of two samples: the partner is an index, of any block, and must be whom the effects name."""

from pathlib import Path

import numpy as np
import pytest
from stored_cache import KEYS, PASS, HandWritten, entry, write_cache

from kdcache.cache.errors import BadCache
from kdcache.cache.reader.cache import open_cache
from kdcache.cache.record.records import record_name
from kdcache.cache.stores.contract import ShardKey
from kdcache.cache.views.block_views import NOBODY


def columns_of(written: HandWritten, partners: list[int] | None, effects: list[str] | None = None) -> None:
    """Block 0 under view 0 with other columns, everything sealed anew."""
    views = open_cache(written.root).block_views(0, 0)
    column = np.zeros(0, dtype=np.int64) if partners is None else np.array(partners, dtype=np.int64)
    changed = views._replace(partners=column, effects=views.effects if effects is None else effects)
    written.write_targets(ShardKey(0, 0, PASS), changed, written.blocks[0].seal)
    written.settle()


@pytest.mark.parametrize(("partner", "key"), [(2, "c"), (4, "e")])
def test_a_row_comes_with_its_partner_also_from_another_block(tmp_path: Path, partner: int, key: str) -> None:
    write_cache(tmp_path, mixed={(0, 1): partner, (partner, 1): 1})
    row = open_cache(tmp_path).row(0, 1)
    assert row.effects == (("mixup", 300, key),) and row.own_share == 0.3
    assert row.partner is not None and (row.partner.sample, row.partner.view) == (partner, 1)
    assert row.partner.effects == () and row.partner.partner is None  # its own mixing is not shown
    assert open_cache(tmp_path).row(0, 0).partner is None  # under another view


def test_a_partner_is_an_index_so_that_of_two_samples_with_one_key_it_is_the_right_one(
    tmp_path: Path,
) -> None:
    """'b' was edited: its new row, 3, has the old key. Who was mixed with the old one keeps it."""
    written = HandWritten(tmp_path)
    written.add_block([entry(key) for key in KEYS[0]])
    edited = entry("b")._replace(image=b"\x89PNG another image")
    written.add_block([edited, entry("e")])
    for block, keys in enumerate(KEYS):
        written.add_targets(block, 0, keys, {(0, 0): 1})
    written.settle(retired=[1])
    cache = open_cache(tmp_path)
    assert cache.key(3) == cache.key(1) == "b" and cache.find("b") == 3
    row = cache.row(0, 0)
    assert row.partner is not None and row.partner.sample == 1
    assert cache.image(row.partner.sample).tobytes() != cache.image(3).tobytes()


@pytest.mark.parametrize(
    ("partners", "text"),
    [
        ([1, NOBODY, NOBODY], "'a' is mixed with 'c' under view 0, its columns point at 'b'"),
        ([4, NOBODY, NOBODY], "'a' is mixed with 'c' under view 0, its columns point at 'e'"),
        ([5, NOBODY, NOBODY], "columns point at 'index 5, which nobody has'"),  # a hole
        ([1 << 40, NOBODY, NOBODY], "columns point at 'index 1099511627776, which nobody has'"),
        ([NOBODY, NOBODY, 0], "'a' is mixed with 'c' under view 0, its columns point at nobody"),
        (None, "'a' is mixed with 'c' under view 0, its columns point at nobody"),
    ],
)
def test_a_partner_column_that_disagrees_with_the_effects_is_refused(
    tmp_path: Path, partners: list[int] | None, text: str
) -> None:
    written = write_cache(tmp_path, mixed={(0, 0): 2})
    assert open_cache(tmp_path).row(0, 0).partner is not None
    columns_of(written, partners)
    with pytest.raises(BadCache, match=text) as caught:
        open_cache(tmp_path).row(0, 0)
    assert caught.value.where == str(tmp_path) and "kdcache build --repair" in caught.value.fix


@pytest.mark.parametrize("effects", [["", "", ""], []])
def test_a_partner_that_no_effect_names_is_refused(tmp_path: Path, effects: list[str]) -> None:
    written = write_cache(tmp_path, mixed={(0, 0): 2})
    columns_of(written, [2, NOBODY, NOBODY], effects)
    with pytest.raises(BadCache, match="'a' is mixed with nobody under view 0, its columns point at 'c'"):
        open_cache(tmp_path).row(0, 0)


def test_a_partner_of_a_lost_block_is_refused(tmp_path: Path) -> None:
    written = write_cache(tmp_path, mixed={(0, 0): 4})
    written.blocks.pop()
    written.add_lost()
    written.records = [one for one in written.records if one.block == 0]
    written.settle()
    with pytest.raises(BadCache, match="'index 4, which nobody has'"):
        open_cache(tmp_path).row(0, 0)


def test_a_partner_without_columns_under_this_view_is_an_error(tmp_path: Path) -> None:
    write_cache(tmp_path, mixed={(0, 0): 4})
    (tmp_path / record_name(ShardKey(1, 0, PASS))).unlink()
    with pytest.raises(BadCache, match="the record of shard 00001 view 0 is missing"):
        open_cache(tmp_path).row(0, 0)
