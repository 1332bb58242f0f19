"""COCO-Stuff 164k: 118287 / 5000 images of COCO 2017, 80 + 91 classes (Caesar et al. 2018).

Class map: the pixel maps hold 0..181 (COCO-Stuff's label number less one) and 255 for unlabelled. Eleven of
those numbers were never annotated; the other 171, in ascending order, are train ids 0..170. A pixel map
with one of the eleven is refused. CIRKD, whose training code Af-DCD extends, keeps the stored values and
counts 182 classes: the same pixels, but its weights do not fit this map.
"""

from pathlib import Path

from kdcache.cache.sources.contract import FileSource
from kdcache.cache.sources.labels import ClassMap, identity_map
from kdcache.cache.sources.tree import Tree
from kdcache.cache.spec import IGNORE

THINGS = """
    person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,
    parking meter,bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,handbag,
    tie,suitcase,frisbee,skis,snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,
    tennis racket,bottle,wine glass,cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,
    hot dog,pizza,donut,cake,chair,couch,potted plant,bed,dining table,toilet,tv,laptop,mouse,remote,
    keyboard,cell phone,microwave,oven,toaster,sink,refrigerator,book,clock,vase,scissors,teddy bear,
    hair drier,toothbrush
"""
STUFF = """
    banner,blanket,branch,bridge,building-other,bush,cabinet,cage,cardboard,carpet,ceiling-other,
    ceiling-tile,cloth,clothes,clouds,counter,cupboard,curtain,desk-stuff,dirt,door-stuff,fence,
    floor-marble,floor-other,floor-stone,floor-tile,floor-wood,flower,fog,food-other,fruit,furniture-other,
    grass,gravel,ground-other,hill,house,leaves,light,mat,metal,mirror-stuff,moss,mountain,mud,napkin,net,
    paper,pavement,pillow,plant-other,plastic,platform,playingfield,railing,railroad,river,road,rock,roof,
    rug,salad,sand,sea,shelf,sky-other,skyscraper,snow,solid-other,stairs,stone,straw,structural-other,
    table,tent,textile-other,towel,tree,vegetable,wall-brick,wall-concrete,wall-other,wall-panel,wall-stone,
    wall-tile,wall-wood,water-other,waterdrops,window-blind,window-other,wood
"""
# street sign, hat, shoe, eye glasses, plate, mirror, window, desk, door, blender, hair brush
NEVER_ANNOTATED = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)
NUM_VALUES = 182
TRAIN_ID_MAPS = "stuffthingmaps_semseg"  # where a common conversion script puts maps of train ids


def _names(block: str) -> tuple[str, ...]:
    return tuple("".join(line.strip() for line in block.splitlines()).split(","))


class CocoStuff(FileSource):
    name = "cocostuff"
    layout = """
        images/{train2017,val2017}/*.jpg
        stuffthingmaps/{train2017,val2017}/*.png, or the same pixel maps in annotations/{train2017,val2017}
        (or stuffthingmaps_semseg/{train2017,val2017}/*.png, which hold train ids 0..170)
    """
    class_names = _names(THINGS) + _names(STUFF)
    default_crop = (512, 512)

    @classmethod
    def trees(cls, root: Path) -> dict[str, Tree]:
        return {
            split: Tree(root / "images" / folder, _maps(root, folder))
            for split, folder in (("train", "train2017"), ("val", "val2017"))
            if (root / "images" / folder).is_dir()
        }

    def class_map_of(self, tree: Tree) -> ClassMap:
        if tree.labels.parent.name == TRAIN_ID_MAPS:
            return identity_map(len(self.class_names))
        used = [value for value in range(NUM_VALUES) if value not in NEVER_ANNOTATED]
        return ClassMap({**{value: train_id for train_id, value in enumerate(used)}, IGNORE: IGNORE})


def _maps(root: Path, folder: str) -> Path:
    choices = [root / parent / folder for parent in ("stuffthingmaps", "annotations", TRAIN_ID_MAPS)]
    return next((path for path in choices if path.is_dir()), choices[0])
