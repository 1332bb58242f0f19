"""COCO jsons: what is refused when one is opened, what its numbers mean, and that it is parsed once."""

import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kdcache.cache.errors import BadSample, KdError, Missing
from kdcache.cache.sources import coco_json
from kdcache.cache.sources.coco import Coco
from kdcache.cache.sources.table import open_source
from kdcache.cache.tasks.detection import CLASS, Objects

BCCD = Path(__file__).parents[4] / "shared/data/bccd"  # beside the checkout, or the test skips itself


def beside(name: str) -> Any:
    """A module of this folder; under `--import-mode=importlib` tests cannot import each other by name."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


trees = beside("box_trees")
Json = dict[str, list[dict[str, Any]]]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KDCACHE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    drawn: Path = trees.draw_tree(trees.TREES["coco json beside images"], tmp_path / "data")
    return drawn


def opened(root: Path, split: str = "train") -> Coco:
    source = open_source(f"coco:{root}", split)
    assert isinstance(source, Coco)
    return source


def rewrite(root: Path, change: Callable[[Json], object], split: str = "train") -> Path:
    raw: Json = trees.things_json(trees.THINGS)
    change(raw)
    path = root / f"{split}.json"
    path.write_text(json.dumps(raw))
    return path


def test_ids_with_gaps_are_numbered_in_the_order_of_the_list_and_come_back(root: Path) -> None:
    source = opened(root)
    assert source.class_names == ("cat", "owl", "dog") and source.category_ids == (90, 3, 7)
    assert [source.image_id(index) for index in range(3)] == [5, 6, 7]
    classes = Objects().parse(source.label_bytes(0))[:, CLASS].tolist()
    assert [source.category_ids[int(number)] for number in classes] == [7, 90]  # dog has the lower id


def test_an_image_knows_its_id_whatever_is_left_out_before_it(root: Path) -> None:
    rewrite(root, lambda raw: raw["images"].reverse())
    source = open_source(f"coco:{root}", "train", keep_empty=False)
    assert isinstance(source, Coco) and list(source.keys) == ["a.v2", "b_01"]
    assert [source.image_id(index) for index in range(2)] == [7, 5]


REFUSED: dict[str, tuple[Callable[[Json], object], type[KdError], str, str]] = {
    "no images": (lambda j: j.pop("images"), Missing, "the json names no images", "the layout is"),
    "no image": (lambda j: j["images"].clear(), Missing, "the json names no images", "{train,val,test}.json"),
    "no annotations": (lambda j: j.pop("annotations"), Missing, "no list 'annotations'", "COCO json"),
    "no categories": (lambda j: j.pop("categories"), Missing, "no list 'categories'", "COCO json"),
    "no category": (lambda j: j["categories"].clear(), BadSample, "no list of {id, name}", "of each class"),
    "a nameless category": (
        lambda j: j["categories"][0].pop("name"), BadSample, "no list of {id, name}", "ids as numbers"
    ),
    "one category id twice": (
        lambda j: j["categories"][0].update(id=3), BadSample, "two categories have the id 3", "one of its own"
    ),
    "one category twice": (
        lambda j: j["categories"][0].update(name="owl"), BadSample, "two categories have the name 'owl'",
        "one of its own",
    ),
    "one file_name twice": (
        lambda j: j["images"][0].update(file_name="c.png"), BadSample,
        "two images have the file_name 'c.png'", "once",
    ),
    "one image id twice": (
        lambda j: j["images"][0].update(id=7), BadSample, "two images have the id 7", "name each image once"
    ),
    "one key twice": (
        lambda j: j["images"][0].update(file_name="c.jpg"), BadSample,
        "two images have the key 'c': c.jpg and c.png", "rename or remove",
    ),
    "an image without a name": (
        lambda j: j["images"][1].pop("file_name"), BadSample, "image 1 of the list has no id or no file_name",
        "give it both",
    ),
    "an image of another form": (
        lambda j: j["images"][0].update(file_name="b.bmp"), BadSample, "'b.bmp' is no JPEG or PNG", ".png"
    ),
    "an image elsewhere": (
        lambda j: j["images"][0].update(file_name="../b.png"), BadSample, "'../b.png' leaves the folder",
        "relative",
    ),
    "an image id that is not there": (
        lambda j: j["annotations"][0].update(image_id=8), BadSample,
        "annotation 99 is of image 8, which is not in the list", "add the image",
    ),
    "no bbox": (
        lambda j: j["annotations"][0].pop("bbox"), BadSample,
        "annotation 99 has no bbox of four numbers", "give x, y, width",
    ),
    "a bbox of text": (
        lambda j: j["annotations"][0].update(bbox=["1", "2", "3", "4"]), BadSample,
        "annotation 99 has no bbox of four numbers", "width",
    ),
    "an annotation of a nameless kind": (
        lambda j: j["annotations"][0].update(id="x"), BadSample, "annotation 0 of the list is none", "correct"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_json_that_cannot_be_is_refused_when_it_is_opened(case: str, root: Path) -> None:
    change, kind, what, fix = REFUSED[case]
    path = rewrite(root, change)
    with pytest.raises(kind) as caught:
        opened(root)
    assert what in caught.value.what and caught.value.where == str(path) and fix in caught.value.fix


@pytest.mark.parametrize("text", ["", "{", "[1]", "nonsense"])
def test_what_is_no_json_is_refused(text: str, root: Path) -> None:
    (root / "train.json").write_text(text)
    with pytest.raises(KdError) as caught:
        opened(root)
    assert caught.value.where == str(root / "train.json")
    assert "cannot be read" in caught.value.what or "names no images" in caught.value.what


def test_a_category_that_is_not_there_is_named_with_annotation_and_file(root: Path) -> None:
    path = rewrite(root, lambda raw: raw["annotations"][0].update(category_id=12))
    source = opened(root)
    for read in (source.check, source.label_bytes):
        with pytest.raises(BadSample) as caught:
            read(0)
        assert caught.value.what == "annotation 99 of 'b_01' is of category 12, which is not in the list"
        assert caught.value.where == str(path) and "ids of categories are 90, 3, 7" in caught.value.fix
    assert source.check(1)


def test_an_area_that_is_no_number_is_refused_and_a_missing_one_is_the_boxs(root: Path) -> None:
    rewrite(root, lambda raw: raw["annotations"][0].update(area=float("nan")))
    with pytest.raises(BadSample, match="an annotation of 'b_01' has an area that is no number"):
        opened(root).label_bytes(0)
    rewrite(root, lambda raw: raw["annotations"][0].pop("area"))
    assert 480.0 in Objects().parse(opened(root).label_bytes(0))[:, 6].tolist()


def test_splits_of_other_classes_are_refused_naming_both_lists(root: Path) -> None:
    first = root / "train.json"
    second = rewrite(root, lambda raw: raw["categories"].reverse(), "val")
    for split, other, lists in (("train", "val", "cat, owl, dog and dog, owl, cat"),
                                ("val", "train", "dog, owl, cat and cat, owl, dog")):  # fmt: skip
        with pytest.raises(BadSample) as caught:
            opened(root, split)
        assert caught.value.what == f"the classes of '{split}' and '{other}' differ: {lists}"
        assert str(first) in caught.value.where and str(second) in caught.value.where
        assert caught.value.fix == "give both files the same categories in the same order"


def test_images_that_are_not_there_show_the_layout(root: Path) -> None:
    (root / "images").rename(root / "mislaid")
    with pytest.raises(Missing) as caught:
        opened(root)
    assert caught.value.what == "the images of coco split 'train' are not there: no 'b_01.png'"
    assert "images/*.jpg" in caught.value.fix


def test_a_json_without_sizes_takes_those_of_the_images(root: Path) -> None:
    def change(raw: Json) -> None:
        for image in raw["images"]:
            del image["width"]

    rewrite(root, change)
    source = open_source(f"coco:{root}", "train", keep_empty=False)
    assert list(source.keys) == ["b_01", "a.v2"] and source.size(1) == (64, 48)
    assert source.default_crop == (640, 640)


# ---- parsed once ---------------------------------------------------------------------------------------


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    paths: list[Path] = []
    parse = coco_json._parse

    def spying(path: Path, layout: str) -> coco_json.CocoIndex:
        paths.append(path)
        return parse(path, layout)

    monkeypatch.setattr(coco_json, "_parse", spying)
    return paths


def everything(source: Coco) -> list[object]:
    indices = range(len(source.keys))
    told = [(source.label_bytes(i), source.stamp(i), source.image_id(i), source.size(i)) for i in indices]
    return [told, source.class_names, source.category_ids, list(source.keys), source.default_crop]


def test_a_json_is_parsed_once_and_the_columns_say_the_same(
    root: Path, home: Path, parsed: list[Path]
) -> None:
    first = everything(opened(root))
    assert len(parsed) == 1 and len(list((home / "indexes").glob("*.npz"))) == 1
    assert everything(opened(root)) == first and len(parsed) == 1


def test_a_json_of_other_bytes_is_parsed_anew(root: Path, parsed: list[Path]) -> None:
    first = everything(opened(root))
    rewrite(root, lambda raw: raw["annotations"][0].update(bbox=[1, 2, 3, 4]))
    assert everything(opened(root)) != first and len(parsed) == 2


@pytest.mark.parametrize("content", [b"", b"PK torn", b"half"])
def test_columns_that_cannot_be_read_are_made_anew(
    content: bytes, root: Path, home: Path, parsed: list[Path]
) -> None:
    first = everything(opened(root))
    (kept,) = (home / "indexes").glob("*.npz")
    whole = kept.read_bytes()
    kept.write_bytes(whole[: len(whole) // 2] if content == b"half" else content)
    assert everything(opened(root)) == first and len(parsed) == 2
    assert everything(opened(root)) == first and len(parsed) == 2


def test_columns_of_another_number_of_annotations_are_not_believed(
    root: Path, home: Path, parsed: list[Path]
) -> None:
    first = everything(opened(root))
    (kept,) = (home / "indexes").glob("*.npz")
    with np.load(kept) as arrays:
        columns = dict(arrays)
    np.savez(kept, **columns | {"boxes_A4": columns["boxes_A4"][1:]})
    assert everything(opened(root)) == first and len(parsed) == 2


def test_a_home_that_cannot_be_written_only_costs_time(
    root: Path, home: Path, parsed: list[Path], tmp_path: Path
) -> None:
    home.mkdir(exist_ok=True)
    (home / "indexes").write_text("a file, not a folder")
    first = everything(opened(root))
    assert everything(opened(root)) == first and len(parsed) == 2


def test_a_json_that_was_touched_or_laid_out_anew_changes_no_sample(root: Path) -> None:
    """Otherwise a build would read every image again, and make rows anew whose boxes are the same."""
    source = opened(root)
    before = [(source.stamp(i), source.content(i)) for i in range(3)]
    raw: Json = trees.things_json(trees.THINGS)
    raw["annotations"].reverse()
    (root / "train.json").write_text(json.dumps({"info": ["new"], **raw}, indent=2))
    os.utime(root / "train.json", ns=(1, 1))
    again = opened(root)
    assert [(again.stamp(i), again.content(i)) for i in range(3)] == before


# ---- a real one ----------------------------------------------------------------------------------------


@pytest.mark.skipif(not BCCD.is_dir(), reason="the BCCD images are not here")
def test_bccd_is_what_its_record_says() -> None:
    record = json.loads((BCCD / "dataset.json").read_text())["splits"]
    for split, said in record.items():
        source = opened(BCCD, split)
        objects = [Objects().parse(source.label_bytes(i)) for i in range(len(source.keys))]
        classes = np.bincount(np.concatenate(objects)[:, CLASS].astype(int))
        assert len(source.keys) == said["images"] and len(np.concatenate(objects)) == said["boxes"]
        assert dict(zip(source.class_names, classes.tolist(), strict=True)) == said["boxes_per_class"]
        roots = np.sqrt(np.concatenate([o[:, 6] for o in objects]))
        np.testing.assert_allclose(
            np.percentile(roots, [5, 50, 95]), said["sqrt_area_px_percentiles_5_50_95"], atol=0.06
        )
        assert source.default_crop == (480, 640) and source.label == "bccd"
        assert source.check(0) == source.size(0) == (480, 640)
