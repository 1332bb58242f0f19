"""How many samples a shard takes, and how many bytes a build will write and hold.

Sizes are exact before the first forward: every map's shape follows from its view and the tap's stride.
"""

from collections.abc import Iterable

from kdcache.cache.build.options import MAX_SHARD_BYTES
from kdcache.cache.errors import BadSample
from kdcache.cache.record.layout import bytes_per_row
from kdcache.cache.record.manifest import MAX_SHARD_SAMPLES, Manifest
from kdcache.cache.sources.contract import Source

SHARDS_IN_FLIGHT = 3  # one being filled, one waiting, one being written
INDEX_BYTES = 16  # offset and length of one inner chunk in a shard's index
CRC_BYTES = 4


def largest_input(manifest: Manifest, sizes: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """(height, width) of the largest teacher input among the view sets, in pixels."""
    seen = [v.crop for v in manifest.views if v.crop is not None]
    if any(v.crop is None for v in manifest.views):
        seen += list(sizes)
    return max(seen, key=lambda s: s[0] * s[1])


def shard_samples(manifest: Manifest, source: Source, memory_bytes: int) -> int:
    """The most samples (1..4096) whose largest array shard stays under 256 MiB and whose flight fits
    `memory_bytes`."""
    height, width = largest_input(manifest, image_sizes(manifest, source))
    rows = [bytes_per_row(manifest, t.name, t.spec(height, width)) for t in manifest.stored]
    by_file = MAX_SHARD_BYTES // max(rows)
    by_memory = memory_bytes // (SHARDS_IN_FLIGHT * sum(rows))
    return max(1, min(by_file, by_memory, MAX_SHARD_SAMPLES, len(source.keys)))


def image_sizes(manifest: Manifest, source: Source) -> list[tuple[int, int]]:
    """Sizes read from the headers of the source's images; empty when no view depends on them."""
    if all(v.crop is not None for v in manifest.views):
        return []
    return [header_size(source, i) for i in range(len(source.keys))]


def header_size(source: Source, index: int) -> tuple[int, int]:
    """(height, width) from an image's header alone; (0, 0) when it cannot be read (reported when it is
    packed)."""
    try:
        return source.size(index)
    except BadSample:
        return 0, 0


def flight_bytes(manifest: Manifest, sizes: Iterable[tuple[int, int]]) -> int:
    """Bytes of targets in memory at once, at most: three shards of every tap."""
    height, width = largest_input(manifest, sizes)
    rows = sum(bytes_per_row(manifest, t.name, t.spec(height, width)) for t in manifest.stored)
    return SHARDS_IN_FLIGHT * rows * manifest.shard_samples
