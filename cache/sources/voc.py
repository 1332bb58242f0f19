"""PASCAL VOC 2012, images of many sizes, 21 classes with the background (Everingham et al. 2010).

`train` is the augmented list (10582 images, labels of Hariharan et al. 2011 in SegmentationClassAug) where
both the list and that folder are there, else the 1464 images of VOC itself; `describe` tells which. `test`
opens `val`: the labels of the test split are not public, and papers report val.
"""

from pathlib import Path

from kdcache.cache.sources.contract import Described, FileSource
from kdcache.cache.sources.labels import ClassMap, identity_map
from kdcache.cache.sources.tree import Tree

CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip
AUGMENTED = "SegmentationClassAug"
AUGMENTED_LISTS = ("train_aug.txt", "trainaug.txt")  # both names are in use


class Voc(FileSource):
    name = "voc"
    layout = """
        JPEGImages/*.jpg
        SegmentationClass/*.png
        ImageSets/Segmentation/{train,val}.txt
        optional: SegmentationClassAug/*.png and ImageSets/Segmentation/train_aug.txt
        (the folder itself, or one that holds it as VOC2012 or VOCdevkit/VOC2012)
    """
    class_names = CLASSES
    default_crop = (512, 512)

    def __init__(self, root: Path, split: str) -> None:
        super().__init__(root, "val" if split == "test" else split)

    @classmethod
    def trees(cls, root: Path) -> dict[str, Tree]:
        inside = next((p for p in (root, root / "VOC2012", root / "VOCdevkit/VOC2012") if _is_voc(p)), None)
        if inside is None:
            return {}
        lists = inside / "ImageSets/Segmentation"
        images, labels = inside / "JPEGImages", inside / "SegmentationClass"
        splits = {
            s: Tree(images, labels, list_file=p)
            for s in ("train", "val")
            if (p := lists / f"{s}.txt").is_file()
        }
        augmented = next((p for name in AUGMENTED_LISTS if (p := lists / name).is_file()), None)
        if augmented and (inside / AUGMENTED).is_dir():
            splits = {
                "train": Tree(images, inside / AUGMENTED, list_file=augmented),
                **_without(splits, "train"),
            }
        return splits

    def class_map_of(self, tree: Tree) -> ClassMap:
        return identity_map(len(CLASSES))

    def describe(self) -> Described:
        return {**super().describe(), "labels": self._tree.labels.name}


def _is_voc(folder: Path) -> bool:
    return (folder / "JPEGImages").is_dir() and (folder / "ImageSets/Segmentation").is_dir()


def _without(trees: dict[str, Tree], split: str) -> dict[str, Tree]:
    return {name: tree for name, tree in trees.items() if name != split}
