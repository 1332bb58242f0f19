"""Cityscapes, finely annotated: 2975 / 500 images of 1024x2048 pixels, 19 classes (Cordts et al. 2016).

Labels are read from `*_labelIds.png` (ids 0..33) through the table below, or from `*_labelTrainIds.png`
where only those are there. The labels of the test split are not public: there is no such split here.
"""

from pathlib import Path

from kdcache.cache.sources.contract import FileSource
from kdcache.cache.sources.labels import ClassMap, identity_map
from kdcache.cache.sources.tree import Tree
from kdcache.cache.spec import IGNORE

NUM_IDS = 34
# Label id of each train id 0..18; every other id is ignored.
LABEL_IDS = {
    7: "road", 8: "sidewalk", 11: "building", 12: "wall", 13: "fence", 17: "pole", 19: "traffic light",
    20: "traffic sign", 21: "vegetation", 22: "terrain", 23: "sky", 24: "person", 25: "rider", 26: "car",
    27: "truck", 28: "bus", 31: "train", 32: "motorcycle", 33: "bicycle",
}  # fmt: skip
BY_ID = "_gtFine_labelIds.png"
BY_TRAIN_ID = "_gtFine_labelTrainIds.png"


class Cityscapes(FileSource):
    name = "cityscapes"
    layout = """
        leftImg8bit/{train,val}/CITY/*_leftImg8bit.png
        gtFine/{train,val}/CITY/*_gtFine_labelIds.png (or *_gtFine_labelTrainIds.png)
    """
    class_names = tuple(LABEL_IDS.values())
    default_crop = (512, 1024)

    @classmethod
    def trees(cls, root: Path) -> dict[str, Tree]:
        splits = {}
        for split in ("train", "val"):
            images, labels = root / "leftImg8bit" / split, root / "gtFine" / split
            if images.is_dir():
                splits[split] = Tree(images, labels, "_leftImg8bit", _label_ending(labels))
        return splits

    def class_map_of(self, tree: Tree) -> ClassMap:
        if tree.label_ending == BY_TRAIN_ID:
            return identity_map(len(LABEL_IDS))
        train_ids = {label_id: train_id for train_id, label_id in enumerate(LABEL_IDS)}
        return ClassMap({label_id: train_ids.get(label_id, IGNORE) for label_id in range(NUM_IDS)})


def _label_ending(labels: Path) -> str:
    """One form for the whole split, so that its class map is one."""
    only_train_ids = not any(labels.glob(f"*/*{BY_ID}")) and any(labels.glob(f"*/*{BY_TRAIN_ID}"))
    return BY_TRAIN_ID if only_train_ids else BY_ID
