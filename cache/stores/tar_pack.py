"""Tars that are the same bytes whenever they hold the same members: no time, no owner, ustar headers.

A tar is kept as a list of buffers, so that members are written from where they lie. Offsets of the members
come back with it: with them a tar is a random-access file.
"""

import tarfile
from collections.abc import Iterable

from kdcache.cache.stores.contract import Buffer

BLOCK = 512  # bytes; every header and every member starts at a multiple of it, so float members are aligned
_END = bytes(2 * BLOCK)


def pack_tar(members: Iterable[tuple[str, Buffer]]) -> tuple[list[Buffer], list[int]]:
    """Buffers of the tar in order, and the offset of each member's first byte.

    Two members of one name are our own mistake: readers that group members by name would lose one.
    """
    buffers: list[Buffer] = []
    offsets: list[int] = []
    names: set[str] = set()
    position = 0
    for name, buffer in members:
        assert name not in names, f"two members are called '{name}'"
        names.add(name)
        padding = -len(buffer) % BLOCK
        buffers += [_header(name, len(buffer)), buffer, bytes(padding)]
        offsets.append(position + BLOCK)
        position += BLOCK + len(buffer) + padding
    return [*buffers, _END], offsets


def _header(name: str, num_bytes: int) -> bytes:
    entry = tarfile.TarInfo(name)  # owner, group and time are 0 unless set
    entry.size = num_bytes
    entry.mode = 0o644
    return entry.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")
