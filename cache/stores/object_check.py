"""One stored object against its record."""

from kdcache.cache.errors import BadCache, OutsideCache
from kdcache.cache.files.regular import read_regular
from kdcache.cache.files.system import GONE
from kdcache.cache.fingerprint import digest_bytes
from kdcache.cache.stores.columns import MOST_BYTES
from kdcache.cache.stores.contract import REPAIR, ObjectRecord, Store, bad_object
from kdcache.cache.stores.local import LocalStore


def object_problem(store: Store, entry: ObjectRecord) -> str | None:
    """What is wrong with one stored object, or None: missing, of another size, or of another digest.

    Raises BadCache for a name that points outside the cache: such a record is not to be mended.
    """
    try:
        content = store.open_map(entry.name)
    except OutsideCache:
        raise
    except BadCache as error:
        return error.what
    if content.size != entry.num_bytes:
        return f"'{entry.name}' has {content.size} bytes, its record says {entry.num_bytes}"
    return _differs(entry, digest_bytes(content.data))


def read_columns_object(store: LocalStore, entry: ObjectRecord, *, check: bool = True) -> bytes:
    """The bytes of an object of columns, nothing of it mapped: for those who read one after another. Raises
    BadCache for one that is not there, or with `check` not what its record says."""
    where = store.where(entry.name)
    try:
        content = read_regular(store.path(entry.name), MOST_BYTES, follow=False)
    except GONE as error:
        raise bad_object(f"'{entry.name}' is missing", where) from error
    except ValueError as error:
        raise bad_object(f"'{entry.name}' cannot be read: {error}", where) from error
    if check and (problem := _differs(entry, digest_bytes(content))):
        raise BadCache(problem, where=where, fix=REPAIR)
    return content


def _differs(entry: ObjectRecord, digest: str) -> str | None:
    same = digest == entry.digest
    return None if same else f"'{entry.name}' differs (stored {entry.digest}, found {digest})"
