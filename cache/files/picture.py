"""Height and width that a PNG or JPEG claims in its header, read before anything is decoded.

A file of a megabyte may claim a gigabyte of pixels: whoever decodes asks here first, and compares with what
the picture is said to be. PNG: https://www.w3.org/TR/png-3/#11IHDR. JPEG: ITU-T T.81, B.2.2 (frame header).
"""

import numpy as np

# Twice what Pillow warns of, the size from which on it refuses too: 3 bytes each are half a gigabyte.
MAX_PIXELS = 178_956_970
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
_PNG_START = _PNG[:4]  # tells it from any other format
_ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a length
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_DATA, _END = 0xDA, 0xD9
_FILL = 0xFF
_MOST_SEGMENTS = 1 << 16


class TooManyPixels(ValueError):
    """A picture larger than any that is decoded; the text is its size and the limit."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__(f"{height}x{width} pixels (height x width), at most {MAX_PIXELS} in all are decoded")


def picture_size(encoded: bytes | memoryview | np.ndarray) -> tuple[int, int] | None:
    """(height, width) as the header has it; None for what is neither PNG nor JPEG, or is cut before it."""
    content = memoryview(encoded) if isinstance(encoded, bytes) else encoded
    head = bytes(content[:24])
    if head.startswith(_PNG):
        whole = len(head) == 24 and head[12:16] == b"IHDR"
        return (int.from_bytes(head[20:24]), int.from_bytes(head[16:20])) if whole else None
    return _jpeg_size(content) if head.startswith(_JPEG) else None


def is_png(encoded: bytes | memoryview | np.ndarray) -> bool:
    """Whether these bytes begin as a PNG does: then no decoder takes them for another format."""
    content = memoryview(encoded) if isinstance(encoded, bytes) else encoded
    return bytes(content[: len(_PNG_START)]) == _PNG_START


def check_picture_size(encoded: bytes | memoryview | np.ndarray) -> tuple[int, int] | None:
    """As `picture_size`. Raises TooManyPixels."""
    size = picture_size(encoded)
    if size is not None and size[0] * size[1] > MAX_PIXELS:
        raise TooManyPixels(*size)
    return size


def _jpeg_size(content: memoryview | np.ndarray) -> tuple[int, int] | None:
    place, end = len(_JPEG), len(content)
    for _ in range(_MOST_SEGMENTS):
        if place + 4 > end or content[place] != _FILL:
            return None
        marker = int(content[place + 1])
        if marker == _FILL:  # padding between segments
            place += 1
        elif marker in _ALONE:
            place += 2
        elif marker in _FRAMES:
            frame = bytes(content[place + 5 : place + 9])
            return (int.from_bytes(frame[:2]), int.from_bytes(frame[2:])) if len(frame) == 4 else None
        elif marker in (_DATA, _END):
            return None
        else:
            place += 2 + int.from_bytes(bytes(content[place + 2 : place + 4]))
    return None
