"""How many bytes of a cache belong to samples that no longer count."""

from collections import Counter
from collections.abc import Iterator

import numpy as np

from kdcache.cache.reader.cache import Cache
from kdcache.cache.record.layout import bytes_per_row
from kdcache.cache.record.manifest import Manifest
from kdcache.cache.stores.sample_tars import SampleBlock
from kdcache.cache.trust import is_trusted


def codecs_are_trusted(manifest: Manifest) -> bool:
    """Whether the sizes of all targets can be asked for: each codec is kdcache's own or trusted."""
    return all(":" not in tap.codec or is_trusted(tap.codec) for tap in manifest.taps)


def retired_bytes(cache: Cache) -> int:
    """What a compacted copy would not hold: images, labels and uncompressed targets of retired samples, from
    the indexes and columns alone."""
    retired = cache.generation.retired
    by_block = _by_block(retired, cache.shard_samples)
    of_block = {block: indices - block * cache.shard_samples for block, indices in by_block}
    total = sum(_sample_bytes(cache.block(block), places) for block, places in of_block.items())
    for key in cache.coverage.keys():
        if key.block in of_block:
            views, places = cache.block_views(key.block, key.view), of_block[key.block]
            sizes = views.geometry[places[views.valid[places]]][:, 5:7]
            total += sum(
                bytes_per_row(cache.manifest, name, cache.tap(name).spec(*size)) * rows
                for size, rows in Counter(map(tuple, sizes.tolist())).items()
                for name in cache.targets_record(key).targets
            )
    return total


def _by_block(indices: np.ndarray, size: int) -> Iterator[tuple[int, np.ndarray]]:
    """Ascending indices, block by block."""
    numbers, starts = np.unique(indices // size, return_index=True)
    yield from zip(numbers.tolist(), np.split(indices, starts[1:]), strict=True)


def _sample_bytes(samples: SampleBlock, places: np.ndarray) -> int:
    """Of the images and labels at these places of a block that can be used."""
    usable = places[samples.valid[places]].tolist()
    return sum(samples.image(row).size + samples.label(row).size for row in usable)
