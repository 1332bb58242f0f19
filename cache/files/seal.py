"""JSON that ends in a digest of itself: a flipped bit anywhere is an error, never another value.

The last key is "seal", over every byte before it (the comma excluded). Files of caches and of runs end so.
"""

import json
import re
from typing import Any, TypeVar

import msgspec

from kdcache.cache.files.plain_json import parse_json
from kdcache.cache.fingerprint import digest_bytes

# Exactly as it is written: one flipped bit makes another white space of a newline.
SEAL = re.compile(rb',(?:\n )?"seal":"(x3:[0-9a-f]{32})"\n?\}\n\Z')
_TAIL_BYTES = 80  # the seal's own length, with spaces

T = TypeVar("T")


def sealed(body: object, *, readable: bool = False) -> bytes:
    """The bytes of a value whose JSON is an object; `readable` puts one key on a line."""
    plain = msgspec.json.encode(body, order="sorted")
    if readable:
        plain = msgspec.json.format(plain, indent=1)
    return _closed(plain, readable=readable)


def sealed_text(body: Any) -> str:
    """The text of a JSON object for people, keys sorted, one on a line; numbers may be NaN."""
    plain = json.dumps(body, indent=1, sort_keys=True, default=str).encode()
    return _closed(plain, readable=True).decode()


def opened_text(content: bytes, *, unsealed: int | None) -> dict[str, Any]:
    """The object that `sealed_text` wrote, without its seal. One whose "format" is `unsealed` (None: that has
    none) is of before there were seals and is taken as it is. Raises ValueError."""
    raw = parse_json(content)
    if not isinstance(raw, dict):
        raise ValueError("it is no JSON object")
    if raw.get("format") != unsealed or "seal" in raw:
        seal_of(content)
    return {name: value for name, value in raw.items() if name != "seal"}


def _closed(plain: bytes, *, readable: bool) -> bytes:
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
