"""Tars that are the same bytes whenever they hold the same members: no time, no owner, ustar headers.

A tar is kept as a list of buffers, so that members are written from where they lie. Offsets of the members
come back with it: with them a tar is a random-access file.
"""

import tarfile
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

from kdcache.cache.stores.contract import Buffer

BLOCK = 512  # bytes; every header and every member starts at a multiple of it, so float members are aligned
_END = bytes(2 * BLOCK)
_MOST_BYTES = 8**11 - 1  # of a member: eleven octal digits


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


class _Template(NamedTuple):
    """A header without name, size and checksum: what lies between them, and its share of the checksum."""

    before_size: bytes
    before_checksum: bytes
    after_checksum: bytes
    total: int  # of all its bytes, with spaces for the checksum and no digits of a size


def _header(name: str, num_bytes: int) -> bytes:
    """As `tarfile` writes it, which takes thirty microseconds: as long as it takes to decode a tiny image."""
    text = name.encode("ascii")
    if len(text) > tarfile.LENGTH_NAME or num_bytes > _MOST_BYTES:
        return _tarfile_header(name, num_bytes)  # it parts the name in two, or says what is wrong
    template, size = _template(), b"%011o" % num_bytes
    checksum = b"%06o\0 " % (template.total + sum(text) + sum(size))
    return b"".join(
        (
            text.ljust(tarfile.LENGTH_NAME, b"\0"),
            template.before_size,
            size,
            template.before_checksum,
            checksum,
            template.after_checksum,
        )
    )


@cache
def _template() -> _Template:
    plain = _tarfile_header("", 0)
    before_size, before_checksum, after = plain[100:124], plain[135:148], plain[156:]
    total = sum(before_size) + sum(before_checksum) + sum(after) + 8 * ord(" ")
    return _Template(before_size, before_checksum, after, total)


def _tarfile_header(name: str, num_bytes: int) -> bytes:
    entry = tarfile.TarInfo(name)  # owner, group and time are 0 unless set
    entry.size = num_bytes
    entry.mode = 0o644
    return entry.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")
