"""YOLO's text files: lines that are boxes, polygons or neither, and the classes' names."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kdcache.cache.errors import BadOption, BadSample, Missing
from kdcache.cache.sources.table import open_source
from kdcache.cache.sources.yolo import Yolo, names_in_yaml
from kdcache.cache.tasks.detection import CLASS, Objects


def beside(name: str) -> Any:
    """A module of this folder; under `--import-mode=importlib` tests cannot import each other by name."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


trees = beside("box_trees")
PLACE = 1  # of b_01, an image of 40x60 pixels (height x width)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    drawn: Path = trees.draw_tree(trees.TREES["yolo"], tmp_path)
    return drawn


def opened(root: Path) -> Yolo:
    source = open_source(f"yolo:{root}", "train")
    assert isinstance(source, Yolo)
    return source


def labelled(root: Path, text: str) -> Yolo:
    (root / "labels/train/b_01.txt").write_text(text)
    return opened(root)


@pytest.mark.parametrize(
    ("line", "box"),
    [
        ("2 0.5 0.25 0.2 0.5", (24, 0, 36, 20)),
        ("\n  2   0.5 0.25 0.2 0.5  \n\n", (24, 0, 36, 20)),
        ("\ufeff2 0.5 0.25 0.2 0.5", (24, 0, 36, 20)),
        ("2.0 0.1 0.2 0.9 0.25 0.5 0.75", (6, 8, 54, 30)),  # a triangle
        ("2 0.1 0.2 0.9 0.2 0.9 0.75 0.1 0.75", (6, 8, 54, 30)),
        ("2 0.95 0.5 0.2 0.5", (51, 10, 63, 30)),  # over the border: cut when it is used
    ],
)
def test_a_line_is_a_box_in_pixels_of_its_image(root: Path, line: str, box: tuple[float, ...]) -> None:
    objects_M8 = Objects().parse(labelled(root, line).label_bytes(PLACE))
    assert objects_M8[:, CLASS].tolist() == [2]
    np.testing.assert_allclose(objects_M8[:, :4], [box], atol=1e-9)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("0 0.5 0.5 0.2", "line 2 of 'b_01' is no box: '0 0.5 0.5 0.2'"),
        ("0 0.5 0.5 0.2 0.2 0.9", "line 2 of 'b_01' is no box"),
        ("cat 0.5 0.5 0.2 0.2", "line 2 of 'b_01' is no box: 'cat 0.5"),
        ("3 0.5 0.5 0.2 0.2", "line 2 of 'b_01' is of class 3, and there are 3"),
        ("-1 0.5 0.5 0.2 0.2", "line 2 of 'b_01' is of class -1, and there are 3"),
        ("0.5 0.5 0.5 0.2 0.2", "line 2 of 'b_01' is of class 0.5, and there are 3"),
        ("nan 0.5 0.5 0.2 0.2", "line 2 of 'b_01' is of class nan, and there are 3"),
        ("0 0.5 0.5 -0.2 0.2", "line 2 of 'b_01' is -0.2 wide and 0.2 high"),
        ("0 0.5 nan 0.2 0.2", "line 2 of 'b_01' has a number that is none: 0.5, nan, 0.2, 0.2"),
    ],
)
def test_a_line_that_is_no_box_is_named_with_its_file(root: Path, line: str, said: str) -> None:
    source = labelled(root, f"1 0.5 0.5 0.2 0.2\n{line}\n")
    with pytest.raises(BadSample) as caught:
        source.check(PLACE)
    assert said in caught.value.what
    assert caught.value.where == str(root / "labels/train/b_01.txt") and caught.value.fix
    assert source.check(0)


def test_a_file_that_is_no_text_is_named(root: Path) -> None:
    (root / "labels/train/b_01.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(BadSample, match="the label of 'b_01' cannot be read"):
        opened(root).check(PLACE)


@pytest.mark.parametrize(
    "text",
    [
        "names: [cat, 'big owl', \"dog\"]",
        "path: x\nnc: 3\nnames: ['cat',\n        'big owl',\n        'dog',]  # three\ntrain: images/train\n",
        "names:\n  - cat\n  - big owl\n  - 'dog'\nnc: 3\n",
        "names:\n- cat\n# a word\n- big owl  # of the barn\n\n- dog\n",
        'names:\n  0: cat\n  1: big owl\n  2: "dog"\ntrain: x\n',
        "names: # in order\n  0: cat\n  1: big owl\n  2: dog",
    ],
)
def test_names_are_read_in_every_form_that_is_in_use(text: str) -> None:
    assert names_in_yaml(text) == ("cat", "big owl", "dog")


@pytest.mark.parametrize(
    "text",
    [
        "nc: 3", "names:", "names: []", "names: cat", "names: [cat, 'owl", "names: {0: cat}",
        "names:\n  1: cat\n  2: owl\n", "names:\n  cat: 1\n", "names: [cat, cat]",
    ],
)  # fmt: skip
def test_names_in_another_form_are_refused_saying_which_are_read(text: str, root: Path) -> None:
    (root / "data.yaml").write_text(text)
    with pytest.raises(BadOption) as caught:
        opened(root)
    assert "'names' of data.yaml gives" in caught.value.what and caught.value.where == str(root / "data.yaml")
    assert "names: [one, two]" in caught.value.fix and "classes.txt" in caught.value.fix


@pytest.mark.parametrize("text", [None, "", "\n \n"])
def test_an_image_without_a_line_has_no_objects(text: str | None, root: Path) -> None:
    path = root / "labels/train/a.v2.txt"
    path.unlink() if text is None else path.write_text(text)
    source = opened(root)
    assert source.keys[0] == "a.v2" and Objects().parse(source.label_bytes(0)).shape == (0, 8)
    trained = open_source(f"yolo:{root}", "train", keep_empty=False)
    assert list(trained.keys) == ["b_01"] and trained.size(0) == (40, 60)


def test_without_any_names_the_number_of_classes_is_unknown(root: Path) -> None:
    (root / "data.yaml").unlink()
    with pytest.raises(Missing, match="the classes of these labels are not given"):
        opened(root)


def test_missing_labels_and_no_image_show_the_layout(root: Path) -> None:
    (root / "images/val").mkdir()
    (root / "labels/val").mkdir()
    with pytest.raises(Missing, match="yolo split 'val' has no samples"):
        open_source(f"yolo:{root}", "val")
    (root / "labels/train").rename(root / "mislaid")
    with pytest.raises(Missing) as caught:
        opened(root)
    assert caught.value.what == "the labels of yolo split 'train' are not there"
    assert "labels/{train,val,test}/*.txt" in caught.value.fix
