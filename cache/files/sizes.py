"""A number of bytes as a user writes it."""

import re

from kdcache.cache.errors import BadOption

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}  # bytes
MOST_BYTES = 1 << 60


def parse_size(text: str, flag: str, *, least: int = 1) -> int:
    """'4G' -> 4294967296 bytes; K, M, G, T are powers of 1024, a trailing 'B' or 'iB' is allowed. Raises
    BadOption for another form, and for less than `least`."""
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,15})?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    num_bytes = int(float(match[1]) * _UNITS[match[2].upper()]) if match else -1
    if not least <= num_bytes <= MOST_BYTES:
        raise BadOption(f"'{text}' is no size", where=f"{flag} {text}", fix="write bytes as 512M, 4G or 1.5G")
    return num_bytes
