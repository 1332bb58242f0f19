"""Data that are legal and hardly meant are said: ignored pixels, a first class that nobody has, dark 16-bit
images; and who reads samples without a cache is told as much as who builds one."""

from pathlib import Path

import numpy as np
import pytest
from class_data import draw_npz, pixels
from PIL import Image

from kdcache.cache.errors import BadSample, Missing
from kdcache.cache.sources.remarks import LOOKED_AT, depth_remarks, label_remarks, spread
from kdcache.cache.sources.table import open_source
from kdcache.trainer.stream.source_samples import SourceSamples

SIZE = (10, 20)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for kind in ("images", "labels"):
        (tmp_path / "train" / kind).mkdir(parents=True)
    (tmp_path / "classes.txt").write_text("road\ncar\nsky\n")
    return tmp_path


def draw(root: Path, key: str, label_HW: np.ndarray, image: np.ndarray | None = None) -> None:
    image = np.zeros((*SIZE, 3), dtype=np.uint8) if image is None else image
    Image.fromarray(image).save(root / "train" / "images" / f"{key}.png")
    Image.fromarray(label_HW).save(root / "train" / "labels" / f"{key}.png")


def mask(*shares: tuple[int, int]) -> np.ndarray:
    """A label whose pixels hold each value that many times, in order; there are 200."""
    return np.repeat(*zip(*shares, strict=True)).astype(np.uint8).reshape(SIZE)  # type: ignore[call-overload]


def notes(root: Path) -> tuple[str, ...]:
    return open_source(f"folder:{root}", "train").notes


def test_labels_without_a_fault_are_not_remarked_on(root: Path) -> None:
    draw(root, "a", mask((0, 100), (1, 50), (2, 50)))
    assert notes(root) == ()


def test_a_mask_of_0_and_255_says_how_much_is_ignored(root: Path) -> None:
    draw(root, "a", mask((0, 40), (255, 160)))
    draw(root, "b", mask((0, 100), (255, 100)))
    assert notes(root) == (
        "65.0% of the pixels of 2 labels are ignored (train id 255): more than half; "
        "a class that is stored as 255 has to get a number of its own",
    )
    draw(root, "a", mask((0, 160), (255, 40)))
    draw(root, "b", mask((0, 200)))
    assert notes(root) == ("10.0% of the pixels of 2 labels are ignored (train id 255)",)


def test_labels_that_start_at_1_are_said(root: Path) -> None:
    draw(root, "a", mask((1, 100), (2, 100)))
    assert notes(root) == (
        "class 0 'road' has no pixel in 1 labels, the lowest there is 1: classes are counted from 0, "
        "not from 1",
    )
    draw(root, "b", mask((0, 1), (2, 199)))
    assert notes(root) == ()


def test_classes_of_an_array_that_start_at_1_are_said(tmp_path: Path) -> None:
    file = draw_npz(tmp_path, y_train=np.arange(20) % 3 + 1)
    [note] = open_source(f"npz:{file}", "trainval").notes
    assert note == "class 0 has no row, the lowest there is 1: classes are counted from 0, not from 1"
    assert open_source(f"npz:{draw_npz(tmp_path / 'good')}", "train").notes == ()


def test_dark_16_bit_images_say_their_range(root: Path) -> None:
    image = np.linspace(7, 4095, 200).astype(np.uint16).reshape(SIZE)
    draw(root, "a", mask((0, 200)), image)
    said = (
        "16-bit images hold values 7..4095 of 0..65535, and networks see the upper 8 bits, here 0..15 of "
        "255: stretch them to the whole range"
    )
    assert notes(root) == (said,)
    folder = root / "classes" / "train" / "x"
    folder.mkdir(parents=True)
    Image.fromarray(image).save(folder / "b.png")
    assert open_source(f"imagefolder:{root / 'classes'}", "train").notes == (said,)
    draw(root, "b", mask((0, 200)), image * 16)
    assert notes(root) == ()
    assert list(depth_remarks([root / "train" / "labels" / "a.png", root / "gone.png"])) == []


def test_few_labels_are_looked_at_and_none_that_cannot_be_read() -> None:
    assert spread(5) == [0, 1, 2, 3, 4] and spread(0) == []
    assert len(spread(12345)) == LOOKED_AT and spread(12345)[-1] > 12000
    seen = []

    def train_ids(index: int) -> np.ndarray:
        seen.append(index)
        if index == 0:
            raise BadSample("damaged", where="here", fix="mend it")
        return mask((0, 150), (255, 50))

    [said] = label_remarks(train_ids, 1000, ("a", "b"))
    assert seen == spread(1000)
    assert said == "25.0% of the pixels of 99 of 1000 labels are ignored (train id 255)"


def test_a_label_of_another_size_than_its_image_is_refused_without_a_cache_too(root: Path) -> None:
    draw(root, "a", mask((0, 200)).reshape(20, 10))
    samples = SourceSamples(open_source(f"folder:{root}", "train"))
    with pytest.raises(BadSample) as caught:
        samples.truth(0)
    assert str(caught.value) == (
        "image and label of 'a' differ in size: 10x20 and 20x10 pixels (height x width)\n"
        f"  where: {root / 'train/images/a.png'} and {root / 'train/labels/a.png'}\n"
        "  fix:   give the label the size of its image, resampled with nearest neighbour"
    )
    draw(root, "a", mask((0, 200)))
    assert SourceSamples(open_source(f"folder:{root}", "train")).truth(0).size


def test_the_way_out_of_a_bad_sample_is_one_for_training_too(root: Path) -> None:
    draw(root, "a", mask((0, 200)))
    (root / "train" / "labels" / "a.png").unlink()
    with pytest.raises(BadSample) as caught:
        SourceSamples(open_source(f"folder:{root}", "train")).truth(0)
    assert caught.value.fix == (
        "add the label, or take the sample out of the data ('kdcache build --skip-bad' builds a cache "
        "without it)"
    )


def test_an_npz_file_that_is_there_is_not_called_missing(tmp_path: Path) -> None:
    file = tmp_path / "mine.npz"
    np.savez(file, images=pixels(2, (8, 8, 3)), labels=np.zeros(2))
    for spec in (f"npz:{file}", f"npz:{tmp_path}"):
        with pytest.raises(Missing) as caught:
            open_source(spec, "train")
        assert str(caught.value) == (
            "no npz images: 'mine.npz' has no pair x_train and y_train, or x_test and y_test\n"
            f"  where: {file}\n"
            "  fix:   give its arrays these names: numpy.savez(FILE, x_train=..., y_train=...); it holds "
            "images, labels"
        )
    with pytest.raises(Missing, match="the folder does not exist"):
        open_source(f"npz:{tmp_path / 'gone.npz'}", "train")
    with pytest.raises(Missing, match="this is a file, and a folder is asked for"):
        open_source(f"folder:{file}", "train")
