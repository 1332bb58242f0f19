"""From a manifest's entries to what a target format needs: parts per target and map size."""

from collections.abc import Iterable, Mapping

from kdcache.cache.codecs.table import make_codec
from kdcache.cache.record.manifest import Manifest
from kdcache.cache.spec import TensorSpec
from kdcache.cache.stores.contract import TapLayout, TargetLayout


def target_layout(
    manifest: Manifest, specs: Mapping[str, Iterable[TensorSpec]], num_blocks: int = 0
) -> TargetLayout:
    """The layout of the named targets at the given map sizes; other targets and sizes are left out.

    `num_blocks` matters to descriptions of whole arrays alone.
    """
    taps: dict[str, TapLayout] = {}
    for name, sizes in specs.items():
        codec = make_codec(manifest.tap(name).codec)
        taps[name] = TapLayout(codec=codec.name, parts={s.size_key: codec.parts(s) for s in sizes})
    return TargetLayout(
        teacher=manifest.teacher,
        num_views=manifest.num_views,
        num_samples=num_blocks * manifest.shard_samples,
        shard_samples=manifest.shard_samples,
        zstd=manifest.zstd,
        taps=taps,
        vector_bytes=manifest.vector_bytes,
    )


def bytes_per_row(manifest: Manifest, name: str, spec: TensorSpec) -> int:
    """Uncompressed bytes of one row of a target."""
    return sum(part.num_bytes for part in make_codec(manifest.tap(name).codec).parts(spec).values())
