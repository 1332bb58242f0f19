"""An operating system that refuses: the n-th call on a file below a folder raises an error of a number."""

import builtins
import errno
import io
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

CODES = (
    errno.ENOSPC, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO, errno.ESTALE, errno.EMFILE, errno.EDQUOT,
)  # fmt: skip
NAMES = (
    *("open", "write", "fsync", "replace", "rename", "link", "unlink", "mkdir", "rmdir", "truncate"),
    *("ftruncate", "scandir", "listdir", "stat", "lstat"),
)


class Refusing:
    """Counts the calls on files below `folder`; number `at` of them, and with `lasting` all after it, raise
    `code`. With `writing` only calls that would change something count. `calls` lists what was called on
    which file."""

    def __init__(
        self,
        folder: Path,
        at: int = -1,
        code: int = errno.EIO,
        *,
        lasting: bool = False,
        writing: bool = False,
    ) -> None:
        self.folder, self.at, self.code, self.lasting = os.path.realpath(folder), at, code, lasting
        self.writing = writing
        self.calls: list[tuple[str, str]] = []
        self._stack = ExitStack()

    def __enter__(self) -> "Refusing":
        for name in NAMES:
            self._stack.enter_context(mock.patch.object(os, name, self._refused(name, getattr(os, name))))
        opened = self._refused("open", io.open)
        self._stack.enter_context(mock.patch.object(io, "open", opened))
        self._stack.enter_context(mock.patch.object(builtins, "open", opened))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _refused(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def refused(*arguments: Any, **options: Any) -> Any:
            path = _path_of(arguments[0]) if arguments else ""
            counts = not self.writing or _changes(name, arguments[1:], options)
            if counts and (path == self.folder or path.startswith(self.folder + os.sep)):
                number = len(self.calls)
                self.calls.append((name, os.path.relpath(path, self.folder)))
                if number == self.at or (self.lasting and number > self.at >= 0):
                    raise OSError(self.code, os.strerror(self.code), path)
            return call(*arguments, **options)

        return refused


_readlink = os.readlink
_LOOKING = ("scandir", "listdir", "stat", "lstat")


def _changes(name: str, arguments: tuple[object, ...], options: dict[str, object]) -> bool:
    """Whether a read-only file system would refuse the call."""
    if name != "open":
        return name not in _LOOKING
    how = options.get("mode", arguments[0] if arguments else "r")
    if isinstance(how, str):
        return any(letter in how for letter in "wax+")
    return isinstance(how, int) and bool(how & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def _path_of(target: object) -> str:
    """The file of a path or of a descriptor; '' for what has none."""
    if isinstance(target, int):
        try:
            return _readlink(f"/proc/self/fd/{target}")
        except OSError:
            return ""
    try:
        return os.path.abspath(os.fsdecode(target))  # type: ignore[arg-type]
    except TypeError:
        return ""
