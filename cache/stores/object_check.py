"""One stored object against its record."""

from pathlib import Path

from kdcache.cache.fingerprint import digest_file
from kdcache.cache.stores.contract import ObjectRecord


def object_problem(root: Path, entry: ObjectRecord) -> str | None:
    """What is wrong with one stored object, or None: missing, of another size, or of another digest."""
    path = root / entry.name
    if not path.is_file():
        return f"'{entry.name}' is missing"
    num_bytes = path.stat().st_size
    if num_bytes != entry.num_bytes:
        return f"'{entry.name}' has {num_bytes} bytes, its record says {entry.num_bytes}"
    digest = digest_file(path)
    return (
        None if digest == entry.digest else f"'{entry.name}' differs (stored {entry.digest}, found {digest})"
    )
