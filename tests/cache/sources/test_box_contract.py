"""One contract for every source of objects: each test runs over a tiny tree of each form."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kdcache.cache.errors import BadSample, Missing
from kdcache.cache.sources.boxes import BoxSource
from kdcache.cache.sources.table import SOURCES, open_source, splits
from kdcache.cache.tasks.detection import AREA, CLASS, CROWD, ID
from kdcache.cache.tasks.table import DETECTION, task_of


def beside(name: str) -> Any:
    """A module of this folder; under `--import-mode=importlib` tests cannot import each other by name."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


trees = beside("box_trees")
Tree, Thing = Any, trees.Thing
TRUTH = task_of(DETECTION).truth


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KDCACHE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(params=trees.TREES, ids=lambda name: name.replace(" ", "-"))
def tree(request: pytest.FixtureRequest) -> Tree:
    return trees.TREES[request.param]


@pytest.fixture
def root(tree: Tree, tmp_path: Path) -> Path:
    drawn: Path = trees.draw_tree(tree, tmp_path / "data")
    return drawn


def opened(tree: Tree, root: Path, *, keep_empty: bool = True) -> BoxSource:
    source = open_source(f"{tree.spec}:{root}", "train", keep_empty=keep_empty)
    assert isinstance(source, BoxSource)
    return source


def drawn(tree: Tree, tmp_path: Path, things: dict[str, Any], **options: bool) -> BoxSource:
    return opened(tree, trees.draw_tree(tree, tmp_path / "other", things), **options)


def test_every_source_of_objects_is_held_to_the_contract() -> None:
    detection = {name for name, kind in SOURCES.items() if kind.task == DETECTION}
    assert {tree.spec for tree in trees.TREES.values()} == detection


def test_each_key_gives_its_own_image(tree: Tree, root: Path) -> None:
    source = opened(tree, root)
    assert list(source.keys) == (list(trees.SIZES) if tree.listed else sorted(trees.SIZES))
    for index, key in enumerate(source.keys):
        path = root / tree.image.format(key=key)
        assert source.image_bytes(index) == path.read_bytes() and source.files(index)[0].samefile(path)
        assert source.check(index) == source.size(index) == trees.SIZES[key]


def test_each_image_has_its_objects_as_they_are_written(tree: Tree, root: Path) -> None:
    source = opened(tree, root)
    assert source.class_names == trees.NAMES
    for index, key in enumerate(source.keys):
        wanted = trees.THINGS[key]
        objects_M8 = TRUTH.parse(source.label_bytes(index))
        assert objects_M8.shape == (len(wanted), 8) and (np.diff(objects_M8[:, ID]) > 0).all()
        if source.name == "coco":
            wanted = wanted[::-1]  # ids of the json fall
        boxes_M4 = np.array([one.box for one in wanted]).reshape(-1, 4)
        np.testing.assert_allclose(objects_M8[:, :4], boxes_M4, atol=1e-9)
        assert [trees.NAMES[int(c)] for c in objects_M8[:, CLASS]] == [one.name for one in wanted]
        crowds = [one.crowd if tree.crowds else 0 for one in wanted]
        assert objects_M8[:, CROWD].tolist() == crowds
        areas = (boxes_M4[:, 2:] - boxes_M4[:, :2]).prod(axis=1)  # the json's own are half of it
        np.testing.assert_allclose(objects_M8[:, AREA], areas / (2 if source.name == "coco" else 1))


def test_identity_names_classes_but_no_folder(tree: Tree, root: Path, tmp_path: Path) -> None:
    described = opened(tree, root).describe()
    assert described == {
        "name": tree.spec, "split": "train", "task": DETECTION, "class_names": list(trees.NAMES)
    }  # fmt: skip
    assert drawn(tree, tmp_path, trees.THINGS).describe() == described


def test_images_without_a_usable_box_are_left_out_of_training_alone(tree: Tree, root: Path) -> None:
    kept, trained = opened(tree, root), opened(tree, root, keep_empty=False)
    assert "c" in kept.keys and list(trained.keys) == [key for key in kept.keys if key != "c"]
    for index, key in enumerate(trained.keys):
        same = list(kept.keys).index(key)
        assert trained.image_bytes(index) == kept.image_bytes(same)
        assert trained.label_bytes(index) == kept.label_bytes(same)
        assert trained.size(index) == kept.size(same) and trained.stamp(index) == kept.stamp(same)
    assert "1 image has no usable box; --keep-empty keeps them" in trained.notes
    assert not any("usable" in note for note in kept.notes)


@pytest.mark.parametrize(
    "box",
    [(10, 10, 10, 20), (10, 10, 10.9, 20), (70, 5, 90, 9), (-9, 5, 0.5, 9)],
    ids=["no width", "thin", "outside", "border"],
)
def test_a_box_without_area_is_counted_and_does_not_keep_its_image(
    tree: Tree, tmp_path: Path, box: tuple[float, ...]
) -> None:
    things = trees.THINGS | {"c": (Thing(box, "cat"), Thing(box, "owl"))}
    source = drawn(tree, tmp_path, things, keep_empty=False)
    assert "c" not in source.keys and "2 boxes have no area" in source.notes
    whole = drawn(tree, tmp_path, things)
    index = list(whole.keys).index("c")
    written = TRUTH.parse(whole.label_bytes(index))[:, :4]  # judges read them as they are
    np.testing.assert_allclose(written, [box, box], atol=1e-9)
    assert TRUTH.column_values(whole.label_bytes(index), whole.size(index)) == {"objects": 0}


def test_an_image_of_crowds_alone_teaches_nothing(tree: Tree, tmp_path: Path) -> None:
    things = trees.THINGS | {"c": (Thing((2, 2, 20, 20), "dog", crowd=1),)}
    source = drawn(tree, tmp_path, things, keep_empty=False)
    assert ("c" in source.keys) == (not tree.crowds)


def test_a_split_of_which_nothing_can_be_learnt_is_refused(tree: Tree, tmp_path: Path) -> None:
    with pytest.raises(Missing) as caught:
        drawn(tree, tmp_path, {"c": ()}, keep_empty=False)
    assert caught.value.what == f"no image of {tree.spec} split 'train' has a box that training can use"
    assert "--keep-empty" in caught.value.fix
    assert list(drawn(tree, tmp_path, {"c": ()}).keys) == ["c"]


def test_a_sample_is_another_one_when_a_box_of_its_own_changes(
    tree: Tree, root: Path, tmp_path: Path
) -> None:
    before = opened(tree, root)
    first = trees.THINGS["a.v2"]
    moved = trees.THINGS | {"a.v2": (first[0]._replace(box=(0, 0, 12, 17)), first[1])}
    after = drawn(tree, tmp_path, moved)
    for index, key in enumerate(before.keys):
        assert (before.content(index) == after.content(index)) == (key != "a.v2")
        assert (before.stamp(index)[2:3] == after.stamp(index)[2:3]) == (key != "a.v2") or tree.spec != "coco"


def test_an_image_of_another_size_is_named(tree: Tree, root: Path) -> None:
    source = opened(tree, root)
    path = source.image_path(0)
    if source.claimed_size(0) is None:
        pytest.skip("a text file says no size")
    height, width = trees.SIZES[source.keys[0]]
    trees.draw_image(path, (height, width + 1))
    for read in (source.size, source.check):
        with pytest.raises(BadSample) as caught:
            read(0)
        assert caught.value.what == (
            f"the image of '{source.keys[0]}' has {height}x{width + 1} pixels, its annotation says "
            f"{height}x{width} (height x width)"
        )
        assert caught.value.where == f"{path} and {source.annotation_path(0)}"
        assert "--skip-bad" in caught.value.fix


def test_an_image_that_exif_turns_is_to_be_stored_turned(tree: Tree, root: Path) -> None:
    source = opened(tree, root)
    if source.claimed_size(0) is None:
        pytest.skip("a text file says no size")
    height, width = trees.SIZES[source.keys[0]]
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (height, width)).save(source.image_path(0), exif=exif)
    with pytest.raises(BadSample) as caught:
        source.check(0)
    assert caught.value.fix == "the image's EXIF turns it, which is ignored here: store it turned"


def test_an_image_that_is_gone_or_torn_is_named(tree: Tree, root: Path) -> None:
    source = opened(tree, root)
    path = source.image_path(1)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(BadSample, match=f"'{source.keys[1]}' cannot be read"):
        source.check(1)
    path.unlink()
    with pytest.raises(BadSample, match=f"'{source.keys[1]}' has no image"):
        source.check(1)
    assert source.stamp(1) == [] or source.name != "coco"
    assert source.check(0)


@pytest.mark.parametrize(
    ("box", "said"),
    [
        ((10, 10, 8, 20), "is -{:g} wide and"),
        ((10, 10, 20, 8), "wide and -{:g} high"),
        ((float("nan"), 1, 5, 5), "has a number that is none: nan"),
        ((1, 1, float("inf"), 5), "has a number that is none: "),
    ],
)
def test_what_is_no_box_is_named_with_its_file(
    tree: Tree, tmp_path: Path, box: tuple[float, ...], said: str
) -> None:
    source = drawn(tree, tmp_path, trees.THINGS | {"c": (Thing((1, 2, 5, 6), "cat"), Thing(box, "owl"))})
    index = list(source.keys).index("c")
    place = {"coco": "annotation 96 of 'c' ", "voc-boxes": "object 2 of 'c' ", "yolo": "line 2 of 'c' "}
    short = 2 / 32 if tree.spec == "yolo" else 2  # shares of the image, or pixels
    for read in (source.check, source.label_bytes):
        with pytest.raises(BadSample) as caught:
            read(index)
        assert caught.value.what.startswith(place[tree.spec]) and said.format(short) in caught.value.what
        assert caught.value.where == str(source.annotation_path(index))
        assert "--skip-bad" in caught.value.fix
    others = [i for i in range(len(source.keys)) if i != index]
    assert all(source.check(i) for i in others) and source.num_bytes(index) > 0
    trained = drawn(tree, tmp_path, trees.THINGS | {"c": (Thing(box, "owl"),)}, keep_empty=False)
    assert "c" in trained.keys, "a build has to report it, or leave it out with --skip-bad"


@pytest.mark.parametrize("keep_empty", [True, False])
def test_what_no_run_could_read_is_counted_before_it_begins(
    tree: Tree, tmp_path: Path, keep_empty: bool
) -> None:
    """The first is named, by what is wrong with it; an image without objects is none of them."""
    bad = Thing((10, 10, 8, 20), "owl")
    things = trees.THINGS | {key: (*trees.THINGS[key], bad) for key in ("c", "a.v2")}
    source = drawn(tree, tmp_path, things, keep_empty=keep_empty)
    with pytest.raises(BadSample) as caught:
        source.refuse_unusable()
    first = next(key for key in source.keys if key in ("c", "a.v2"))
    assert f"of '{first}' is -" in caught.value.what
    assert caught.value.what.endswith(f"(2 of {len(source.keys)} samples of 'train' cannot be used)")
    opened(tree, trees.draw_tree(tree, tmp_path / "whole"), keep_empty=keep_empty).refuse_unusable()


def test_images_that_are_gone_are_counted_without_opening_any(
    tree: Tree, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if tree.spec == "yolo":
        pytest.skip("its images are those that are there")
    source = opened(tree, root)
    for index in (1, 2):
        source.image_path(index).unlink()
    monkeypatch.setattr("PIL.Image.open", lambda *_, **__: pytest.fail("an image was opened"))
    with pytest.raises(BadSample) as caught:
        source.refuse_unusable()
    assert caught.value.what == f"'{source.keys[1]}' has no image (2 of 3 samples of 'train' cannot be used)"
    assert caught.value.where == str(source.image_path(1))


def test_a_missing_split_names_those_that_exist(tree: Tree, root: Path) -> None:
    assert splits(f"{tree.spec}:{root}") == ("train",)
    with pytest.raises(Missing, match=f"{tree.spec} has no split 'val'") as caught:
        open_source(f"{tree.spec}:{root}", "val")
    assert "splits that exist: train;" in caught.value.fix


def test_bytes_are_told_without_reading_and_never_far_below(tree: Tree, root: Path) -> None:
    source = opened(tree, root)
    for index in range(len(source.keys)):
        real = len(source.image_bytes(index)) + len(source.label_bytes(index))
        assert 0.9 * real <= source.num_bytes(index) <= real + 300


def test_networks_inputs_are_multiples_of_32(tree: Tree, root: Path) -> None:
    source = opened(tree, root)
    published = {"coco": (640, 640), "voc-boxes": (512, 512)}
    largest = (640, 480)  # the aspect of a.v2, 64x48
    own = tree.spec == "yolo" or "json" in next(n for n, one in trees.TREES.items() if one is tree)
    assert source.default_crop == (largest if own else published[tree.spec])
