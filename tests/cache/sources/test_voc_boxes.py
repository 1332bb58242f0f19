"""VOC's XML: where corners count from, which classes there are, what is refused."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from kdcache.cache.errors import BadSample, Missing
from kdcache.cache.sources.table import open_source
from kdcache.cache.sources.voc_boxes import CLASSES, VocBoxes
from kdcache.cache.tasks.detection import CROWD, Objects


def beside(name: str) -> Any:
    """A module of this folder; under `--import-mode=importlib` tests cannot import each other by name."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


trees = beside("box_trees")
VOC = "The VOC2012 Database"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    drawn: Path = trees.draw_tree(trees.TREES["voc"], tmp_path)
    return drawn


def opened(root: Path, split: str = "train") -> VocBoxes:
    source = open_source(f"voc-boxes:{root}", split)
    assert isinstance(source, VocBoxes)
    return source


def rewrite(root: Path, *changes: tuple[str, str], database: str = VOC) -> Path:
    """The first image's annotation with these texts replaced."""
    path = root / "Annotations/b_01.xml"
    text = trees.voc_xml("b_01", trees.THINGS["b_01"], database=database)
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("database", "left", "said"),
    [
        (
            VOC,
            4.0,
            "corners are counted from 1 with both ends, as VOC does: that is what <database> of 'b_01' says",
        ),
        ("Unknown", 5.0, "corners are taken as written: that is what <database> of 'b_01' says"),
    ],
)
def test_corners_count_from_one_where_the_database_is_vocs(
    root: Path, database: str, left: float, said: str
) -> None:
    rewrite(root, (VOC, database))  # the numbers stay those of VOC's form
    source = opened(root)
    x1, y1, x2, y2 = Objects().parse(source.label_bytes(0))[0, :4].tolist()
    assert (x1, y1, x2, y2) == (left, left + 4, 24.0, 32.0) and source.notes[0] == said


def test_difficult_objects_are_crowds(root: Path) -> None:
    rewrite(root, ("<difficult>0", "<difficult> 1 "), ("<difficult>1</difficult>", ""))
    assert Objects().parse(opened(root).label_bytes(0))[:, CROWD].tolist() == [1, 0]


def test_vocs_own_classes_are_those_of_its_twenty_and_the_name_is_its_own(root: Path) -> None:
    (root / "classes.txt").unlink()
    source = opened(root)
    assert source.class_names == CLASSES and len(CLASSES) == 20 and source.label == "voc-boxes"
    with pytest.raises(BadSample) as caught:
        source.check(2)
    assert caught.value.what == "object 1 of 'a.v2' is of class 'owl', which is not in the list"
    assert caught.value.where == str(root / "Annotations/a.v2.xml")
    assert "classes are aeroplane, " in caught.value.fix and str(root / "classes.txt") in caught.value.fix


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("<xmin>5</xmin>", "<xmin>five</xmin>", "object 1 of 'b_01' has no number as its xmin: 'five'"),
        ("<ymax>32</ymax>", "", "object 1 of 'b_01' has no number as its ymax: ''"),
        ("</annotation>", "", "the annotation of 'b_01' cannot be read: "),
    ],
)
def test_an_annotation_that_cannot_be_read_is_named(root: Path, old: str, new: str, said: str) -> None:
    path = rewrite(root, (old, new))
    source = opened(root)
    with pytest.raises(BadSample) as caught:
        source.check(0)
    assert said in caught.value.what and caught.value.where == str(path)
    assert "--skip-bad" in caught.value.fix
    assert source.check(1) and all("usable" not in note for note in source.notes)


def test_an_image_without_an_annotation_is_named(root: Path) -> None:
    (root / "Annotations/b_01.xml").unlink()
    with pytest.raises(BadSample, match="'b_01' has no annotation") as caught:
        opened(root).check(0)
    assert caught.value.where == str(root / "Annotations/b_01.xml")


@pytest.mark.parametrize("size", ["<width>0</width><height>0</height>", "<depth>3</depth>", ""])
def test_a_size_that_a_tool_left_out_is_the_images(root: Path, size: str) -> None:
    rewrite(root, ("<width>60</width><height>40</height><depth>3</depth>", size))
    source = opened(root)
    assert source.claimed_size(0) is None and source.check(0) == (40, 60)
    assert "b_01" in open_source(f"voc-boxes:{root}", "train", keep_empty=False).keys


def test_missing_annotations_and_an_empty_list_show_the_layout(root: Path) -> None:
    (root / "ImageSets/Main/val.txt").write_text("\n")
    with pytest.raises(Missing) as caught:
        opened(root, "val")
    assert caught.value.what == "voc-boxes split 'val' has no samples" and "JPEGImages" in caught.value.fix
    (root / "Annotations").rename(root / "mislaid")
    with pytest.raises(Missing) as caught:
        opened(root)
    assert caught.value.what == "the annotations of voc-boxes split 'train' are not there"
    assert "Annotations/*.xml" in caught.value.fix


def test_data_without_their_class_names_say_which_file_they_want(tmp_path: Path) -> None:
    tree = trees.TREES["voc of one's own"]
    root = trees.draw_tree(tree, tmp_path / "data")
    assert open_source(f"voc-boxes:{root}", "train").classes_hint == ""
    (root / "classes.txt").unlink(missing_ok=True)
    for path in root.rglob("classes.txt"):
        path.unlink()
    hint = open_source(f"voc-boxes:{root}", "train").classes_hint
    assert hint.endswith(f"one name per line, to {root / 'classes.txt'}")
