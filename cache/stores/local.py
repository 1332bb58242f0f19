"""The local store: objects are files below one folder.

    put     temporary name in the same folder -> write and digest -> fsync -> rename -> fsync of the folder
    create  likewise, but a link in place of the rename: it never takes a name that is taken
    get     one shared read-only memory map per file, without a descriptor, kept for the `MAX_MAPS` files used
            last

A file under its own name is therefore always whole. What a SIGKILL leaves are temporary names, which `sweep`
removes under the builder's lock. No link is followed inside the folder: what is read lies in it, and so does
what is written.
"""

import builtins
import errno
import itertools
import os
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from stat import S_ISREG

import numpy as np

from kdcache.cache.errors import BadCache
from kdcache.cache.files.regular import check_opened
from kdcache.cache.files.system import GONE, READ_ONLY, file_of, refused, sync, touching
from kdcache.cache.fingerprint import RunningDigest, digest_bytes
from kdcache.cache.stores.contract import REPAIR, Buffer, bad_object
from kdcache.cache.stores.contract import ObjectRecord as ObjectRecord
from kdcache.cache.stores.inside import path_inside
from kdcache.cache.stores.mapped import map_file
from kdcache.cache.visible import shell_line

MAX_MAPS = 1024  # the kernel allows 65530 maps per process; whoever holds an array keeps its own map alive
KEPT = "run the same command again: finished shards are kept"
WRITE_BYTES = 16 << 20  # 16 MiB per write call: bounds what one call holds, and gives Ctrl-C a chance
GATHER_BYTES = 256 << 10  # buffers are joined up to so many, which one call then writes
_LITTER_BEGINS = ".kdtmp-"
_LITTER = re.compile(r"^\.kdtmp-\d+-\d+-")
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS}
_count = itertools.count()  # makes temporary names unique within a process


class LocalStore:
    """Objects as files below `root`. Safe for one writer and any number of readers."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self._maps: OrderedDict[str, tuple[tuple[int, int], np.ndarray]] = OrderedDict()

    def path(self, name: str) -> Path:
        """The file of an object, for every read and every write. Raises BadCache for one outside the
        store."""
        return path_inside(self.root, name)

    def put(self, name: str, buffer: Buffer | Sequence[Buffer]) -> ObjectRecord:
        """Write an object whole or not at all; returns its size and digest. Raises DiskFull, Refused."""
        return self._write(name, buffer, os.replace)

    def create(self, name: str, buffer: Buffer) -> ObjectRecord:
        """Write an object under a name that is free. Raises BadCache when it is taken by other bytes,
        DiskFull, Refused.

        Every `put` before it has been fsynced, so disk keeps the order of calls.
        """
        path = self.path(name)
        try:
            return self._write(name, buffer, _link)
        except FileExistsError as error:
            if _holds(path, bytes(buffer)):
                sync(path.parent)  # whoever linked it may have been killed before that
                return ObjectRecord(name, len(buffer), digest_bytes(buffer))
            raise BadCache(
                f"'{name}' is there already, with other contents: nothing live is ever replaced",
                where=str(path),
                fix="run the same command again; if this stays, " + REPAIR,
            ) from error

    def _write(
        self, name: str, buffer: Buffer | Sequence[Buffer], publish: Callable[[Path, Path], None]
    ) -> ObjectRecord:
        path = self.path(name)
        buffers = [buffer] if isinstance(buffer, bytes | memoryview) else buffer
        temporary = path.with_name(f".kdtmp-{os.getpid()}-{next(_count)}-{path.name}")
        try:
            with _writing(path):
                _make_folder(path.parent)
                _clear_folder(path)
                num_bytes, digest = _write_file(temporary, buffers)
                publish(temporary, path)
                sync(path.parent)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        self._maps.pop(name, None)
        return ObjectRecord(name, num_bytes, digest)

    def open_map(self, name: str) -> np.ndarray:
        """The whole file as a read-only uint8 array over a memory map. Raises BadCache when it is missing,
        or mostly holes, Refused where it cannot be reached: nobody has seen damage then."""
        path = self.path(name)
        try:
            stat = path.stat()
            kept = self._maps.get(name)
            # A replaced file has another inode: the old one is still in use by the map that is compared with.
            if kept is not None and kept[0] == (stat.st_ino, stat.st_size):
                # Last in the order again; written so that another thread may forget it in between.
                self._maps[name] = self._maps.pop(name, kept)
                return kept[1]
            if not S_ISREG(stat.st_mode):
                raise bad_object(f"'{name}' is no regular file", str(path))
            with path.open("rb") as file:
                stat = os.fstat(file.fileno())
                check_opened(file.fileno())
                bytes_map = map_file(file.fileno(), stat.st_size)
        except GONE as error:
            raise bad_object(f"'{name}' is missing", str(path)) from error
        except OSError as error:
            raise refused(error, f"'{name}' cannot be read", path) from error
        except ValueError as error:
            raise bad_object(f"'{name}' cannot be mapped: {error}", str(path)) from error
        self._maps[name] = ((stat.st_ino, stat.st_size), bytes_map)
        if len(self._maps) > MAX_MAPS:
            self._maps.popitem(last=False)
        return bytes_map

    def get(self, name: str, ranges: Sequence[tuple[int, int]] | None = None) -> "builtins.list[memoryview]":
        """Views of the mapped file for each (offset, bytes), or of all of it. Raises BadCache."""
        bytes_map = self.open_map(name)
        view = memoryview(bytes_map.data) if bytes_map.size else memoryview(b"")
        if ranges is None:
            return [view]
        for offset, num_bytes in ranges:
            if offset < 0 or num_bytes < 0 or offset + num_bytes > len(view):
                raise bad_object(
                    f"'{name}' has {len(view)} bytes, too few for {num_bytes} bytes at {offset}",
                    str(self.path(name)),
                )
        return [view[offset : offset + num_bytes] for offset, num_bytes in ranges]

    def where(self, name: str) -> str:
        """The full path of an object, for messages."""
        return str(self.root / name)

    def exists(self, name: str) -> bool:
        """Whether the object is there. Raises Refused where that cannot be told."""
        path = self.path(name)
        try:
            return S_ISREG(path.stat().st_mode)
        except GONE:
            return False
        except OSError as error:
            raise refused(error, f"'{name}' cannot be looked at", path) from error

    def list(self, prefix: str = "") -> "builtins.list[str]":
        """Names of all objects that start with `prefix`, sorted; temporary litter is not an object."""
        parent = prefix.rpartition("/")[0]
        below = self.path(parent) if parent else self.root
        names = (
            path.relative_to(self.root).as_posix() for path in _files(below) if not _LITTER.match(path.name)
        )
        return sorted(name for name in names if name.startswith(prefix))

    def remove(self, name: str) -> None:
        """Delete an object, if it is there. Maps of it that someone holds stay readable."""
        path = self.path(name)
        self._maps.pop(name, None)
        with touching(f"'{name}' could not be removed", path, again=KEPT, passing=GONE), suppress(*GONE):
            _clear_folder(path)
            path.unlink()
            sync(path.parent)

    def sweep(self) -> "builtins.list[str]":
        """Delete what killed writers left; returns the names. Call it only under the builder's lock: it would
        also delete the temporary file of a living writer. Where nothing can be written it stays: nobody reads
        it."""
        litter = [path for path in _files(self.root, begin=_LITTER_BEGINS) if _LITTER.match(path.name)]
        for path in litter:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                if error.errno not in READ_ONLY:
                    raise refused(error, f"'{path.name}' could not be removed", path) from error
        return sorted(path.relative_to(self.root).as_posix() for path in litter)


def _writing(path: Path) -> AbstractContextManager[None]:
    return touching(
        f"'{path.name}' could not be written", path.parent, again=KEPT, passing=(FileExistsError,)
    )


def _holds(path: Path, content: bytes) -> bool:
    """Whether these bytes are a file's; a folder or a pipe holds none."""
    status = path.lstat()
    return S_ISREG(status.st_mode) and status.st_size == len(content) and path.read_bytes() == content


def _link(temporary: Path, path: Path) -> None:
    """Give a file a second, free name and take the first. Raises FileExistsError."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if path.exists():  # a file system without links: the builder's lock keeps others away meanwhile
            raise FileExistsError(str(path)) from error
        os.replace(temporary, path)
        return
    temporary.unlink()


def _write_file(path: Path, buffers: Sequence[Buffer]) -> tuple[int, str]:
    """Write the buffers one after another, none that is large joined to others, and fsync. Returns (bytes,
    digest)."""
    state = RunningDigest()
    num_bytes = 0
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        for buffer in _gathered(buffers):
            rest = memoryview(buffer)
            while len(rest):
                written = os.write(fd, rest[:WRITE_BYTES])
                state.update(rest[:written])
                num_bytes += written
                rest = rest[written:]
        os.fsync(fd)
    finally:
        os.close(fd)
    return num_bytes, state.text()


def _gathered(buffers: Iterable[Buffer]) -> Iterator[Buffer]:
    """The same bytes in fewer pieces: a tar of tiny images is nine buffers a sample, and a call each would
    cost more than what they hold. At most `GATHER_BYTES` are copied at once."""
    small: list[Buffer] = []
    num_bytes = 0
    for buffer in buffers:
        if small and num_bytes + len(buffer) > GATHER_BYTES:
            yield b"".join(small)
            small, num_bytes = [], 0
        if len(buffer) > GATHER_BYTES:
            yield buffer
        else:
            small.append(buffer)
            num_bytes += len(buffer)
    if small:
        yield b"".join(small)


def _clear_folder(path: Path) -> None:
    """Remove an empty folder that stands where a file belongs. Raises BadCache for one that is not empty."""
    if not path.is_dir():
        return
    try:
        path.rmdir()
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        raise _in_the_way(path, "a folder", "a file") from error
    sync(path.parent)


def _in_the_way(path: Path, there: str, wanted: str) -> BadCache:
    aside = shell_line(["mv", str(path), f"{path}.aside"])
    return BadCache(
        f"'{path.name}' is {there} that kdcache did not make, {wanted} of the cache belongs there",
        where=str(path),
        fix=f"move it aside and run the same command again: {aside}",
    )


def _make_folder(folder: Path) -> None:
    """mkdir -p in which every new folder is also safely recorded in its parent. Raises BadCache where a file
    stands in its place."""
    if folder.is_dir():
        return
    if folder.exists():
        raise _in_the_way(folder, "a file", "a folder")
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync(folder.parent)


def _files(folder: Path, *, begin: str = "") -> Iterator[Path]:
    """Every file below a folder whose name begins so; none where it is not there. Raises Refused: half a list
    would say that the other half is not there."""

    def stop(error: OSError) -> None:
        if not isinstance(error, GONE):
            raise refused(error, "the folder cannot be listed", file_of(error)) from error

    for parent, _, names in os.walk(folder, onerror=stop):
        yield from (Path(parent, name) for name in names if name.startswith(begin))
