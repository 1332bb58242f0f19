"""Data that were moved: the cache stays theirs when a sample of their files has the digests that it
recorded."""

from kdcache.cache.build.plan import Plan
from kdcache.cache.build.samples.stamps import Stamp, read_stamps, stamp_of, write_stamps
from kdcache.cache.build.samples.survey import content_or_none
from kdcache.cache.errors import BadSample
from kdcache.cache.reader.cache import Cache
from kdcache.cache.sources.contract import Source

COMPARED = 64  # files: of another data set hardly one would agree


def check_moved(plan: Plan, cache: Cache | None, lost: frozenset[int]) -> None:
    """Compare some files where the data lie elsewhere than before; spare reading the others where all agree.

    Raises BadSample for data of which fewer than half agree: other data, not changed ones.
    """
    if cache is None or cache.manifest.data_spec == plan.manifest.data_spec:
        return
    source = plan.source
    index_of = {key: i for i, key in enumerate(source.keys)}
    living = [i for i in cache.living.tolist() if i // cache.shard_samples not in lost]
    some = [living[len(living) * k // COMPARED] for k in range(COMPARED)] if living else []
    some = sorted(set(some))
    same = [_agrees(cache, source, index_of, index) for index in some]
    if 2 * sum(same) < len(same):
        raise BadSample(
            f"these are other data: of {len(same)} samples compared {sum(same)} agree with the cache",
            where=f"{plan.manifest.data_spec}; the cache was made from {cache.manifest.data_spec}",
            fix="give the folder that was moved; other data of this kind need another $KDCACHE_HOME",
        )
    if all(same):
        _restamp(cache, source, index_of, lost)


def _agrees(cache: Cache, source: Source, index_of: dict[str, int], index: int) -> bool:
    block, row = cache.samples(index)
    place = index_of.get(block.keys[row], -1)
    return place >= 0 and content_or_none(source, place) == block.content_digest(row)


def _restamp(cache: Cache, source: Source, index_of: dict[str, int], lost: frozenset[int]) -> None:
    """Note the new times of files whose sizes are those of before."""
    for number in cache.generation.block_numbers:
        if number in lost:
            continue
        keys = cache.block(number).keys
        old = read_stamps(cache.root, number, len(keys))
        new = [stamp_of(source, index_of.get(key, -1)) for key in keys]
        write_stamps(
            cache.store, number, [n if _sizes(n) == _sizes(o) else [] for n, o in zip(new, old, strict=True)]
        )


def _sizes(stamp: Stamp) -> list[int]:
    return stamp[::2]
