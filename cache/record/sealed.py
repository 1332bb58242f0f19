"""JSON files that end in a digest of themselves: a flipped bit anywhere is an error, never another value.

The last key is "seal", over every byte before it. What is decoded is checked against a type with bounds.
"""

import re
from pathlib import Path
from typing import TypeVar

import msgspec

from kdcache.cache.errors import BadCache
from kdcache.cache.files.regular import read_regular
from kdcache.cache.fingerprint import digest_bytes
from kdcache.cache.system import GONE, touching

MAX_BYTES = 8 << 20  # of one file, where its reader does not say
# Exactly as it is written: one flipped bit makes another white space of a newline.
SEAL = re.compile(rb',(?:\n )?"seal":"(x3:[0-9a-f]{32})"\n?\}\n\Z')
_TAIL_BYTES = 80  # the seal's own length, with spaces

T = TypeVar("T")


def sealed(body: object, *, readable: bool = False) -> bytes:
    """The bytes of a value whose JSON is an object; `readable` puts one key on a line."""
    plain = msgspec.json.encode(body, order="sorted")
    if readable:
        plain = msgspec.json.format(plain, indent=1)
    opened = plain[:-1].rstrip()
    space, end = (b"\n ", b"\n}\n") if readable else (b"", b"}\n")
    return opened + b"," + space + b'"seal":' + f'"{digest_bytes(opened)}"'.encode() + end


def seal_of(content: bytes) -> str:
    """The seal that a file ends in, compared with its bytes. Raises ValueError."""
    return _opened(content)[1]


def _opened(content: bytes) -> tuple[bytes, str]:
    """What is sealed, and its seal."""
    match = SEAL.search(content, max(0, len(content) - _TAIL_BYTES))
    if match is None:
        raise ValueError("it does not end in a seal")
    body, stored = content[: match.start()], match[1].decode()
    computed = digest_bytes(body)
    if stored != computed:
        raise ValueError(f"its seal differs (stored {stored}, found {computed})")
    return body, stored


def decode_sealed(content: bytes, kind: type[T]) -> tuple[T, str]:
    """The value and its seal. Raises ValueError for bytes that were changed, or that are not of `kind`."""
    body, seal = _opened(content)
    try:
        return msgspec.json.decode(body + b"}", type=kind), seal
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(str(error)) from error


def read_sealed(
    path: Path, kind: type[T], *, what: str, fix: str, max_bytes: int = MAX_BYTES
) -> tuple[T, str]:
    """The value of a file and its seal. Raises BadCache, which calls the file `what`, and Refused."""
    try:
        with touching(f"'{path.name}' cannot be read", path, passing=GONE):
            content = read_regular(path, max_bytes, follow=False)
        return decode_sealed(content, kind)
    except GONE as error:
        raise BadCache(f"{what} is missing", where=str(path), fix=fix) from error
    except ValueError as error:
        raise BadCache(f"{what} cannot be read: {error}", where=str(path), fix=fix) from error
