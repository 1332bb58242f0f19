"""What a cache's arrays must be described as, for every map size that its views give."""

from collections.abc import Iterable
from pathlib import Path

from kdcache.cache.record.layout import target_layout
from kdcache.cache.record.manifest import Manifest
from kdcache.cache.record.packed import open_packed
from kdcache.cache.stores.contract import TargetLayout
from kdcache.cache.stores.local import LocalStore


def whole_layout(root: Path, manifest: Manifest, blocks: Iterable[int], num_blocks: int) -> TargetLayout:
    """Every target at every size of these blocks, of `num_blocks` numbers; reads the samples' indexes where a
    view shows whole images."""
    store = LocalStore(root)
    sizes = {v.crop for v in manifest.views if v.crop is not None}
    if any(v.crop is None for v in manifest.views):
        for block in blocks:
            sizes |= set(open_packed(store, block).valid_sizes)
    specs = {t.name: {t.spec(*size) for size in sizes} for t in manifest.stored}
    return target_layout(manifest, specs, num_blocks)
