"""Memory that a process freed stays with it, for the next step to take.

A step of training and a forward of a teacher take the same buffers again and again. The allocator of GNU's C
library gives large ones back to the system when they are freed, and every page of them is then faulted in
anew: of three ResNet-8 at 32x32 that trained together a sixth of the time went there (docs/benchmarks.md).
What it costs: a process keeps what it once needed until it ends.
"""

import ctypes
import os
from collections.abc import Mapping

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameters of mallopt(3)
_MOST = 2**31 - 1  # mallopt takes an int: no block that a network asks for is larger, nothing is trimmed
_HALF_HEAP = 1 << 25  # 32 MiB: the most that older versions take for a block of the heap
_OWN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_MAX_")
_TUNABLES = "GLIBC_TUNABLES"


def keep_freed(environment: Mapping[str, str] = os.environ) -> bool:
    """From now on this process keeps what it frees, whether or not torch is loaded. False where somebody has
    told the allocator otherwise, or where it is of another make."""
    if any(name in environment for name in _OWN) or "glibc.malloc" in environment.get(_TUNABLES, ""):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    blocks = mallopt(_MMAP_THRESHOLD, _MOST) or mallopt(_MMAP_THRESHOLD, _HALF_HEAP)
    return bool(blocks and mallopt(_TRIM_THRESHOLD, _MOST))
