"""Memory that a piece of code may take: beyond it malloc fails, and what was really touched is compared."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ALLOWED = 500 << 20  # beside what an honest file of the same declared size needs


@contextmanager
def bounded_memory(more: int = ALLOWED) -> Iterator[None]:
    """Within it MemoryError comes after `more` bytes, and behind it at most so many were in use at once."""
    before, limit = _status("VmData"), resource.getrlimit(resource.RLIMIT_DATA)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    start = _status("VmRSS")
    resource.setrlimit(resource.RLIMIT_DATA, (before + more, limit[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, limit)
    taken = _status("VmHWM") - start
    assert taken < more, f"{taken >> 20} MB were in use at once"


def _status(name: str) -> int:
    """Bytes of one line of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith(f"{name}:")]
    return int(line.split()[1]) << 10
