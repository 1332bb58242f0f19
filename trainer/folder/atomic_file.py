"""Files that are either the old one or the new one: temporary name, fsync, rename, fsync of the folder."""

import os
from pathlib import Path

from kdcache.cache.files.system import sync, touching

# What ends every error of a run folder.
RUN_AGAIN = "run the same command again, with --resume if it says that the run exists"


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text`; a kill at any moment leaves the old content or the new one. Raises
    DiskFull and Refused; the old content stays."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """`write_text` of bytes."""
    temporary = path.with_name(f".tmp-{path.name}")
    with touching(f"'{path.name}' could not be written", path.parent, again=RUN_AGAIN):
        temporary.write_bytes(content)
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
