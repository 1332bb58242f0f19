"""What the operating system refuses, in three parts: one table from its error numbers to words.

A file that cannot be reached is no damaged file: nothing here advises a repair, and nothing that looks for
damage takes these errors for it (`Refused` is no BadCache).
"""

import errno
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from kdcache.cache.errors import BadOption, DiskFull, KdError, Missing, Refused

AGAIN = "run the same command again"
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})  # of a place that this user may only read
GONE = (FileNotFoundError, NotADirectoryError)  # what says that a file is not there
_ALLOW = "let its owner permit it ('ls -ld' shows who may)"
_HOME = "set KDCACHE_HOME to a folder of yours, and name a cache that lies elsewhere by its path"
_ROOM = "free some space"
_MOUNT = "see that the disk is mounted and sound ('dmesg' says what happened)"
# Number -> what is wrong, what to do before the command is run again.
_WORDS: Mapping[int, tuple[str, str]] = {
    errno.ENOSPC: ("the disk is full", _ROOM),
    errno.EDQUOT: ("the disk is full", f"{_ROOM}: this user's quota is used up"),
    errno.EFBIG: ("no file may be that large here", "raise the limit with 'ulimit -f unlimited', or take a "
                  "file system that holds larger files"),
    errno.EROFS: ("the file system is read-only", _HOME),
    errno.EACCES: ("this user has no permission", f"{_ALLOW}, or {_HOME}"),
    errno.EPERM: ("this user has no permission", f"{_ALLOW}, or {_HOME}"),
    errno.EIO: ("the disk reports an error", _MOUNT),
    errno.ENXIO: ("no device is behind this file", "name a plain file or folder"),
    errno.ENODEV: ("the disk is gone", _MOUNT),
    errno.ESTALE: ("the network file system lost sight of it", "mount it again"),
    errno.ENOTCONN: ("the network file system is not connected", "mount it again"),
    errno.ETIMEDOUT: ("the network file system does not answer", _MOUNT),
    errno.EMFILE: ("this process has too many open files", "raise the limit with 'ulimit -n 4096'"),
    errno.ENFILE: ("the machine has too many open files", "end other programs"),
    errno.ENOMEM: ("the machine has too little memory", "end other programs, or ask for less at once"),
    errno.ENOLCK: ("the file system keeps no locks", "use a local disk, or mount it with locks"),
    errno.ENAMETOOLONG: ("no file system takes so long a name", "choose a shorter one"),
    errno.ELOOP: ("links lead in a circle", "remove one of them"),
    errno.ENOENT: ("it is not there", "see that the path is right and that nobody removed it"),
    errno.ENOTDIR: ("a file stands where a folder must be", "name another path, or move the file aside"),
    errno.EEXIST: ("a file stands where a folder must be", "name another path, or move the file aside"),
    errno.EISDIR: ("a folder stands where a file must be", "name another path, or move the folder aside"),
    errno.ENOTEMPTY: ("a folder there is not empty", "move it aside"),
    errno.EBUSY: ("another program holds it", "end that program"),
    errno.EINVAL: ("this file system cannot do that", "take another disk"),
}  # fmt: skip
# A thread needs memory for its stack; DALI repeats what pthread_create says.
_NO_MEMORY = (
    "can't start new thread", "can't allocate memory", "Cannot allocate memory", "std::bad_alloc",
    "Resource temporarily unavailable",
)  # fmt: skip
_IN_TEXT = re.compile(r"\(os error (\d+)\)")  # how libraries in Rust say a number


def refused(error: OSError, what: str, where: Path | str = "", *, again: str = AGAIN) -> KdError:
    """The three parts of an error of the operating system: DiskFull, or Refused with its `errno`.

    `what` could not be done, such as "'x' could not be written"; `where` is the file, the error's own when
    left out; `again` is what to do in the end.
    """
    if isinstance(error, KdError):
        return error
    number = error.errno or 0
    said, first = _WORDS.get(number, (f"the operating system refuses: {error.strerror or error}", ""))
    kind = DiskFull if number in FULL else Refused
    made = kind(
        f"{said}: {what}" if what else said,
        where=str(where or file_of(error) or "the operating system names no file"),
        fix=f"{first}, then {again}" if first else again,
    )
    made.errno = error.errno
    return made


@contextmanager
def touching(
    what: str, where: Path | str = "", *, again: str = AGAIN, passing: tuple[type[OSError], ...] = ()
) -> Iterator[None]:
    """Errors of the operating system inside become those of `refused`, also those that a library wrapped;
    errors in `passing` and all others go through."""
    try:
        yield
    except Exception as error:
        cause = system_error(error)
        if cause is None or isinstance(error, (KdError, *passing)):
            raise
        raise refused(cause, what, where, again=again) from error


def write_whole(path: Path, content: bytes) -> None:
    """A file that the user named, with its folder, in place of an older one only when all of it is written.
    Raises DiskFull, Refused."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with touching(f"'{path.name}' could not be written", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():  # a pipe, /dev/stdout
            path.write_bytes(content)
            return
        try:
            draft.write_bytes(content)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Flush a file's bytes, or a folder's entries, to the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def system_error(error: BaseException) -> OSError | None:
    """The error of the operating system that this one is, was raised for, or tells of; None for others."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno is not None and not isinstance(seen, KdError):
            return seen
        seen = seen.__cause__ or seen.__context__
    number = _IN_TEXT.search(str(error))
    return OSError(int(number[1]), os.strerror(int(number[1]))) if number else None


def out_of_memory(error: BaseException) -> bool:
    """Whether memory was refused: Python's own error, or what torch, DALI and threads say of it."""
    text = str(error)
    return isinstance(error, MemoryError) or any(words in text for words in _NO_MEMORY)


def file_of(error: OSError) -> str:
    """The file that an error names; of two, as of a rename, the second. '' for none."""
    name = error.filename2 or error.filename
    return os.fsdecode(name) if isinstance(name, str | bytes) else ""


def user_path(text: str | Path) -> Path:
    """A path as the user wrote it, '~' replaced. Raises BadOption for a user that nobody knows."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        user = str(text).partition("/")[0]
        raise BadOption(
            "the home folder is not known: $HOME is not set"
            if user == "~"
            else f"there is no user '{user[1:]}', or no home folder of that name",
            where=str(text),
            fix="write the whole path, beginning with '/'",
        ) from error


def current_folder() -> str:
    """The current folder. Raises Missing for one that was deleted meanwhile."""
    try:
        return os.getcwd()
    except OSError as error:
        raise Missing(
            "the current folder was deleted" if isinstance(error, FileNotFoundError) else str(error.strerror),
            where="the folder that this command was started in",
            fix="go to a folder that is there (cd) and run the same command again",
        ) from error
