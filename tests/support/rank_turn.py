"""One launch of several ranks at a time, whichever worker of pytest asks.

A launcher looks for a free port and its ranks take it later: of two launches at once, the ranks of one may
find the port of the other and wait for ever. Two ranks also fill two cores.
"""

import fcntl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def alone() -> Iterator[None]:
    with (Path(tempfile.gettempdir()) / "kdcache-ranks.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the kernel drops it when the holder dies
        yield
