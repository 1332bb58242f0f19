"""One stored object against its record."""

from kdcache.cache.errors import BadCache
from kdcache.cache.fingerprint import digest_bytes
from kdcache.cache.stores.contract import ObjectRecord, Store


def object_problem(store: Store, entry: ObjectRecord) -> str | None:
    """What is wrong with one stored object, or None: missing, of another size, or of another digest.

    Raises BadCache for a name that points outside the cache: such a record is not to be mended.
    """
    if not store.exists(entry.name):
        return f"'{entry.name}' is missing"
    try:
        content = store.open_map(entry.name)
    except BadCache as error:
        return error.what
    if content.size != entry.num_bytes:
        return f"'{entry.name}' has {content.size} bytes, its record says {entry.num_bytes}"
    digest = digest_bytes(content.data)
    return (
        None if digest == entry.digest else f"'{entry.name}' differs (stored {entry.digest}, found {digest})"
    )
