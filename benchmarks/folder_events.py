"""What happens in a folder, from the kernel (inotify), within a tenth of a millisecond: for killing on cue.

Polling a folder would miss files that live for a millisecond and would eat one of two cores. New subfolders
are watched as soon as they are reported; what was made in them before that is reported from a listing.
"""

import ctypes
import os
import select
import struct
import time
from pathlib import Path
from typing import NamedTuple

_MODIFY, _MOVED_FROM, _MOVED_TO, _CREATE, _IS_DIR = 0x2, 0x40, 0x80, 0x100, 0x40000000
_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC
_HEADER = struct.Struct("iIII")
_READ_BYTES = 1 << 20


class Event(NamedTuple):
    """One change: `kind` is 'create', 'modify', 'leave' (renamed away) or 'arrive' (renamed to)."""

    time_s: float
    kind: str
    path: str  # relative to the watched root


class FolderEvents:
    """Changes of files below `root`, in order. Linux only."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.inotify_init1(_NONBLOCK_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "inotify is not available")
        self._folders: dict[int, str] = {}
        self._watch("", [])

    def __enter__(self) -> "FolderEvents":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def wait(self, timeout_s: float) -> list[Event]:
        """Events since the last call; waits up to `timeout_s` for the first."""
        if not select.select([self._fd], [], [], max(0.0, timeout_s))[0]:
            return []
        found: list[Event] = []
        raw = os.read(self._fd, _READ_BYTES)
        now_s, offset = time.perf_counter(), 0
        while offset < len(raw):
            watch, mask, _, length = _HEADER.unpack_from(raw, offset)
            name = raw[offset + _HEADER.size : offset + _HEADER.size + length].rstrip(b"\0").decode()
            offset += _HEADER.size + length
            path = os.path.join(self._folders.get(watch, ""), name)
            if mask & _IS_DIR and mask & (_CREATE | _MOVED_TO):
                found.append(Event(now_s, "create", path))
                self._watch(path, found)
            elif kind := _kind(mask):
                found.append(Event(now_s, kind, path))
        return found

    def _watch(self, folder: str, found: list[Event]) -> None:
        full = self._root / folder
        mask = _MODIFY | _MOVED_FROM | _MOVED_TO | _CREATE
        watch = self._libc.inotify_add_watch(self._fd, str(full).encode(), mask)
        if watch < 0:
            return  # gone again
        self._folders[watch] = folder
        with os.scandir(full) as entries:
            for entry in entries:
                path = os.path.join(folder, entry.name)
                found.append(Event(time.perf_counter(), "create", path))
                if entry.is_dir(follow_symlinks=False):
                    self._watch(path, found)


def _kind(mask: int) -> str:
    kinds = {_CREATE: "create", _MODIFY: "modify", _MOVED_FROM: "leave", _MOVED_TO: "arrive"}
    return next((kind for bit, kind in kinds.items() if mask & bit), "")
