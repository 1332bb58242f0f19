"""Memory maps of whole files that keep no descriptor.

Before Python 3.13 `mmap.mmap` duplicates the descriptor and keeps it as long as the map: a cache of some
thousand shards then runs into the limit of open files, 1024 as a rule. The kernel needs none once a file is
mapped (mmap(2): closing the descriptor does not unmap), so the C function is called here.
"""

import ctypes
import mmap
import os
import weakref

import numpy as np

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (*(ctypes.c_void_p, ctypes.c_size_t), *(ctypes.c_int,) * 3, ctypes.c_long)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_FAILED = ctypes.c_void_p(-1).value


def map_file(fd: int, num_bytes: int) -> np.ndarray:
    """The first `num_bytes` of an open file as a read-only uint8 array, mapped as long as somebody holds the
    array or a view of it; `fd` may be closed at once. Raises OSError."""
    if num_bytes == 0:  # the kernel refuses an empty map
        return np.frombuffer(b"", dtype=np.uint8)
    return np.asarray(_Map(fd, num_bytes))


class _Map:
    """What numpy holds on to: the end of the last array unmaps the file."""

    def __init__(self, fd: int, num_bytes: int) -> None:
        address = _libc.mmap(None, num_bytes, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
        if address == _FAILED:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        # https://numpy.org/doc/stable/reference/arrays.interface.html; True: read-only
        shape, pointer = (num_bytes,), (address, True)
        self.__array_interface__ = {"version": 3, "typestr": "|u1", "shape": shape, "data": pointer}
        weakref.finalize(self, _libc.munmap, address, num_bytes).atexit = False
