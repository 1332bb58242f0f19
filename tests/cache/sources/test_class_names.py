"""Class i of a table of results is class i of the dataset: names stand in the order of the published ids."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdcache.cache.sources.table import SOURCES, open_source

PUBLISHED = {
    # Brostow et al. 2009 in SegNet's selection; its road markings count as road
    "camvid": "sky building pole road pavement tree sign_symbol fence car pedestrian bicyclist",
    # Cordts et al. 2016, train ids 0 .. 18
    "cityscapes": "road,sidewalk,building,wall,fence,pole,traffic light,traffic sign,vegetation,terrain,sky,"
    "person,rider,car,truck,bus,train,motorcycle,bicycle",
    # Everingham et al. 2012, in the order of the palette
    "voc": "background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse "
    "motorbike person pottedplant sheep sofa train tvmonitor",
    # Krizhevsky 2009, batches.meta
    "cifar10": "airplane automobile bird cat deer dog frog horse ship truck",
    # Xiao et al. 2017, labels 0 .. 9
    "fashion-mnist": "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot",
}


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_class_names_stand_in_the_order_of_the_published_ids(name: str) -> None:
    text = PUBLISHED[name]
    assert list(SOURCES[name].class_names) == text.split("," if "," in text else " ")


@pytest.mark.parametrize("labels", ["train/labels/a.png", "trainannot/a.png"])
def test_every_stored_id_of_camvid_becomes_the_class_of_that_number(tmp_path: Path, labels: str) -> None:
    """In both layouts; 11 is void in SegNet's and 255 in the other, and neither is a class."""
    images = "train/a.png" if labels.startswith("trainannot") else "train/images/a.jpg"
    ids_HW = np.tile(np.array([*range(12), 255], dtype=np.uint8), (5, 1))
    for name in (images, labels):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(ids_HW).save(tmp_path / name)
    source = open_source(f"camvid:{tmp_path}", "train")
    (tmp_path / "read.png").write_bytes(source.label_bytes(0))
    with Image.open(tmp_path / "read.png") as image:
        assert np.asarray(image)[0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 255, 255]
    assert source.describe()["class_names"][8] == "car"
