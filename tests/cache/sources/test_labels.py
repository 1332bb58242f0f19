"""Labels of every encoding that people store, against PNGs put together by hand, byte by byte."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from kdcache.cache.errors import BadSample
from kdcache.cache.sources.labels import ClassMap, encode_label, identity_map, train_id_png

PATH = Path("labels/k.png")
GREY, RGB, PALETTE = 0, 2, 3  # PNG colour types


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(ids_HW: np.ndarray, *, depth: int, colour: int = GREY, extra: bytes = b"") -> bytes:
    """A PNG of one channel, written from the format's definition and not by Pillow."""
    height, width = ids_HW.shape
    bits = (ids_HW[..., None].astype(np.int64) >> np.arange(depth - 1, -1, -1)) & 1
    rows = np.packbits(bits.reshape(height, width * depth).astype(np.uint8), axis=1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def converted(encoded: bytes, class_map: ClassMap) -> np.ndarray:
    result = train_id_png(encoded, class_map, key="k", path=PATH)
    assert result[24:26] == b"\x08\x00"  # 8 bits, grey
    return np.asarray(Image.open(io.BytesIO(result)))


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_grey_of_any_depth_keeps_its_class_ids(depth: int) -> None:
    num_classes = min(2**depth, 200)
    ids_HW = np.arange(7 * 11).reshape(7, 11) % num_classes
    np.testing.assert_array_equal(converted(png(ids_HW, depth=depth), identity_map(num_classes)), ids_HW)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_palettes_are_read_by_index_whatever_their_colours(depth: int) -> None:
    ids_HW = np.arange(7 * 11).reshape(7, 11) % 2**depth
    white = chunk(b"PLTE", b"\xff" * 3 * 2**depth)
    encoded = png(ids_HW, depth=depth, colour=PALETTE, extra=white)
    np.testing.assert_array_equal(converted(encoded, ClassMap({i: i for i in range(256)})), ids_HW)


def test_only_plain_8_bit_grey_keeps_its_bytes() -> None:
    ids_HW = np.array([[0, 1], [1, 255]])
    plain = png(ids_HW, depth=8, extra=chunk(b"tEXt", b"Comment\0by hand"))  # lost when written anew
    see_through = png(ids_HW, depth=8, extra=chunk(b"tRNS", b"\0\1"))
    two = identity_map(2)
    assert train_id_png(plain, two, key="k", path=PATH) == plain
    assert train_id_png(see_through, two, key="k", path=PATH) != see_through
    np.testing.assert_array_equal(converted(see_through, two), ids_HW)


def test_16_bit_values_beyond_255_are_outside_the_map() -> None:
    with pytest.raises(BadSample, match=r"outside the class map: 256, 7000 \(2 pixels\)"):
        train_id_png(png(np.array([[0, 256, 7000]]), depth=16), identity_map(3), key="k", path=PATH)


def test_legal_values_are_shown_as_ranges() -> None:
    some = ClassMap({0: 0, 1: 1, 2: 2, 7: 3, 255: 255})
    with pytest.raises(BadSample) as caught:
        train_id_png(png(np.array([[3, 4, 5, 6, 8, 9, 10]]), depth=8), some, key="k", path=PATH)
    assert "3, 4, 5, 6, 8, ... (7 pixels)" in caught.value.what
    assert caught.value.fix.startswith("legal values are 0-2, 7, 255;")


def test_colours_in_place_of_ids_are_refused() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3), (128, 0, 0)).save(buffer, "PNG")
    with pytest.raises(BadSample, match=r"the label of 'k' has 3 channels \(RGB\)") as caught:
        train_id_png(buffer.getvalue(), identity_map(2), key="k", path=PATH)
    assert "one channel" in caught.value.fix and caught.value.where == str(PATH)


def test_a_label_that_only_ends_in_png_is_refused() -> None:
    buffer = io.BytesIO()
    Image.new("L", (4, 3)).save(buffer, "JPEG")
    with pytest.raises(BadSample, match="the label of 'k' is not a PNG"):
        train_id_png(buffer.getvalue(), identity_map(2), key="k", path=PATH)


@pytest.mark.parametrize("keep", [20, 40, -20])
def test_a_png_cut_anywhere_is_named(keep: int) -> None:
    with pytest.raises(BadSample, match="the label of 'k' cannot be read"):
        train_id_png(png(np.zeros((40, 40)), depth=8)[:keep], identity_map(2), key="k", path=PATH)


def test_a_flipped_byte_in_a_png_is_named() -> None:
    """Decoding alone would return other class ids, all of them legal."""
    rng = np.random.default_rng(0)
    encoded = bytearray(png(rng.integers(0, 2, (40, 40)), depth=8))
    encoded[len(encoded) // 2] ^= 0xFF
    assert np.asarray(Image.open(io.BytesIO(bytes(encoded)))).shape == (40, 40)
    with pytest.raises(BadSample, match="cannot be read"):
        train_id_png(bytes(encoded), identity_map(2), key="k", path=PATH)


@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_conversion_is_the_map_applied_to_each_pixel(data: st.DataObject, seed: int) -> None:
    train_ids = data.draw(st.dictionaries(st.integers(0, 255), st.integers(0, 255), min_size=1))
    stored = np.random.default_rng(seed).choice(list(train_ids), size=(5, 6)).astype(np.uint8)
    expected = [[train_ids[int(v)] for v in row] for row in stored]
    np.testing.assert_array_equal(converted(encode_label(stored), ClassMap(train_ids)), expected)


def test_the_text_of_a_map_tells_maps_apart() -> None:
    assert ClassMap({2: 1, 0: 255}).text == "0>255 2>1"
    assert ClassMap({2: 0, 0: 255}).text != ClassMap({2: 1, 0: 255}).text
