"""Sources that read arrays: how rows are parted into splits, and what is refused."""

import gzip
import io
from pathlib import Path

import class_data as draw
import numpy as np
import pytest
from PIL import Image

from kdcache.cache.errors import BadSample, Missing
from kdcache.cache.sources.arrays import PNG_LEVEL, encode_png
from kdcache.cache.sources.table import open_source, splits


def keys(spec: str, split: str) -> list[str]:
    return list(open_source(spec, split).keys)


def test_without_rows_of_its_own_val_is_the_last_tenth_of_train(tmp_path: Path) -> None:
    spec = f"npz:{draw.draw_npz(tmp_path)}"
    assert splits(spec) == ("train", "val", "trainval", "test")
    assert keys(spec, "val") == ["train/00018", "train/00019"]
    assert keys(spec, "trainval") == keys(spec, "train") + keys(spec, "val")
    assert keys(spec, "test") == [f"test/{i:05d}" for i in range(4)]
    assert open_source(spec, "train").describe()["val"] == "last tenth of train"


def test_val_rows_of_its_own_leave_train_whole(tmp_path: Path) -> None:
    spec = f"npz:{draw.draw_npz(tmp_path, x_val=draw.pixels(3, (32, 32, 3), 2), y_val=[0, 1, 2])}"
    assert len(keys(spec, "train")) == 20 and keys(spec, "val") == [f"val/{i:05d}" for i in range(3)]
    assert keys(spec, "trainval") == keys(spec, "train") + keys(spec, "val")
    whole = open_source(spec, "trainval")
    assert whole.content(21) == open_source(spec, "val").content(1)
    assert "val" not in whole.describe()


def test_one_training_row_cannot_be_parted(tmp_path: Path) -> None:
    spec = f"npz:{draw.draw_npz(tmp_path, x_train=draw.pixels(1, (32, 32, 3)), y_train=[0])}"
    with pytest.raises(Missing, match="1 training rows cannot be parted") as caught:
        open_source(spec, "train")
    assert "'trainval'" in caught.value.fix and len(keys(spec, "trainval")) == 1


def test_class_names_come_from_the_file_then_from_beside_it_then_are_numbers(tmp_path: Path) -> None:
    spec = f"npz:{draw.draw_npz(tmp_path)}"
    assert open_source(spec, "test").class_names == ("0", "1", "2")
    (tmp_path / "dataset.json").write_text('{"classes": ["a", "b", "c", "d"]}')
    assert open_source(spec, "test").class_names == ("a", "b", "c", "d")
    draw.draw_npz(tmp_path, class_names=["x", "y", "z"])
    assert open_source(spec, "test").class_names == ("x", "y", "z")


def test_large_images_get_the_recipe_of_photographs(tmp_path: Path) -> None:
    assert open_source(f"npz:{draw.draw_npz(tmp_path / 'a')}", "train").augment == "pad=4,flip"
    large = draw.draw_npz(tmp_path / "b", (65, 64, 3))
    assert open_source(f"npz:{large}", "train").augment == "rrc=0.08,flip"
    assert open_source(f"fashion-mnist:{draw.draw_fashion_mnist(tmp_path)}", "train").augment == "pad=2,flip"


@pytest.mark.parametrize(
    ("arrays", "what"),
    [
        ({"y_train": [0] * 19}, "'train' holds 20 images and 19 classes"),
        ({"y_train": [0] * 19 + [3], "class_names": ["a", "b", "c"]},
         "'train/00019' has class 3, legal are 0..2 (1 rows are outside)"),
        ({"y_train": [-1] * 20}, "'train/00000' has class -1"),
        ({"y_train": [0.5] * 20}, "classes of 'train' are float64"),
        ({"y_train": np.zeros((20, 3), int)}, "classes of 'train' are int64 of shape (20, 3)"),
        ({"x_train": np.zeros((20, 32, 32, 3), np.float32)}, "images of 'train' are float32"),
        ({"x_train": np.zeros((20, 3, 32, 32), np.uint8)}, "(20, 3, 32, 32), channels first"),
        ({"x_train": np.zeros((20, 3072), np.uint8)}, "images of 'train' are uint8 of shape (20, 3072)"),
        ({"x_train": np.zeros((0, 32, 32), np.uint8), "y_train": np.zeros(0, int)}, "shape (0, 32, 32)"),
        ({"class_names": ["a", "a", "b"]}, "'class_names' is <U1 of shape (3,), or names twice"),
        ({"y_test": [0, 1, 2, 1 << 20]}, "the highest class is 1048576"),
    ],
)  # fmt: skip
def test_arrays_that_are_no_images_and_classes_are_refused(
    tmp_path: Path, arrays: dict[str, object], what: str
) -> None:
    path = draw.draw_npz(tmp_path, **arrays)
    with pytest.raises(BadSample) as caught:
        open_source(f"npz:{path}", "trainval")
    assert what in caught.value.what and str(path) in caught.value.where and caught.value.fix


def test_an_npz_of_objects_is_refused_without_running_it(tmp_path: Path) -> None:
    path = draw.draw_npz(tmp_path, y_train=np.array([Path("x")] * 20, dtype=object))
    with pytest.raises(BadSample, match="'y_train' cannot be read: 'y_train' claims objects"):
        open_source(f"npz:{path}", "train")


def test_train_and_val_of_two_sizes_are_refused(tmp_path: Path) -> None:
    path = draw.draw_npz(tmp_path, x_val=draw.pixels(3, (28, 28, 3)), y_val=[0, 1, 2])
    with pytest.raises(BadSample, match="train and val hold images of two shapes") as caught:
        open_source(f"npz:{path}", "trainval")
    assert str(path) in caught.value.where


def test_a_torn_npz_and_two_of_them_are_refused(tmp_path: Path) -> None:
    path = draw.draw_npz(tmp_path)
    path.with_name("other.npz").write_bytes(path.read_bytes())
    with pytest.raises(BadSample, match="2 npz files lie there: other.npz, small.npz"):
        open_source(f"npz:{tmp_path}", "train")
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(BadSample, match="it cannot be opened") as caught:
        open_source(f"npz:{path}", "train")
    assert caught.value.where == str(path)


@pytest.mark.parametrize(
    ("raw", "what"),
    [
        (b"\0\0\x08\x01" + b"\0\0\0\1\5", "it starts with 00 00 08 01, images with 00 00 08 03"),
        (b"\0\0\x0d\x03" + bytes(12), "it starts with 00 00 0d 03"),
        (b"", "it starts with nothing"),
        (draw.idx_bytes(draw.pixels(20, (28, 28)))[:-1], "it has 15695 bytes, 15696 for 20x28x28 values"),
        (draw.idx_bytes(draw.pixels(20, (28, 28))) + b"x", "it has 15697 bytes"),
        (draw.idx_bytes(draw.pixels(19, (28, 28))), "'train' holds 19 images and 20 classes"),
    ],
)
def test_an_idx_file_that_is_not_what_it_says_is_named(tmp_path: Path, raw: bytes, what: str) -> None:
    root = draw.draw_fashion_mnist(tmp_path)
    path = root / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(raw))
    with pytest.raises(BadSample) as caught:
        open_source(f"fashion-mnist:{root}", "train")
    assert what in caught.value.what and str(path) in caught.value.where


def test_a_truncated_archive_is_named(tmp_path: Path) -> None:
    path = draw.draw_fashion_mnist(tmp_path) / "train-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(BadSample, match="cannot be unpacked") as caught:
        open_source(f"fashion-mnist:{tmp_path}", "train")
    assert caught.value.where == str(path) and caught.value.fix == "download it again"


SHAPES = [(1, 1), (1, 1, 3), (28, 28), (32, 32, 3), (7, 5, 3), (141, 141, 3), (142, 142, 3), (400, 300, 3)]


@pytest.mark.parametrize("shape", [*SHAPES, (29_999, 1), (1, 70_000)], ids=str)
def test_an_image_is_byte_for_byte_the_png_that_pillow_saves(shape: tuple[int, ...]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    for pixels in (noise, np.zeros(shape, dtype=np.uint8), np.sort(noise, axis=0)[::-1]):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG", compress_level=PNG_LEVEL)
        encoded = encode_png(pixels)
        assert encoded == file.getvalue()  # a packed sample keeps its bytes, whoever repairs it
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(encoded))), pixels)
