"""Digests that must agree: of plain values (canonical JSON) and of files."""

import hashlib
import json
from pathlib import Path

CHUNK_BYTES = 1 << 20  # 1 MiB: large enough that hashing, not the loop, is the cost


def canonical(value: object) -> bytes:
    """The one byte form of a JSON value: sorted keys, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def digest_of(value: object, num_hex: int = 32) -> str:
    """Blake2b of a JSON value, as `num_hex` hexadecimal digits."""
    return hashlib.blake2b(canonical(value), digest_size=num_hex // 2).hexdigest()


def digest_bytes(*buffers: bytes | memoryview) -> str:
    """'b2:' and the 128-bit blake2b of the buffers, as if they were one."""
    state = hashlib.blake2b(digest_size=16)
    for buffer in buffers:
        state.update(buffer)
    return f"b2:{state.hexdigest()}"


def digest_file(path: Path) -> str:
    """The same digest of a file's bytes, read in pieces of `CHUNK_BYTES`."""
    state = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while piece := file.read(CHUNK_BYTES):
            state.update(piece)
    return f"b2:{state.hexdigest()}"
