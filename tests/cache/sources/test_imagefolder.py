"""Folders of images by class: which number a class has, and what must not be lost in silence."""

from pathlib import Path

import class_data as draw
import pytest
from PIL import Image

from kdcache.cache.errors import BadSample, Missing
from kdcache.cache.sources.table import open_source, splits


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return draw.draw_imagefolder(tmp_path / "photos")


def test_classes_are_the_folders_of_train_in_every_split(root: Path) -> None:
    for path in (root / "val/cat").iterdir():
        path.unlink()
    (root / "val/cat").rmdir()
    val = open_source(f"imagefolder:{root}", "val")
    assert splits(f"imagefolder:{root}") == ("train", "val")
    assert val.class_names == ("cat", "dog") and val.label_bytes(0) == b"1"
    assert list(val.keys) == ["dog/001", "dog/003"]


def test_a_split_alone_has_its_own_classes(root: Path) -> None:
    (root / "train").rename(root / "kept")
    assert open_source(f"imagefolder:{root}", "val").class_names == ("cat", "dog")


def test_a_class_without_number_is_named(root: Path) -> None:
    (root / "val/bird").mkdir()
    with pytest.raises(Missing, match="class 'bird' of split 'val' is not in 'train'") as caught:
        open_source(f"imagefolder:{root}", "val")
    assert caught.value.where == str(root / "val/bird") and "cat, dog" in caught.value.fix


def test_a_class_without_images_is_named(root: Path) -> None:
    (root / "train/bird").mkdir()
    (root / "train/bird/readme.txt").write_text("soon")
    with pytest.raises(Missing, match="the class 'bird' of split 'train' has no images") as caught:
        open_source(f"imagefolder:{root}", "train")
    assert caught.value.where == str(root / "train/bird") and "remove the folder" in caught.value.fix


def test_an_image_of_a_form_that_is_not_read_is_named(root: Path) -> None:
    Image.new("RGB", (4, 4)).save(root / "train/dog/late.BMP")
    with pytest.raises(BadSample, match=r"'late.BMP' is a .BMP image; read are .jpg") as caught:
        open_source(f"imagefolder:{root}", "train")
    assert caught.value.where == str(root / "train/dog/late.BMP") and "convert" in caught.value.fix


def test_two_files_of_one_key_are_named(root: Path) -> None:
    Image.new("RGB", (4, 4)).save(root / "train/cat/000.png")
    with pytest.raises(BadSample, match="two images have the key '000': 000.jpg and 000.png") as caught:
        open_source(f"imagefolder:{root}", "train")
    assert caught.value.where == str(root / "train/cat")


def test_a_truncated_and_a_missing_image_are_named(root: Path) -> None:
    source = open_source(f"imagefolder:{root}", "train")
    path = root / f"train/{source.keys[0]}.jpg"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(BadSample, match="the image of 'cat/000' cannot be read"):
        source.check(0)
    path.unlink()
    for read in (source.check, source.size, source.image_bytes):
        with pytest.raises(BadSample, match="'cat/000' has no image"):
            read(0)


def test_the_input_is_224_pixels_or_the_size_of_small_images(root: Path, tmp_path: Path) -> None:
    assert open_source(f"imagefolder:{root}", "train").default_crop == (24, 30)
    large = draw.draw_imagefolder(tmp_path / "large", size=(230, 100))
    assert open_source(f"imagefolder:{large}", "train").default_crop == (224, 224)


def test_images_may_lie_deeper_than_their_class(root: Path) -> None:
    (root / "train/dog/images").mkdir()
    Image.new("RGB", (4, 4)).save(root / "train/dog/images/a.JPEG")
    source = open_source(f"imagefolder:{root}", "train")
    assert source.label_bytes(list(source.keys).index("dog/images/a")) == b"1"
