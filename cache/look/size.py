"""How many bytes of a cache belong to samples that no longer count."""

import numpy as np

from kdcache.cache.reader.cache import Cache
from kdcache.cache.record.layout import bytes_per_row
from kdcache.cache.record.manifest import Manifest
from kdcache.cache.trust import is_trusted


def codecs_are_trusted(manifest: Manifest) -> bool:
    """Whether the sizes of all targets can be asked for: each codec is kdcache's own or trusted."""
    return all(":" not in tap.codec or is_trusted(tap.codec) for tap in manifest.taps)


def retired_bytes(cache: Cache) -> int:
    """What a compacted copy would not hold: images, labels and uncompressed targets of retired samples, from
    the indexes and columns alone."""
    total = 0
    retired = cache.generation.retired
    for index in retired.tolist():
        samples, row = cache.samples(index)
        if samples.valid[row]:
            total += samples.image(row).size + samples.label(row).size
    for key in cache.coverage.keys():
        views = cache.block_views(key.block, key.view)
        first = key.block * cache.shard_samples
        ends = np.searchsorted(retired, [first, first + len(views.valid)])
        for place in (retired[slice(*ends)] - first).tolist():
            if not views.valid[place]:
                continue
            geometry = views.geometry_of(place)
            for name in cache.targets_record(key).targets:
                spec = cache.tap(name).spec(geometry.crop_h, geometry.crop_w)
                total += bytes_per_row(cache.manifest, name, spec)
    return total
