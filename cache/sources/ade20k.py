"""ADE20K as in its scene-parsing challenge: 20210 / 2000 images, 150 classes (Zhou et al. 2017).

Stored values are 1..150 for classes and 0 for everything else: train id = value - 1, and 0 becomes 255.
"""

from pathlib import Path

from kdcache.cache.sources.contract import FileSource
from kdcache.cache.sources.labels import ClassMap
from kdcache.cache.sources.tree import Tree
from kdcache.cache.spec import IGNORE

CLASSES = tuple(
    """
    wall,building,sky,floor,tree,ceiling,road,bed,windowpane,grass,cabinet,sidewalk,person,earth,door,table,
    mountain,plant,curtain,chair,car,water,painting,sofa,shelf,house,sea,mirror,rug,field,armchair,seat,
    fence,desk,rock,wardrobe,lamp,bathtub,railing,cushion,base,box,column,signboard,chest of drawers,
    counter,sand,sink,skyscraper,fireplace,refrigerator,grandstand,path,stairs,runway,case,pool table,
    pillow,screen door,stairway,river,bridge,bookcase,blind,coffee table,toilet,flower,book,hill,bench,
    countertop,stove,palm,kitchen island,computer,swivel chair,boat,bar,arcade machine,hovel,bus,towel,
    light,truck,tower,chandelier,awning,streetlight,booth,television receiver,airplane,dirt track,apparel,
    pole,land,bannister,escalator,ottoman,bottle,buffet,poster,stage,van,ship,fountain,conveyer belt,canopy,
    washer,plaything,swimming pool,stool,barrel,basket,waterfall,tent,bag,minibike,cradle,oven,ball,food,
    step,tank,trade name,microwave,pot,animal,bicycle,lake,dishwasher,screen,blanket,sculpture,hood,sconce,
    vase,traffic light,tray,ashcan,fan,pier,crt screen,plate,monitor,bulletin board,shower,radiator,glass,
    clock,flag
    """.strip()
    .replace("\n    ", "")
    .split(",")
)
FOLDERS = {"train": "training", "val": "validation"}


class Ade20k(FileSource):
    name = "ade20k"
    layout = """
        images/{training,validation}/*.jpg
        annotations/{training,validation}/*.png
        (the folder itself, or one that holds it as ADEChallengeData2016)
    """
    class_names = CLASSES
    default_crop = (512, 512)

    @classmethod
    def trees(cls, root: Path) -> dict[str, Tree]:
        for inside in (root, root / "ADEChallengeData2016"):
            splits = {
                split: Tree(inside / "images" / folder, inside / "annotations" / folder)
                for split, folder in FOLDERS.items()
                if (inside / "images" / folder).is_dir()
            }
            if splits:
                return splits
        return {}

    def class_map_of(self, tree: Tree) -> ClassMap:
        return ClassMap({0: IGNORE, **{train_id + 1: train_id for train_id in range(len(CLASSES))}})
