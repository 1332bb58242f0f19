"""A finished shard on its way to disk: its objects first, then its record, which alone says that it
exists."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from kdcache.cache.fingerprint import digest_bytes
from kdcache.cache.record.layout import target_layout
from kdcache.cache.record.manifest import Manifest
from kdcache.cache.record.records import Record, TargetsRecord, record_bytes, record_name
from kdcache.cache.record.row_columns import columns_name, pack_views
from kdcache.cache.record.sealed import seal_of
from kdcache.cache.spec import RowParts, TensorSpec
from kdcache.cache.stores.contract import Buffer, ObjectRecord, ShardKey
from kdcache.cache.stores.local import LocalStore
from kdcache.cache.stores.table import target_format
from kdcache.cache.views.block_views import BlockViews


class Written(NamedTuple):
    """What one shard holds, in sample order; None where a place has no targets."""

    shard: ShardKey
    names: tuple[str, ...]  # of the targets
    samples: str  # seal of the record of the samples
    views: BlockViews
    targets: Mapping[str, Sequence[RowParts | None]]
    sizes: Mapping[str, Sequence[TensorSpec | None]]

    @property
    def num_rows(self) -> int:
        return len(self.views.valid)


def write_shard(store: LocalStore, manifest: Manifest, written: Written) -> None:
    """Store a shard that is not recorded yet."""
    objects = [store.put(name, buffers) for name, buffers in _objects(manifest, written)]
    record = _record(written, objects)
    store.create(record_name(record.shard), record_bytes(record))


def write_again(store: LocalStore, manifest: Manifest, written: Written, seal: str) -> bool:
    """Store a shard in the place of a damaged one; see `put_back`."""
    packed = list(_objects(manifest, written))
    return put_back(store, packed, lambda objects: _record(written, objects), seal)


def put_back(
    store: LocalStore,
    packed: Sequence[tuple[str, Sequence[Buffer]]],
    record_of: Callable[[Sequence[ObjectRecord]], Record],
    seal: str,
) -> bool:
    """Store objects and their record, where these are the very bytes that were recorded under `seal`; False,
    with nothing written, where they are not."""
    objects = [ObjectRecord(n, sum(len(b) for b in buffers), digest_bytes(*buffers)) for n, buffers in packed]
    record = record_of(objects)
    content = record_bytes(record)
    if seal_of(content) != seal:
        return False
    for name, buffers in packed:
        store.put(name, buffers)
    store.put(record_name(record.shard), content)
    return True


def _objects(manifest: Manifest, written: Written) -> Iterator[tuple[str, Sequence[Buffer]]]:
    """The columns of the rows, then what the format makes of the targets."""
    yield columns_name(written.shard), [pack_views(written.views)]
    specs = {t: {s for s in sizes if s is not None} for t, sizes in written.sizes.items()}
    form = target_format(manifest.target_format)
    layout = target_layout(manifest, specs)
    yield from form.pack(layout, written.shard, targets=written.targets, sizes=written.sizes)


def _record(written: Written, objects: Sequence[ObjectRecord]) -> TargetsRecord:
    return TargetsRecord(
        block=written.shard.block,
        view=written.shard.view,
        pass_id=written.shard.pass_id,
        targets=written.names,
        samples=written.samples,
        rows=written.num_rows,
        views=objects[0],
        objects=tuple(objects[1:]),
    )
