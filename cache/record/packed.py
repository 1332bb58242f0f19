"""A block of samples as its record has it."""

from kdcache.cache.record.records import read_samples_record
from kdcache.cache.stores.local import LocalStore
from kdcache.cache.stores.sample_tars import SampleBlock, open_samples


def open_packed(store: LocalStore, block: int) -> SampleBlock:
    """The samples of a recorded block, counted by a generation or not. Raises BadCache."""
    record, _ = read_samples_record(store.root, block)
    return open_samples(store, block, record.rows)
