"""What counts as an image, what its key is, and which files are refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdcache.cache.errors import BadSample, Missing
from kdcache.cache.sources.listing import find_images, header_size, image_size, listed_keys
from kdcache.cache.sources.table import open_source


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.mark.parametrize(
    ("content", "why"), [(b"", "the file is empty"), (b"text", "it is no image of a known format")]
)
def test_what_is_no_image_is_told_without_addresses_of_memory(
    tmp_path: Path, content: bytes, why: str
) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(BadSample) as caught:
        image_size(path, key="k")
    assert caught.value.what == f"the image of 'k' cannot be read: {why}"
    with pytest.raises(BadSample, match="no image of a known format"):
        header_size(path, key="k")


def test_keys_are_paths_without_suffix_and_ending(tmp_path: Path) -> None:
    touch(tmp_path, "a_left.jpg", "x/y/b.1_left.PNG", "c_left.jpeg", "d.jpg", "e_left.txt", "._f_left.jpg")
    images = find_images(tmp_path, "_left")
    assert images == {"a": "a_left.jpg", "x/y/b.1": "x/y/b.1_left.PNG", "c": "c_left.jpeg"}


def test_linked_folders_are_followed(tmp_path: Path) -> None:
    touch(tmp_path, "disk2/a.jpg")
    (tmp_path / "images").mkdir()
    (tmp_path / "images/more").symlink_to(tmp_path / "disk2")
    assert find_images(tmp_path / "images", "") == {"more/a": "more/a.jpg"}


def test_two_files_with_one_key_are_both_named(tmp_path: Path) -> None:
    touch(tmp_path, "train/images/x/a.jpg", "train/images/x/a.png", "train/labels/x/a.png")
    (tmp_path / "classes.txt").write_text("road")
    with pytest.raises(BadSample) as caught:
        open_source(f"folder:{tmp_path}", "train")
    assert caught.value.what == "two images have the key 'x/a': x/a.jpg and x/a.png"
    assert caught.value.where == str(tmp_path / "train/images")
    assert "rename or remove" in caught.value.fix


def test_a_key_listed_twice_names_both_lines(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_text("a\nb\n\na.jpg\n")
    with pytest.raises(BadSample, match="the key 'a' is listed twice, on lines 1 and 4") as caught:
        listed_keys(path)
    assert caught.value.where == str(path)


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("2007_000032", "2007_000032"),
        ("x/a.v2", "x/a.v2"),
        ("x/a.v2.png", "x/a.v2"),
        ("my street 1", "my street 1"),
        ("my street 1.JPG", "my street 1"),
        ("/SegNet/CamVid/train/0001.png /SegNet/CamVid/trainannot/0001.png", "0001"),
        ("/JPEGImages/2007_1.jpg /SegmentationClassAug/2007_1.png", "2007_1"),
    ],
)
def test_lists_name_keys_or_paths(line: str, key: str, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbf" + line.encode() + b"\r\n\r\n")
    assert listed_keys(tmp_path / "list.txt") == [key]


def test_a_list_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(Missing, match="the list of a split cannot be read") as caught:
        listed_keys(tmp_path / "list.txt")
    assert caught.value.where == str(tmp_path / "list.txt")


def test_an_empty_split_is_an_error(tmp_path: Path) -> None:
    touch(tmp_path, "train/images/.keep", "train/labels/.keep")
    (tmp_path / "classes.txt").write_text("road")
    with pytest.raises(Missing, match="folder split 'train' has no samples") as caught:
        open_source(f"folder:{tmp_path}", "train")
    assert caught.value.where == str(tmp_path / "train/images")


def test_an_image_of_another_format_is_refused_whatever_its_suffix(tmp_path: Path) -> None:
    Image.new("RGB", (8, 6)).save(tmp_path / "a.jpg", "BMP")
    with pytest.raises(BadSample, match="the image of 'k' is BMP, whatever its suffix says") as caught:
        image_size(tmp_path / "a.jpg", key="k")
    assert caught.value.fix == "convert it to JPEG or PNG"


def test_a_file_of_noise_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(bytes(range(256)))
    with pytest.raises(BadSample, match="the image of 'k' cannot be read") as caught:
        image_size(tmp_path / "a.jpg", key="k")
    assert caught.value.where == str(tmp_path / "a.jpg")


def test_an_image_turned_by_exif_has_its_stored_size_and_says_so(tmp_path: Path) -> None:
    for kind in ("images", "labels"):
        (tmp_path / "train" / kind).mkdir(parents=True)
    (tmp_path / "classes.txt").write_text("road")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees
    Image.new("RGB", (8, 6)).save(tmp_path / "train/images/a.jpg", exif=exif)
    label = tmp_path / "train/labels/a.png"
    Image.fromarray(np.zeros((6, 8), np.uint8)).save(label)
    source = open_source(f"folder:{tmp_path}", "train")
    assert source.check(0) == (6, 8)
    Image.fromarray(np.zeros((8, 6), np.uint8)).save(label)
    with pytest.raises(BadSample, match="EXIF turns it, which is ignored here"):
        source.check(0)


def test_a_flipped_byte_in_a_png_image_is_named(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png", compress_level=0)
    encoded = bytearray((tmp_path / "a.png").read_bytes())
    encoded[len(encoded) // 2] ^= 1
    (tmp_path / "a.png").write_bytes(encoded)
    with pytest.raises(BadSample, match="the image of 'k' cannot be read"):
        image_size(tmp_path / "a.png", key="k")
