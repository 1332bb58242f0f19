"""One shard of targets, or of samples, in a store, as the builder puts it there."""

from collections.abc import Mapping, Sequence

from kdcache.cache.spec import RowParts, TensorSpec
from kdcache.cache.stores.contract import ObjectRecord, ShardKey, Store, TargetFormat, TargetLayout
from kdcache.cache.stores.sample_tars import SampleEntry, packed_objects


def put_shard(
    form: TargetFormat,
    store: Store,
    layout: TargetLayout,
    shard: ShardKey,
    *,
    targets: Mapping[str, Sequence[RowParts | None]],
    sizes: Mapping[str, Sequence[TensorSpec | None]],
) -> list[ObjectRecord]:
    packed = form.pack(layout, shard, targets=targets, sizes=sizes)
    return [store.put(name, buffers) for name, buffers in packed]


def put_samples(
    store: Store, block: int, shard_samples: int, entries: Sequence[SampleEntry]
) -> tuple[ObjectRecord, ...]:
    return tuple(store.put(*one) for one in packed_objects(block, shard_samples, entries))
