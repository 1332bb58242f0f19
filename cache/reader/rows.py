"""The pixels of a stored row as the image pipeline wants them: geometry, effects, and who is mixed in."""

from collections.abc import Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

from kdcache.cache.errors import BadCache
from kdcache.cache.images.feed import Feed, Partner
from kdcache.cache.reader.cache import Cache
from kdcache.cache.stores.contract import REPAIR
from kdcache.cache.stores.sample_tars import SampleBlock
from kdcache.cache.views.view import Geometry, Op, partner_key, without_mixing

_rows_by_key: WeakKeyDictionary[SampleBlock, dict[str, int]] = WeakKeyDictionary()


class ViewRow(NamedTuple):
    """One stored view of one sample."""

    geometry: Geometry
    effects: tuple[Op, ...]
    partner: int | None  # index of the sample that is mixed in


def view_row(cache: Cache, index: int, view: int) -> ViewRow:
    """What the record says of sample `index` under view number `view`."""
    block, row = divmod(index, cache.shard_samples)
    stored = cache.block_views(block, view)
    effects = stored.effects(row)
    key = partner_key(effects)
    return ViewRow(stored.geometry(row), effects, None if key is None else _partner(cache, index, key))


def partner_of(cache: Cache, index: int | None, view: int) -> Partner | None:
    """The pixels of a partner: its own view of the same number, without its mixing."""
    if index is None:
        return None
    row = view_row(cache, index, view)
    return Partner(cache.image(index), row.geometry, without_mixing(row.effects))


def pixel_feed(cache: Cache, rows: Sequence[tuple[int, int]]) -> Feed:
    """The images of (sample, view) pairs, without labels."""
    found = [view_row(cache, index, view) for index, view in rows]
    return Feed(
        encoded=[cache.image(index) for index, _ in rows],
        labels=[],
        geometry=[row.geometry for row in found],
        passengers=[],
        effects=[row.effects for row in found],
        partners=[partner_of(cache, row.partner, view) for row, (_, view) in zip(found, rows, strict=True)],
    )


def mixes(cache: Cache) -> bool:
    """Whether some view of the cache shows two samples."""
    return any(views.recipe.mixes for views in cache.manifest.views)


def _partner(cache: Cache, index: int, key: str) -> int:
    """A partner's index; it is a sample of the same block."""
    block, row = cache.samples(index)
    if block not in _rows_by_key:
        _rows_by_key[block] = {name: place for place, name in enumerate(block.keys)}
    found = _rows_by_key[block].get(key)
    if found is None:
        raise BadCache(
            f"'{block.keys[row]}' is mixed with '{key}', which is not in its shard",
            where=str(cache.root),
            fix=REPAIR,
        )
    return index - row + found
