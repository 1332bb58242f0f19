"""The source beside the cache: which keys need a row, which rows no longer count, what a person should know.

A row lives on while its key is in the source with the same bytes. A changed image or label, a deleted file, a
lost block: the old row dies, and its key, if it is still there, needs a new one. A row that shows another
sample dies with what it shows. Nothing is written here but notes of sizes and times.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from kdcache.cache.build.samples.stamps import Stamp, read_stamps, stamp_of, write_stamps
from kdcache.cache.errors import BadSample, Refused
from kdcache.cache.files.system import FULL, READ_ONLY
from kdcache.cache.fingerprint import digest16
from kdcache.cache.processes.progress import moved
from kdcache.cache.reader.cache import Cache
from kdcache.cache.sources.contract import Source
from kdcache.cache.stores.sample_tars import NO_DIGEST, SampleBlock

Content = tuple[bytes, bytes]  # digests of a sample's image and label, as its source has them


class Survey(NamedTuple):
    """What a build has to do about samples. Indices are of rows of the cache, keys of the source."""

    wanted: tuple[str, ...]  # keys without a row that counts, in the source's order
    dead: frozenset[int]  # rows that the next generation no longer counts; those of before included
    images: tuple[str, ...] = ()  # keys whose image changed
    labels: tuple[str, ...] = ()  # keys of which only the label changed
    gone: tuple[str, ...] = ()  # keys that the source no longer has
    mixed: tuple[str, ...] = ()  # keys whose rows show one of these
    renewed: bool = False  # whether these get new rows or retire; else they stay as the cache has them

    @property
    def differs(self) -> bool:
        return bool(self.images or self.labels or self.gone)


def content_of(source: Source, index: int) -> Content:
    """Raises BadSample for a file that is missing."""
    image, *label = source.content(index)
    return digest16(image), digest16(*label)


def content_or_none(source: Source, index: int) -> Content:
    """As `content_of`; of what cannot be read the digest of nothing."""
    moved()
    try:
        return content_of(source, index)
    except BadSample:
        return NO_DIGEST, NO_DIGEST


class Change(NamedTuple):
    """A living row that is not what the source has."""

    row: int  # index in the cache
    key: str
    kind: str  # 'image', 'label', 'gone'


def survey(
    cache: Cache | None,
    source: Source,
    *,
    update: bool,
    lost: Iterable[int] = (),
    every_file: bool = False,
) -> Survey:
    """`lost` are blocks whose samples or targets are damaged beyond repair: their rows are dead. `every_file`
    reads also files whose size and time are those of before."""
    if cache is None:
        return Survey(tuple(source.keys), frozenset())
    lost = set(lost)
    size = cache.shard_samples
    dead = set(cache.generation.retired.tolist())
    dead |= {b * size + row for b in lost for row in range(cache.generation.blocks[b].rows)}
    index_of = {key: i for i, key in enumerate(source.keys)}
    changes = list(_changes(cache, source, index_of, dead, lost, every_file))
    if update:
        dead |= {change.row for change in changes}
    mixed = _shows_any(cache, {change.key for change in changes if update}, dead, lost)
    dead |= set(mixed)
    alive, bad = _keys(cache, dead, lost)
    wanted = (k for k, i in index_of.items() if k not in alive and not _known_bad(source, i, bad.get(k)))
    return Survey(
        wanted=tuple(wanted),
        dead=frozenset(dead),
        images=tuple(c.key for c in changes if c.kind == "image"),
        labels=tuple(c.key for c in changes if c.kind == "label"),
        gone=tuple(c.key for c in changes if c.kind == "gone"),
        mixed=tuple(cache.key(index) for index in mixed),
        renewed=update,
    )


def _changes(
    cache: Cache,
    source: Source,
    index_of: dict[str, int],
    dead: set[int],
    lost: set[int],
    every_file: bool,
) -> Iterator[Change]:
    """Living rows that are not what the source has."""
    for block, samples in _blocks(cache, lost):
        old = read_stamps(cache.root, block, len(samples))
        new = list(old)
        first = block * cache.shard_samples
        for row, key in enumerate(samples.keys):
            if first + row in dead:
                continue
            index = index_of.get(key, -1)
            stamp = stamp_of(source, index)
            if index < 0:
                yield Change(first + row, key, "gone")
            elif every_file or not stamp or stamp != old[row]:
                image, label = content_or_none(source, index)
                if (image, label) == samples.content_digest(row):
                    new[row] = stamp
                else:
                    same_image = image == samples.content_digest(row)[0]
                    yield Change(first + row, key, "label" if same_image else "image")
        if new != old:
            _note(cache, block, new)


def _note(cache: Cache, block: int, stamps: list[Stamp]) -> None:
    """A note spares reading files again: a cache that takes none does without."""
    try:
        write_stamps(cache.store, block, stamps)
    except Refused as error:
        if error.errno not in READ_ONLY | FULL:
            raise


def _shows_any(cache: Cache, keys: set[str], dead: set[int], lost: set[int]) -> list[int]:
    """Living rows under some view of which a sample with one of `keys`, or of a lost block, is mixed in."""
    mixing = [v for v in cache.manifest.views if v.recipe.mixes]
    shows: set[int] = set()
    if not keys and not lost:
        return []
    for views in mixing:
        for block, samples in _blocks(cache, lost):
            for number in range(views.first, views.first + views.count):
                if not any(cache.coverage.key(t, number, block) for t in cache.manifest.tap_names):
                    continue
                columns = cache.block_views(block, number)
                for place in range(len(samples)):
                    partner = columns.partner(place)
                    if partner is not None and (
                        partner // cache.shard_samples in lost or cache.key(partner) in keys
                    ):
                        shows.add(columns.first + place)
    return sorted(shows - dead)


def _keys(cache: Cache, dead: set[int], lost: set[int]) -> tuple[set[str], dict[str, Content]]:
    """Keys with a row that counts; and the contents of those that were bad when they were last packed."""
    alive: set[str] = set()
    bad: dict[str, Content] = {}
    for block, samples in _blocks(cache, lost):
        first = block * cache.shard_samples
        for row, key in enumerate(samples.keys):
            if first + row not in dead:
                alive.add(key)
            elif not samples.valid[row]:
                bad[key] = samples.content_digest(row)
    return alive, bad


def _known_bad(source: Source, index: int, bad: Content | None) -> bool:
    return bad is not None and content_or_none(source, index) == bad


def _blocks(cache: Cache, lost: set[int]) -> Iterator[tuple[int, SampleBlock]]:
    for block in cache.generation.block_numbers:
        if block not in lost:
            yield block, cache.block(block)
