"""One builder per cache: an advisory lock that the kernel drops when the builder dies, however it dies."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kdcache.cache.errors import Busy
from kdcache.cache.stores.inside import path_inside

FILE_NAME = "build.lock"


@contextmanager
def build_lock(root: Path) -> Iterator[None]:
    """Hold `root/build.lock`. Raises Busy, with the holder's process number, when another builder has it."""
    root.mkdir(parents=True, exist_ok=True)
    path = path_inside(root, FILE_NAME)  # a link would be written through
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise Busy(
                f"another builder (process {holder}) is writing this cache",
                where=str(root),
                fix="wait for it to end, or stop it; what it has finished is kept",
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)
