"""Where the class names of one's own data come from, and what is refused."""

import json
from pathlib import Path

import pytest
from PIL import Image

from kdcache.cache.errors import BadOption, Missing
from kdcache.cache.sources.table import open_source


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for kind in ("images", "labels"):
        (tmp_path / "train" / kind).mkdir(parents=True)
        Image.new("L", (30, 700)).save(tmp_path / "train" / kind / "a.png")
    return tmp_path


def names_of(root: Path) -> tuple[str, ...]:
    return open_source(f"folder:{root}", "train").class_names


def test_classes_txt_gives_the_names_in_order(root: Path) -> None:
    (root / "classes.txt").write_text("road\n\n  traffic light \ncar\n")
    assert names_of(root) == ("road", "traffic light", "car")


@pytest.mark.parametrize("classes", [["sky", "road"], [{"id": 0, "name": "sky"}, {"id": 1, "name": "road"}]])
def test_dataset_json_gives_names_where_there_is_no_list(root: Path, classes: object) -> None:
    (root / "dataset.json").write_text(json.dumps({"classes": classes}))
    assert names_of(root) == ("sky", "road")
    (root / "classes.txt").write_text("a\nb\nc")
    assert names_of(root) == ("a", "b", "c")


@pytest.mark.parametrize("record", [None, {}, {"name": "mine"}, ["road"]])
def test_without_class_names_the_error_says_what_to_write(root: Path, record: object) -> None:
    if record is not None:
        (root / "dataset.json").write_text(json.dumps(record))
    with pytest.raises(Missing) as caught:
        names_of(root)
    assert caught.value.what == "the classes of these labels are not given, so their number is unknown"
    assert caught.value.where == str(root)
    assert caught.value.fix.startswith("write classes.txt there: one class name per line")


@pytest.mark.parametrize(
    "classes", ["road", [0, 1], [{"id": 1, "name": "a"}, {"id": 0, "name": "b"}], [{"id": 0}], {"a": 0}]
)
def test_classes_in_another_form_are_refused(root: Path, classes: object) -> None:
    (root / "dataset.json").write_text(json.dumps({"classes": classes}))
    with pytest.raises(BadOption, match="is neither a list of names nor") as caught:
        names_of(root)
    assert caught.value.where == str(root / "dataset.json") and "classes.txt" in caught.value.fix


def test_a_record_that_is_no_json_is_named(root: Path) -> None:
    (root / "dataset.json").write_text("{")
    with pytest.raises(BadOption, match="not JSON") as caught:
        names_of(root)
    assert caught.value.where == str(root / "dataset.json")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("road\nroad\ncar", "3 class names of which 2 are different"),
        ("\n", "0 class names"),
        ("\n".join(map(str, range(256))), "256 class names"),
    ],
)
def test_names_that_cannot_number_labels_are_refused(root: Path, text: str, what: str) -> None:
    (root / "classes.txt").write_text(text)
    with pytest.raises(BadOption, match=what) as caught:
        names_of(root)
    assert caught.value.where == str(root / "classes.txt") and "1 to 255" in caught.value.fix


def test_two_folders_of_equal_classes_are_told_apart_by_their_title(root: Path) -> None:
    described = []
    for name in ("streets", "rivers"):
        (root / "dataset.json").write_text(json.dumps({"name": name, "classes": ["a", "b"]}))
        described.append(open_source(f"folder:{root}", "train").describe())
    assert described[0] != described[1] and described[0]["title"] == "streets"


def test_the_crop_is_the_first_image_or_512_a_side(root: Path) -> None:
    (root / "classes.txt").write_text("a")
    assert open_source(f"folder:{root}", "train").default_crop == (512, 30)
    (root / "train/images/a.png").write_bytes(b"broken")
    assert open_source(f"folder:{root}", "train").default_crop == (512, 512)
