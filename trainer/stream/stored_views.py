"""Which stored row a sample shows in an epoch, and which part of it: crops are replayed, full views are cut.

Crops: view (epoch + hash of key) mod K of the cache's K stored crops, whole. Fit: likewise, the image on its
canvas and, with `--mirror`, its mirror image.
Turns: likewise one of K stored fours, whose rows are the sample turned by 0, 90, 180 and 270 degrees.
Full views: the whole image was seen once, and once mirrored with `--mirror`. In each epoch a window is
drawn, without scale, its corner on a cell of every map that the cache keeps: its cells are cells of the maps.
With a mirrored view the parity of (epoch + hash of key) chooses which of the two is cut.
"""

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from kdcache.cache.errors import BadCache, BadOption
from kdcache.cache.reader.cache import Cache
from kdcache.cache.reader.row_batch import RowBatch
from kdcache.cache.spec import ceil_div
from kdcache.cache.views.draw import QUARTERS, window_view
from kdcache.cache.views.sets import FIT, MIRROR_OF, ViewSet
from kdcache.cache.views.view import Row, Window
from kdcache.trainer.stream.arrays.view_table import ViewTable

FAMILIES = ("crops", "full", "turns", FIT)


class StoredViews(Protocol):
    crop: tuple[int, int]  # height, width of every batch in pixels
    sets: tuple[ViewSet, ...]
    rows_per_sample: int  # rows of a batch that show one sample, one after another

    def row(self, index: int, epoch: int, quarter: int = 0) -> Row:
        """Row `quarter` of the sample's rows."""
        ...

    def batch(
        self, samples: np.ndarray, epochs: np.ndarray, table: ViewTable | None
    ) -> tuple[RowBatch, Sequence[Window]]:
        """All rows of these samples, (B,) each, as `row` gives them one by one; and where they are cut, the
        window of each. `table`: of `numbers`, where there is one."""
        ...

    def numbers(self) -> list[int]:
        """Of the stored views that are read."""
        ...


class CropViews:
    """Stored crops or canvases of one size, replayed; of turned views the four that belong together."""

    def __init__(self, cache: Cache, sets: Sequence[ViewSet]) -> None:
        assert sets and sets[0].crop is not None
        self._cache = cache
        self.sets = tuple(sets)
        self.crop = sets[0].crop
        self.rows_per_sample = QUARTERS if sets[0].kind == "turns" else 1
        self._numbers = [n for s in sets for n in range(s.first, s.first + s.count, self.rows_per_sample)]

    def row(self, index: int, epoch: int, quarter: int = 0) -> Row:
        first = self._numbers[(epoch + self._cache.key_hash(index)) % len(self._numbers)]
        return self._cache.row(index, first + quarter)

    def batch(
        self, samples: np.ndarray, epochs: np.ndarray, table: ViewTable | None
    ) -> tuple[RowBatch, Sequence[Window]]:
        number = np.uint64(len(self._numbers))
        # Both reduced before they are added: a hash fills its 64 bits.
        hashes = self._cache.key_hashes(samples)
        chosen = (hashes % number + epochs.astype(np.uint64) % number) % number
        quarters = np.arange(self.rows_per_sample)
        columns = (chosen.astype(np.int64)[:, None] * self.rows_per_sample + quarters).reshape(-1)
        samples = np.repeat(samples, self.rows_per_sample)
        if table is not None and table.whole:
            return table.batch(samples, columns, self._cache.shard_samples), ()
        return self._cache.row_batch(samples, np.array(self.numbers())[columns]), ()

    def numbers(self) -> list[int]:
        return [first + quarter for first in self._numbers for quarter in range(self.rows_per_sample)]


class WindowViews:
    """Windows of whole stored images, drawn in every epoch from (seed, key, epoch)."""

    rows_per_sample = 1

    def __init__(
        self,
        cache: Cache,
        sets: Sequence[ViewSet],
        *,
        crop: tuple[int, int],
        seed: int,
        strides: Sequence[int],
    ) -> None:
        self._cache = cache
        self.sets = tuple(sets)
        self.crop = crop
        self._seed = seed
        # A corner lies on a cell of every map; the finest map ends first at the right and bottom.
        self._stride, self._finest = math.lcm(*strides), math.gcd(*strides)
        self._numbers = [s.first for s in sets]
        self._mirrored = [s.kind == "mirror" for s in sets]

    def row(self, index: int, epoch: int, quarter: int = 0) -> Row:
        assert quarter == 0, "windows are not turned"
        chosen = (epoch + self._cache.key_hash(index)) % len(self._numbers)
        height, width = self._cache.size(index)
        view, window = window_view(
            seed=self._seed,
            key=self._cache.key(index),
            epoch=epoch,
            height=height,
            width=width,
            crop=self.crop,
            stride=self._stride,
            finest_stride=self._finest,
            mirror=self._mirrored[chosen],
        )
        return view.row(index, self._numbers[chosen], (height, width))._replace(window=window)

    def batch(
        self, samples: np.ndarray, epochs: np.ndarray, table: ViewTable | None
    ) -> tuple[RowBatch, Sequence[Window]]:
        assert table is None, "windows are drawn in every epoch"
        pairs = zip(samples.tolist(), epochs.tolist(), strict=True)
        rows = [self.row(index, epoch) for index, epoch in pairs]
        geometry = np.array([row.geometry for row in rows], dtype=np.int32)
        views = np.array([row.view for row in rows])
        return RowBatch(samples, views, geometry, (), None, ()), [row.window for row in rows if row.window]

    def numbers(self) -> list[int]:
        return list(self._numbers)

    @property
    def beside(self) -> int:
        """Pixels beyond its image that a window shows at most: what fills up the finest cells."""
        return self._finest


def choose_views(
    cache: Cache,
    needs: Sequence[str],
    *,
    family: str | None,
    crop: tuple[int, int] | None,
    seed: int,
    invalid: np.ndarray,
) -> StoredViews:
    """The views a stream reads: the named family, or that of the first view set; only sets complete for
    `needs`.

    Of crops, those of size `crop` (default: that of the first set); of full views, windows of size `crop`
    (default: the manifest's). Raises BadOption or BadCache when there are none, or when a window does not
    fit an image.
    """
    family = family or _family(cache.manifest.views[0])
    sets = _complete_sets(cache, needs, family)
    if family != "full":
        return CropViews(cache, _crops_of_size(cache, sets, crop))
    # Of all taps, not of the needed ones: runs with different losses then see the same windows.
    strides = [t.stride for t in cache.manifest.taps if t.stride] or [1]
    crop = crop or cache.manifest.crop
    check_windows_fit(cache, crop, math.gcd(*strides), invalid)
    return WindowViews(cache, sets, crop=crop, seed=seed, strides=strides)


def _complete_sets(cache: Cache, needs: Sequence[str], family: str) -> list[ViewSet]:
    """The family's view sets that hold every need for every sample; unfinished ones are left out."""
    if family not in FAMILIES:
        raise BadOption(f"unknown views '{family}'", where="--views", fix=f"legal: {', '.join(FAMILIES)}")
    claimed = [s for s in cache.manifest.views if _family(s) == family]
    if not claimed:
        raise BadOption(
            f"the cache keeps no {family} views, only {_family(cache.manifest.views[0])}",
            where=f"cache {cache.manifest.name}",
            fix=f"add them with: kdcache build --cache {cache.manifest.name} --views {_spelled(family)}",
        )
    complete = cache.complete_views(needs)
    sets = [s for s in claimed if s in complete]
    if not sets:
        raise BadCache(
            f"no {family} view is finished for {', '.join(needs) or 'any target'}",
            where=f"cache {cache.manifest.name}",
            fix=f"finish it with: kdcache build --cache {cache.manifest.name}",
        )
    return sets


def check_windows_fit(cache: Cache, crop: tuple[int, int], finest: int, invalid: np.ndarray) -> None:
    """Refuse a window that some image, padded to the finest cells, cannot hold, and say which could."""
    there = [(block, cache.generation.blocks[block]) for block in cache.generation.block_numbers]
    bounds = np.array([(entry.height, entry.width) for _, entry in there]).reshape(-1, 2)
    fits = np.all(_padded(bounds, finest) >= crop, axis=1)  # no bound is known of some
    doubtful = [block for (block, _), sure in zip(there, fits.tolist(), strict=True) if not sure]
    smallest, indices = _smallest(cache, doubtful, finest, invalid)
    if (smallest >= crop).all():
        return
    smallest, indices = _smallest(cache, cache.generation.block_numbers, finest, invalid)
    index = int(indices[0 if crop[0] > smallest[0] else 1])
    height, width = cache.size(index)
    raise BadOption(
        f"a window of {crop[0]}x{crop[1]} does not fit '{cache.key(index)}', which is {height}x{width}",
        where=f"full views of cache {cache.manifest.name}",
        fix=f"use a crop of at most {smallest[0]}x{smallest[1]}, or crop views "
        "(kdcache build --views crops:8)",
    )


def _smallest(
    cache: Cache, blocks: Sequence[int], finest: int, invalid: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The smallest padded height and the smallest padded width among the samples of these blocks that are not
    `invalid`, and the first sample that has each; of no sample as large as can be."""
    smallest, indices = np.full(2, np.iinfo(np.int64).max), np.zeros(2, dtype=np.int64)
    for first, sides in cache.sides(blocks):
        padded = _padded(sides, finest)
        padded[invalid[slice(*np.searchsorted(invalid, [first, first + len(sides)]))] - first] = smallest
        for side in (0, 1):
            if len(padded) and padded[:, side].min() < smallest[side]:
                place = int(padded[:, side].argmin())
                smallest[side], indices[side] = padded[place, side], first + place
    return smallest, indices


def _padded(sides: np.ndarray, finest: int) -> np.ndarray:
    """Pixels up to the next whole cell."""
    padded: np.ndarray = -(-sides // finest) * finest
    return padded


def stored_sizes(cache: Cache) -> np.ndarray:
    """Height and width of every sample, (num_samples, 2) int64, 0 at holes: 16 bytes a sample."""
    sizes = np.zeros((cache.num_samples, 2), dtype=np.int64)
    for first, sides in cache.sides(cache.generation.block_numbers):
        sizes[first : first + len(sides)] = sides
    return sizes


def cells(window: Window, stride: int) -> tuple[slice, slice]:
    """The rows and columns of a map of `stride` that a window covers; its corner is a multiple of it."""
    y, x = window.y // stride, window.x // stride
    return slice(y, y + ceil_div(window.height, stride)), slice(x, x + ceil_div(window.width, stride))


def _family(views: ViewSet) -> str:
    return next((whole for whole, mirror in MIRROR_OF.items() if mirror == views.kind), views.kind)


def _spelled(family: str) -> str:
    return {"crops": "crops:8", "turns": "turns:2"}.get(family, family)


def _crops_of_size(cache: Cache, sets: Sequence[ViewSet], crop: tuple[int, int] | None) -> list[ViewSet]:
    """A batch has one size, so crops of several sizes are never mixed."""
    wanted = crop or sets[0].crop
    of_size = [s for s in sets if s.crop == wanted]
    if of_size or wanted is None:
        return of_size
    have = ", ".join(sorted({f"{s.crop[0]}x{s.crop[1]}" for s in sets if s.crop}))
    raise BadOption(
        f"the cache keeps crops of {have}, not of {wanted[0]}x{wanted[1]}",
        where=f"cache {cache.manifest.name}",
        fix="leave --crop out for the stored crops, or build with that --crop under another $KDCACHE_HOME",
    )
