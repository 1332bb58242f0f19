"""The rows of a shard before the teacher sees them: which are there, what each shows, who is mixed in.

Views are drawn from (seed, key, view number). A sample is mixed with one of its own block; where a block has
only one, with one of the nearest block before it. Who is mixed in is chosen once: another pass of the teacher
over the same rows takes whom the first one recorded, for by then there may be others to choose from.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from kdcache.cache.build.plan import Work
from kdcache.cache.build.write import Written
from kdcache.cache.record.manifest import Manifest
from kdcache.cache.record.records import read_samples_record
from kdcache.cache.spec import RowParts, TensorSpec
from kdcache.cache.stores.contract import bad_object
from kdcache.cache.stores.local import LocalStore
from kdcache.cache.stores.object_check import object_problem
from kdcache.cache.stores.sample_tars import SampleBlock, open_samples
from kdcache.cache.views.block_views import block_views
from kdcache.cache.views.sets import ViewSet
from kdcache.cache.views.view import Row, partner_key
from kdcache.cache.views.words import TableWords

MAX_OPEN = 64  # blocks whose columns are kept; work goes through them in order


class PackedImages:
    """Samples as the builder packed them, by index over all blocks."""

    def __init__(self, store: LocalStore, shard_samples: int) -> None:
        self.store, self.shard_samples = store, shard_samples
        self._blocks: dict[int, tuple[SampleBlock, str]] = {}

    def block(self, number: int) -> SampleBlock:
        return self._opened(number)[0]

    def seal(self, number: int) -> str:
        """Of the record of a block's samples."""
        return self._opened(number)[1]

    def image(self, index: int) -> np.ndarray:
        block, row = divmod(index, self.shard_samples)
        return self.block(block).image(row)

    def key(self, index: int) -> str:
        block, row = divmod(index, self.shard_samples)
        return self.block(block).keys[row]

    def _opened(self, number: int) -> tuple[SampleBlock, str]:
        if number not in self._blocks:
            record, seal = read_samples_record(self.store.root, number)
            for entry in record.objects:
                if problem := object_problem(self.store, entry):
                    raise bad_object(problem, str(self.store.root))
            if len(self._blocks) >= MAX_OPEN:
                self._blocks.clear()
            self._blocks[number] = open_samples(self.store, number, record.rows), seal
        return self._blocks[number]


class Living(NamedTuple):
    """The samples that are drawn: those of these blocks that are valid, but for the rows `dead`."""

    blocks: frozenset[int]
    dead: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One shard before and after the teacher, in sample order; None where a place holds no targets."""

    work: Work
    first: int  # index of the block's first sample
    samples: str  # seal of the record of its samples
    rows: list[Row | None]
    pixels: np.ndarray  # (rows,) uint64, filled in as the teacher sees them
    targets: dict[str, list[RowParts | None]] = field(default_factory=dict)
    sizes: dict[str, list[TensorSpec | None]] = field(default_factory=dict)

    def to_compute(self) -> Iterator[Row]:
        """Rows without targets yet."""
        target = self.work.targets[0]
        for place, row in enumerate(self.rows):
            if row is not None and self.targets[target][place] is None:
                yield row

    def written(self) -> Written:
        """The shard as it is stored."""
        key = self.work.shard
        views = block_views(self.first, key.view, self.rows, self.pixels)
        return Written(key, self.work.targets, self.samples, views, self.targets, self.sizes)


def draw_shard(
    manifest: Manifest, packed: PackedImages, work: Work, living: Living, partners: Mapping[int, int]
) -> Shard:
    """The living rows of a shard. `partners`: place -> index of who is mixed in, where that is known."""
    block, number = work.shard.block, work.shard.view
    samples, first = packed.block(block), block * manifest.shard_samples
    drawn = manifest.view_set(number)
    places = _places(samples, first, living)
    keys = {samples.keys[place]: first + place for place in places}
    if drawn.recipe.mixes and len(keys) == 1:
        keys |= _before(packed, block, living)
    draw = _Drawing(drawn, packed, number)
    rows: list[Row | None] = [None] * len(samples)
    everybody = list(keys)
    for place in places:
        among, known = keys, everybody
        if place in partners:  # of two a row takes the other
            among = {samples.keys[place]: first + place, packed.key(partners[place]): partners[place]}
            known = list(among)
        own = draw.row(first + place, known)
        partner = partner_key(own.effects)
        rows[place] = own if partner is None else own.mixed_with(draw.row(among[partner], known))
    return Shard(
        work=work,
        first=first,
        samples=packed.seal(block),
        rows=rows,
        pixels=np.zeros(len(rows), dtype=np.uint64),
        targets={t: [None] * len(rows) for t in work.targets},
        sizes={t: [None] * len(rows) for t in work.targets},
    )


def _places(samples: SampleBlock, first: int, living: Living) -> list[int]:
    return [place for place, good in enumerate(samples.valid) if good and first + place not in living.dead]


def _before(packed: PackedImages, block: int, living: Living) -> dict[str, int]:
    """Key -> index of the samples of the nearest block before this one that has any."""
    for number in sorted((b for b in living.blocks if b < block), reverse=True):
        samples, first = packed.block(number), number * packed.shard_samples
        if places := _places(samples, first, living):
            return {samples.keys[place]: first + place for place in places}
    return {}


class _Drawing:
    """One view of the samples of a block, and of those of another block that are mixed in."""

    def __init__(self, drawn: ViewSet, packed: PackedImages, number: int) -> None:
        self._drawn, self._packed, self._number = drawn, packed, number
        self._blocks: dict[int, tuple[SampleBlock, list[tuple[int, int]], TableWords]] = {}

    def row(self, index: int, keys: list[str]) -> Row:
        """Of the sample at `index`, nobody mixed in yet; `keys` are those of whom it may choose."""
        block, place = divmod(index, self._packed.shard_samples)
        samples, sizes, words = self._of(block)
        view = self._drawn.view(samples.keys[place], self._number, *sizes[place], keys, words)
        return view.row(index, self._number, sizes[place])

    def _of(self, block: int) -> tuple[SampleBlock, list[tuple[int, int]], TableWords]:
        if block not in self._blocks:
            samples = self._packed.block(block)
            sizes = list(zip(samples.heights.tolist(), samples.widths.tolist(), strict=True))
            self._blocks[block] = samples, sizes, TableWords(self._drawn.seed, samples.keys)
        return self._blocks[block]
