"""Sizes of pictures from their headers, against Pillow's, and the limit."""

import io

import numpy as np
import pytest
from PIL import Image

from kdcache.cache.files.picture import MAX_PIXELS, TooManyPixels, check_picture_size, picture_size

WAYS = {
    "png": {"format": "PNG"},
    "jpeg": {"format": "JPEG"},
    "progressive": {"format": "JPEG", "progressive": True},
    "with much before the frame": {"format": "JPEG", "comment": b"\xff\xc0" * 30_000, "dpi": (300, 300)},
}


def encoded(height: int, width: int, way: str, mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (width, height)).save(buffer, **WAYS[way])  # type: ignore[arg-type]
    return buffer.getvalue()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("size", [(1, 1), (3, 700), (300, 2)])
def test_the_size_is_that_which_is_decoded(way: str, mode: str, size: tuple[int, int]) -> None:
    content = encoded(*size, way, mode)
    assert picture_size(content) == size
    assert picture_size(np.frombuffer(content, np.uint8)) == size
    assert picture_size(memoryview(content)) == size


@pytest.mark.parametrize("marker", [0xC4, 0xC8, 0xCC])
def test_tables_before_the_frame_are_not_the_frame(marker: int) -> None:
    """Huffman tables, extensions and arithmetic conditioning are marked as frames are, and may come first."""
    content = encoded(5, 6, "jpeg")
    segment = content[content.index(b"\xff\xc4") :]
    table = segment[: 2 + int.from_bytes(segment[2:4])]
    assert picture_size(content[:2] + bytes([0xFF, marker]) + table[2:] + content[2:]) == (5, 6)
    with Image.open(io.BytesIO(content[:2] + table + content[2:])) as tables_first:
        assert tables_first.convert("RGB").getpixel((0, 0)) == (0, 0, 0) and tables_first.size == (6, 5)


@pytest.mark.parametrize("way", WAYS)
def test_a_header_that_is_cut_gives_no_size_and_no_error(way: str) -> None:
    content = encoded(5, 6, way)
    sizes = {picture_size(content[:length]) for length in range(0, min(len(content), 700))}
    assert sizes <= {None, (5, 6)}


def test_other_bytes_have_no_size() -> None:
    assert picture_size(b"") is None and picture_size(b"GIF89a" + bytes(40)) is None
    assert picture_size(b"\xff\xd8" + b"\xff" * 1000) is None


def png_of(height: int, width: int) -> bytes:
    """The header alone: nothing more is read."""
    return b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + width.to_bytes(4) + height.to_bytes(4) + b"\x08\x02\0\0\0"


def test_one_pixel_more_than_the_limit_is_refused_with_size_and_limit() -> None:
    assert check_picture_size(png_of(1, MAX_PIXELS)) == (1, MAX_PIXELS)
    with pytest.raises(TooManyPixels, match=r"^13000x14000 pixels .*, at most 178956970 in all are decoded$"):
        check_picture_size(png_of(13000, 14000))
    with pytest.raises(TooManyPixels):
        check_picture_size(png_of(1, MAX_PIXELS + 1))
