"""An operating system that refuses: the n-th call on a file below a folder raises an error of a number."""

import builtins
import errno
import fcntl
import io
import os
import sys
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
    `code`. With `writing` only calls that would change something count; with `deep` also locks, and reads and
    writes of open files. `calls` lists what was called on which file, `lines` our line behind each."""

    def __init__(
        self,
        folder: Path,
        at: int = -1,
        code: int = errno.EIO,
        *,
        lasting: bool = False,
        writing: bool = False,
        deep: bool = False,
    ) -> None:
        self.folder, self.at, self.code, self.lasting = os.path.realpath(folder), at, code, lasting
        self.writing, self.deep = writing, deep
        self.calls: list[tuple[str, str]] = []
        self.lines: list[str] = []
        self._stack = ExitStack()

    def __enter__(self) -> "Refusing":
        for name in NAMES:
            self._stack.enter_context(mock.patch.object(os, name, self._refused(name, getattr(os, name))))
        opened = self._refused("open", self._deep_open if self.deep else io.open)
        if self.deep:
            flock = self._refused("flock", fcntl.flock)
            self._stack.enter_context(mock.patch.object(fcntl, "flock", flock))
        self._stack.enter_context(mock.patch.object(io, "open", opened))
        self._stack.enter_context(mock.patch.object(builtins, "open", opened))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _refused(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def refused(*arguments: Any, **options: Any) -> Any:
            path = _path_of(arguments[0]) if arguments else ""
            if not self.writing or _changes(name, arguments[1:], options):
                self.ask(name, path)
            return call(*arguments, **options)

        return refused

    def ask(self, name: str, path: str) -> None:
        """Count a call on a file below the folder. Raises OSError where it is refused."""
        if path != self.folder and not path.startswith(self.folder + os.sep):
            return
        number = len(self.calls)
        self.calls.append((name, os.path.relpath(path, self.folder)))
        self.lines.append(_our_line())
        if number == self.at or (self.lasting and number > self.at >= 0):
            raise OSError(self.code, os.strerror(self.code), path)

    def _deep_open(
        self, file: Any, mode: str = "r", buffering: int = -1, encoding: str | None = None,
        errors: str | None = None, newline: str | None = None, closefd: bool = True, opener: Any = None,
    ) -> Any:  # fmt: skip
        """`io.open`, put together of the same parts around a `_File`."""
        raw = _File(file, "".join(sorted(set(mode) - {"b", "t"})), closefd, opener)
        raw.ask, raw.path = self.ask, _path_of(file)
        if buffering == 0:
            return raw
        kind = io.BufferedWriter if set(mode) & set("wax") else io.BufferedReader
        buffered = (io.BufferedRandom if "+" in mode else kind)(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline)


class _File(io.FileIO):
    """An open file of which every read and write is asked for."""

    ask: Callable[[str, str], None]
    path: str

    def readinto(self, buffer: Any) -> int | None:  # type: ignore[override]
        self.ask("read", self.path)
        return super().readinto(buffer)

    def readall(self) -> bytes:
        self.ask("read", self.path)
        return super().readall()

    def write(self, content: Any) -> int:
        self.ask("write", self.path)
        return super().write(content)


def _our_line() -> str:
    """The innermost line of the project's code that is running; '' for a thread that runs none."""
    frame = sys._getframe(2)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.startswith("kdcache."):
            return f"{module.removeprefix('kdcache.')}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return ""


_readlink = os.readlink
_LOOKING = ("scandir", "listdir", "stat", "lstat", "read", "flock")


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
