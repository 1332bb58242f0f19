"""What is particular to one public dataset: its splits, its classes, which labels are taken."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdcache.cache.errors import Missing
from kdcache.cache.sources.cocostuff import NEVER_ANNOTATED
from kdcache.cache.sources.table import SOURCES, open_source, splits

CAMVID = Path(__file__).parents[4] / "shared/data/camvid"  # beside the checkout, or the test skips itself
VOC_SIZES = {"2007_000033": (375, 500), "2008_000008": (333, 500)}  # (height, width) in pixels


def save(path: Path, size: tuple[int, int] = (6, 8), value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size, value, dtype=np.uint8)).save(path)


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    for key, size in VOC_SIZES.items():
        save(tmp_path / f"JPEGImages/{key}.jpg", size)
        save(tmp_path / f"SegmentationClass/{key}.png", size, value=1)
        save(tmp_path / f"SegmentationClassAug/{key}.png", size, value=2)
    lists = tmp_path / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2007_000033\n")
    (lists / "val.txt").write_text("2008_000008\n")
    return tmp_path


def test_voc_images_keep_their_two_sizes(voc: Path) -> None:
    (voc / "ImageSets/Segmentation/train_aug.txt").write_text("\n".join(VOC_SIZES))
    source = open_source(f"voc:{voc}", "train")
    assert [source.check(i) for i in range(2)] == [(375, 500), (333, 500)]


@pytest.mark.parametrize("name", ["train_aug.txt", "trainaug.txt"])
def test_voc_takes_the_augmented_list_for_train_only(voc: Path, name: str) -> None:
    plain = open_source(f"voc:{voc}", "train")
    (voc / "ImageSets/Segmentation" / name).write_text("2008_000008\n2007_000033\n")
    augmented, val = open_source(f"voc:{voc}", "train"), open_source(f"voc:{voc}", "val")
    assert list(plain.keys) == ["2007_000033"] and list(augmented.keys) == ["2008_000008", "2007_000033"]
    assert plain.label_path(0).parent.name == val.label_path(0).parent.name == "SegmentationClass"
    assert augmented.label_path(0).parent.name == "SegmentationClassAug"
    assert plain.describe() != augmented.describe()
    assert splits(f"voc:{voc}") == ("train", "val")


def test_voc_test_opens_val_and_says_so(voc: Path) -> None:
    source = open_source(f"voc:{voc}", "test")
    assert source.split == "val" and source.describe()["split"] == "val"
    assert list(source.keys) == ["2008_000008"]


def test_cityscapes_prefers_label_ids_and_offers_no_test_split(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        save(tmp_path / f"leftImg8bit/{split}/ulm/ulm_1_leftImg8bit.png")
        save(tmp_path / f"gtFine/{split}/ulm/ulm_1_gtFine_labelIds.png", value=7)
        save(tmp_path / f"gtFine/{split}/ulm/ulm_1_gtFine_labelTrainIds.png", value=0)
    source = open_source(f"cityscapes:{tmp_path}", "val")
    assert source.label_path(0).name.endswith("labelIds.png") and source.keys[0] == "ulm/ulm_1"
    with pytest.raises(Missing, match="cityscapes has no split 'test'") as caught:
        open_source(f"cityscapes:{tmp_path}", "test")
    assert "splits that exist: train, val;" in caught.value.fix


def test_coco_stuff_numbers_the_annotated_classes_without_gaps(tmp_path: Path) -> None:
    save(tmp_path / "images/val2017/000000000139.jpg")
    save(tmp_path / "stuffthingmaps/val2017/000000000139.png")
    described = open_source(f"cocostuff:{tmp_path}", "val").describe()
    pairs = [tuple(map(int, pair.split(">"))) for pair in str(described["class_map"]).split()]
    assert [train_id for _, train_id in pairs] == [*range(171), 255]
    assert {value for value, _ in pairs} == set(range(182)) - set(NEVER_ANNOTATED) | {255}
    names = dict(zip([value for value, _ in pairs], SOURCES["cocostuff"].class_names, strict=False))
    # In COCO-Stuff's own list, which counts from 1: stop sign 13, toothbrush 90, banner 92, wood 182.
    assert [names[i] for i in (12, 89, 91, 156, 181)] == [
        "stop sign",
        "toothbrush",
        "banner",
        "sky-other",
        "wood",
    ]


@pytest.mark.parametrize(
    ("name", "ends", "crop"),
    [
        ("camvid", ("sky", "bicyclist"), (360, 360)),
        ("cityscapes", ("road", "bicycle"), (512, 1024)),
        ("voc", ("background", "tvmonitor"), (512, 512)),
        ("ade20k", ("wall", "flag"), (512, 512)),
        ("cocostuff", ("person", "wood"), (512, 512)),
    ],
)
def test_classes_and_crops_are_those_of_the_papers(
    name: str, ends: tuple[str, str], crop: tuple[int, int]
) -> None:
    kind = SOURCES[name]
    assert (kind.class_names[0], kind.class_names[-1]) == ends and kind.default_crop == crop


@pytest.mark.skipif(not CAMVID.is_dir(), reason="the CamVid images are not here")
def test_the_real_camvid_opens() -> None:
    assert splits(f"camvid:{CAMVID}") == ("train", "val", "test")
    counts = {split: open_source(f"camvid:{CAMVID}", split) for split in ("train", "val", "test")}
    assert {split: len(source.keys) for split, source in counts.items()} == {
        "train": 367,
        "val": 101,
        "test": 233,
    }
    train = counts["train"]
    assert train.keys[0] == (CAMVID / "train.txt").read_text().splitlines()[0]
    assert [train.check(i) for i in (0, 100, 366)] == [(360, 480)] * 3
