"""classes.toml: whose values and colours become which train ids, and every way in which it cannot be read."""

import io
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdcache.cache.errors import BadOption, BadSample
from kdcache.cache.sources.contract import FileSource
from kdcache.cache.sources.own.classes_toml import MOST_ENTRIES, read_classes
from kdcache.cache.sources.table import open_source

STREET = """
[[class]]
name = "road"
id = [7, 900]
colour = "#804080"
[[class]]
name = "car"
id = 26
colour = [[0, 0, 142], "#00003c"]
[ignore]
id = [0, 65535]
colour = "#000000"
"""
PAINTED = STREET.replace("id = [7, 900]\n", "").replace("id = 26\n", "").replace("id = [0, 65535]\n", "")
TRAIN_ID = {(128, 64, 128): 0, (0, 0, 142): 1, (0, 0, 60): 1, (0, 0, 0): 255}


def folder(tmp_path: Path, toml: str, label: Image.Image, **saved: object) -> FileSource:
    for kind in ("images", "labels"):
        (tmp_path / "train" / kind).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", label.size).save(tmp_path / "train/images/a.png")
    label.save(tmp_path / "train/labels/a.png", **saved)
    (tmp_path / "classes.toml").write_text(toml)
    source = open_source(f"folder:{tmp_path}", "train")
    assert isinstance(source, FileSource)
    return source


def train_ids(source: FileSource) -> np.ndarray:
    encoded = source.label_bytes(0)
    assert encoded[24:26] == b"\x08\x00"  # 8 bits, grey: what the image pipeline reads
    return np.asarray(Image.open(io.BytesIO(encoded)))


def painted(seed: int = 0) -> np.ndarray:
    colours = np.array(list(TRAIN_ID), np.uint8)
    return colours[np.random.default_rng(seed).integers(0, len(colours), (23, 31))]


def one_by_one(pixels_HW3: np.ndarray) -> list[list[int]]:
    return [[TRAIN_ID[tuple(int(n) for n in pixel)] for pixel in row] for row in pixels_HW3]  # type: ignore[index]


@pytest.mark.parametrize("toml", [STREET, PAINTED])
def test_colours_become_the_train_ids_that_a_loop_over_pixels_gives(tmp_path: Path, toml: str) -> None:
    pixels_HW3 = painted()
    source = folder(tmp_path, toml, Image.fromarray(pixels_HW3))
    assert source.check(0) == (23, 31) and source.class_names == ("road", "car")
    assert train_ids(source).tolist() == one_by_one(pixels_HW3)


def test_an_opaque_fourth_channel_changes_nothing(tmp_path: Path) -> None:
    pixels_HW3 = painted()
    source = folder(tmp_path, STREET, Image.fromarray(pixels_HW3).convert("RGBA"))
    assert train_ids(source).tolist() == one_by_one(pixels_HW3)


def test_values_up_to_16_bits_become_train_ids(tmp_path: Path) -> None:
    stored = np.array([[7, 900, 26], [0, 65535, 255]], np.uint16)
    source = folder(tmp_path, STREET, Image.fromarray(stored))
    assert source.check(0) == (2, 3)
    assert train_ids(source).tolist() == [[0, 0, 1], [255, 255, 255]]


def palette(indices: list[int], colours: list[int]) -> Image.Image:
    image = Image.new("P", (len(indices), 1))
    image.putpalette(colours)
    image.putdata(indices)
    return image


def test_a_palette_is_read_by_index_where_classes_have_ids(tmp_path: Path) -> None:
    white = palette([7, 26, 0], [255] * 3 * 27)
    assert train_ids(folder(tmp_path, STREET, white)).tolist() == [[0, 1, 255]]


def test_a_palette_is_read_by_colour_where_classes_have_colours_alone(tmp_path: Path) -> None:
    """Programs number a palette as they like: its index would be a class by chance."""
    any_order = palette([0, 1, 2], [0, 0, 60, 0, 0, 0, 128, 64, 128])
    assert train_ids(folder(tmp_path, PAINTED, any_order)).tolist() == [[1, 255, 0]]


def test_names_alone_are_numbered_in_their_order(tmp_path: Path) -> None:
    toml = '[[class]]\nname = "b"\n[[class]]\nname = "a"\n'
    source = folder(tmp_path, toml, Image.fromarray(np.array([[1, 0, 255]], np.uint8)))
    assert source.class_names == ("b", "a") and train_ids(source).tolist() == [[1, 0, 255]]
    assert source.class_map.text == "0>0 1>1 255>255"


def test_a_class_may_have_255_and_then_it_is_not_ignored(tmp_path: Path) -> None:
    toml = '[[class]]\nname = "all"\nid = [1, 255]\n'
    source = folder(tmp_path, toml, Image.fromarray(np.array([[1, 255]], np.uint8)))
    assert train_ids(source).tolist() == [[0, 0]]


def test_an_unknown_colour_is_named_with_its_pixels_and_the_nearest(tmp_path: Path) -> None:
    pixels_HW3 = painted()
    pixels_HW3[:2, :3], pixels_HW3[5, 5] = (129, 64, 128), (0, 0, 70)
    source = folder(tmp_path, STREET, Image.fromarray(pixels_HW3))
    for read in (source.check, source.label_bytes):
        with pytest.raises(BadSample) as caught:
            read(0)
        assert caught.value.what == (
            "the label of 'a' holds colours outside the class map: #814080 (6 pixels, nearest #804080), "
            "#000046 (1 pixel, nearest #00003c)"
        )
        assert caught.value.where == str(tmp_path / "train/labels/a.png")
        assert "classes.toml" in caught.value.fix


def test_of_many_unknown_colours_the_most_frequent_are_named(tmp_path: Path) -> None:
    ramp = np.zeros((1, 40, 3), np.uint8)
    ramp[0, :, 1] = np.r_[np.arange(10, 40), [39] * 10]
    with pytest.raises(BadSample, match=r"#002700 \(11 pixels, nearest #000000\), .* and 25 more"):
        folder(tmp_path, STREET, Image.fromarray(ramp)).check(0)


def test_transparent_pixels_have_no_class(tmp_path: Path) -> None:
    label = Image.fromarray(painted()).convert("RGBA")
    label.putpixel((0, 0), (0, 0, 0, 0))
    with pytest.raises(BadSample, match="the label of 'a' has 1 transparent pixels") as caught:
        folder(tmp_path, STREET, label).check(0)
    assert "without transparency" in caught.value.fix


def test_16_bits_a_channel_are_not_cut_to_8(tmp_path: Path) -> None:
    """Pillow would read 0x80ff as 0x80, a colour of the table."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    pixels = zlib.compress(b"\0" + struct.pack(">3H", 0x80FF, 0x4000, 0x8000))
    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    encoded = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    source = folder(tmp_path, STREET, Image.new("RGB", (1, 1)))
    source.label_path(0).write_bytes(encoded)
    with pytest.raises(BadSample, match="the label of 'a' has 16 bits a channel") as caught:
        source.check(0)
    assert "8 bits" in caught.value.fix


def test_colour_labels_without_a_colour_table_are_still_refused(tmp_path: Path) -> None:
    toml = '[[class]]\nname = "road"\nid = 7\n'
    with pytest.raises(BadSample, match="has 3 channels") as caught:
        folder(tmp_path, toml, Image.fromarray(painted())).check(0)
    assert "classes.toml" in caught.value.fix


def test_another_map_is_another_identity(tmp_path: Path) -> None:
    label = Image.fromarray(painted())
    first = folder(tmp_path, STREET, label).describe()
    assert first["class_map"] == (
        "0>255 7>0 26>1 255>255 900>0 65535>255 #804080>0 #00008e>1 #00003c>1 #000000>255"
    )
    for old, new in (("900", "901"), ("#804080", "#804081"), ('"#00003c"', '"#00003d"'), ("[0, 65535]", "0")):
        assert folder(tmp_path, STREET.replace(old, new), label).describe() != first, new


def test_the_first_colour_of_a_class_is_what_pictures_show(tmp_path: Path) -> None:
    (tmp_path / "classes.toml").write_text(STREET)
    assert read_classes(tmp_path / "classes.toml").class_map.colours == ((128, 64, 128), (0, 0, 142))


def test_the_table_that_the_documents_show_is_one(tmp_path: Path) -> None:
    text = (Path(__file__).parents[4] / "docs/own.md").read_text()
    (block,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "classes.toml").write_text(block)
    names, class_map = read_classes(tmp_path / "classes.toml")
    assert names == ("road", "pavement")
    assert class_map.text == (
        "0>255 7>0 8>1 255>255 900>0 65535>255 #804080>0 #f423e8>1 #fa3cf0>1 #000000>255"
    )


@pytest.mark.parametrize(
    ("toml", "what", "fix"),
    [
        ("x = [", "'classes.toml' cannot be read", "[[class]]"),
        ("x = " + "[" * 5000, "'classes.toml' cannot be read", "[[class]]"),
        ("", "no list of classes cannot number labels", "give 1 to 255"),
        ("class = []", "0 classes cannot number labels", "give 1 to 255"),
        ('[[class]]\nname = "a"\n' * 256, "256 classes cannot number labels", "give 1 to 255"),
        ("class = [3]", "class 0 has no name that is a text", 'name = "road"'),
        ("[[class]]\nname = 3", "class 0 has no name that is a text", 'name = "road"'),
        ('[[class]]\nname = " "', "class 0 has no name that is a text", 'name = "road"'),
        ('[[class]]\nname = "a"\n[[class]]\nname = "a"', "two classes are called 'a'", "name of its own"),
        (
            '[[class]]\nname = "a"\ncolor = "#000000"',
            "a has an unknown key 'color'",
            "did you mean 'colour'?",
        ),
        (
            'classes = 1\n[[class]]\nname = "a"',
            "the file has an unknown key 'classes'",
            "legal: class, ignore",
        ),
        ('[[class]]\nname = "a"\nid = 65536', "a has the id 65536", "from 0 to 65535"),
        ('[[class]]\nname = "a"\nid = -1', "a has the id -1", "from 0 to 65535"),
        ('[[class]]\nname = "a"\nid = true', "a has the id True", "from 0 to 65535"),
        ('[[class]]\nname = "a"\nid = ["7"]', "a has the id '7'", "from 0 to 65535"),
        ('[[class]]\nname = "a"\nid = [3, 3]', "id 3 is twice of a", "one place"),
        (
            '[[class]]\nname = "a"\nid = 3\n[[class]]\nname = "b"\nid = 3',
            "id 3 is of a and of b",
            "one place",
        ),
        ('[[class]]\nname = "a"\nid = 3\n[ignore]\nid = 3', "id 3 is of a and of [ignore]", "one place"),
        (
            '[[class]]\nname = "a"\ncolour = "#0000Ff"\n[[class]]\nname = "b"\ncolour = [0, 0, 255]',
            "colour #0000ff is of a and of b",
            "one place",
        ),
        ('[[class]]\nname = "a"\ncolour = [0, 0, 256]', "a has the colour [0, 0, 256]", "from 0 to 255"),
        ('[[class]]\nname = "a"\ncolour = "#12345"', "a has the colour '#12345'", "from 0 to 255"),
        (
            '[[class]]\nname = "a"\ncolour = "red"',
            "a has the colour 'red', which is no colour",
            "from 0 to 255",
        ),
        ('[[class]]\nname = "a"\ncolour = [0, 0]', "a has the colour [0, 0]", "from 0 to 255"),
        ('[[class]]\nname = "a"\nid = 3\n[[class]]\nname = "b"', "'b' has no id", "every class an id"),
        ('[[class]]\nname = "a"\ncolour = "#000000"\n[[class]]\nname = "b"', "'b' has no colour", "a colour"),
        (
            '[[class]]\nname = "a"\ncolour = "#000000"\n[ignore]\nid = 0',
            "[ignore] has an id, and the classes have colours alone",
            "its colour",
        ),
        ('ignore = 3\n[[class]]\nname = "a"', "[ignore] is no table", "id = 0 below it"),
        (
            f'[[class]]\nname = "a"\nid = {list(range(MOST_ENTRIES + 1))}',
            f"{MOST_ENTRIES + 1} ids and colours are more than {MOST_ENTRIES}",
            "leave out",
        ),
    ],
)
def test_a_table_that_cannot_number_labels_is_refused(tmp_path: Path, toml: str, what: str, fix: str) -> None:
    (tmp_path / "classes.toml").write_text(toml)
    with pytest.raises(BadOption) as caught:
        read_classes(tmp_path / "classes.toml")
    assert what in caught.value.what and fix in caught.value.fix
    assert caught.value.where == str(tmp_path / "classes.toml")


def test_two_files_of_class_names_are_refused(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("a")
    with pytest.raises(BadOption, match="classes.toml and classes.txt both name the classes") as caught:
        folder(tmp_path, STREET, Image.new("L", (2, 2)))
    assert caught.value.fix == f"remove one of them: rm {tmp_path / 'classes.txt'}"
