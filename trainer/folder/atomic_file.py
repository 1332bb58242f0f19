"""Files that are either the old one or the new one: temporary name, fsync, rename, fsync of the folder."""

import os
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text`; a kill at any moment leaves the old content or the new one."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """`write_text` of bytes."""
    temporary = path.with_name(f".tmp-{path.name}")
    temporary.write_bytes(content)
    sync(temporary)
    os.replace(temporary, path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Flush a file's bytes, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
