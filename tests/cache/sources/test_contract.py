"""One contract for every source: each test runs over a tiny tree of each dataset, in each of its layouts."""

import importlib.util
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kdcache.cache.errors import BadSample, Missing
from kdcache.cache.sources.contract import Source
from kdcache.cache.sources.table import SOURCES, open_source, splits
from kdcache.cache.tasks.table import SEGMENTATION


def beside(name: str) -> Any:
    """A module of this folder; under `--import-mode=importlib` tests cannot import each other by name."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


trees = beside("source_trees")
Layout = Any  # trees.Layout


@pytest.fixture(params=trees.LAYOUTS, ids=lambda name: name.replace(" ", "-"))
def layout(request: pytest.FixtureRequest) -> Layout:
    return trees.LAYOUTS[request.param]


@pytest.fixture
def root(layout: Layout, tmp_path: Path) -> Path:
    trees.draw_tree(layout, tmp_path)
    return tmp_path


def opened(layout: Layout, root: Path) -> Source:
    return open_source(f"{layout.spec}:{root}", "train")


def test_every_source_of_the_table_is_held_to_the_contract() -> None:
    """Those of classification are held to theirs in test_class_contract."""
    segmentation = {name for name, kind in SOURCES.items() if kind.task == SEGMENTATION}
    assert {layout.spec for layout in trees.LAYOUTS.values()} | {"demo"} == segmentation


def test_keys_are_unique_paths_without_suffix(layout: Layout, root: Path) -> None:
    source = opened(layout, root)
    listed = (root / "train.txt").exists() or layout.spec == "voc"
    assert list(source.keys) == (list(layout.keys) if listed else sorted(layout.keys))


def test_each_key_gives_its_own_files(layout: Layout, root: Path) -> None:
    source = opened(layout, root)
    for index, key in enumerate(source.keys):
        image, label = trees.files_of(layout, root, key)
        assert source.image_path(index) == image and source.label_path(index) == label
        assert source.image_bytes(index) == image.read_bytes()


def test_images_may_differ_in_size(layout: Layout, root: Path) -> None:
    source = opened(layout, root)
    sizes = {key: source.check(i) for i, key in enumerate(source.keys)}
    assert sizes == dict(zip(layout.keys, trees.SIZES, strict=True))


def test_labels_become_grey_pngs_of_train_ids(layout: Layout, root: Path) -> None:
    source = opened(layout, root)
    assert len(source.class_names) == len(set(source.class_names)) == layout.num_classes
    for index, size in enumerate(source.check(i) for i in range(len(source.keys))):
        encoded = source.label_bytes(index)
        assert encoded[24:26] == b"\x08\x00"  # IHDR: 8 bits, grey
        ids = np.asarray(Image.open(io.BytesIO(encoded)))
        expected = np.vectorize(layout.meaning.get)(trees.stored_ids(layout, size))
        np.testing.assert_array_equal(ids, expected)


def test_a_label_that_is_already_right_keeps_its_bytes(layout: Layout, root: Path) -> None:
    source = opened(layout, root)
    same = source.label_bytes(0) == source.label_path(0).read_bytes()
    assert same == (not layout.palette and all(v == t for v, t in layout.meaning.items()))


def test_identity_names_classes_and_map_but_no_folder(layout: Layout, root: Path) -> None:
    described = opened(layout, root).describe()
    assert described["name"] == layout.spec and described["split"] == "train"
    assert len(described["class_names"]) == layout.num_classes  # type: ignore[arg-type]
    assert str(root) not in repr(described) and root.name not in repr(described)
    elsewhere = root / "moved"
    trees.draw_tree(layout, elsewhere)
    assert opened(layout, elsewhere).describe() == described


def test_a_label_value_outside_the_class_map_is_named(layout: Layout, root: Path) -> None:
    source = opened(layout, root)
    ids = trees.stored_ids(layout, source.check(0))
    ids[5, 7:10] = layout.outside
    trees.write_label(source.label_path(0), ids, palette=layout.palette)
    for read in (source.check, source.label_bytes):
        with pytest.raises(BadSample) as caught:
            read(0)
        assert (
            f"'{source.keys[0]}' holds values outside the class map: {layout.outside} (3 pixels)"
            in caught.value.what
        )
        assert caught.value.where == str(source.label_path(0))
        assert caught.value.fix.startswith("legal values are 0")


def test_an_image_without_label_is_named(layout: Layout, root: Path) -> None:
    source = opened(layout, root)
    source.label_path(1).unlink()
    with pytest.raises(BadSample, match=f"'{source.keys[1]}' has no label") as caught:
        source.check(1)
    assert caught.value.where == str(source.label_path(1))
    assert source.check(0)  # the other sample is still good


def test_missing_files_are_counted_from_listings_alone(layout: Layout, root: Path) -> None:
    source = opened(layout, root)
    source.refuse_unusable()
    for index in range(len(source.keys)):
        source.label_path(index).unlink()
    count = len(source.keys)
    with pytest.raises(BadSample) as caught:
        source.refuse_unusable()
    assert caught.value.what.startswith(f"'{source.keys[0]}' has no label ({count} of {count} samples of")


def test_a_listed_image_that_is_gone_is_named(layout: Layout, root: Path) -> None:
    source = opened(layout, root)
    source.image_path(0).unlink()
    for read in (source.check, source.image_bytes):
        with pytest.raises(BadSample, match=f"'{source.keys[0]}' has no image"):
            read(0)


def test_a_truncated_image_or_label_is_named(layout: Layout, root: Path) -> None:
    source = opened(layout, root)
    for index, path in enumerate((source.image_path(0), source.label_path(1))):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(BadSample, match=f"'{source.keys[index]}' cannot be read") as caught:
            source.check(index)
        assert caught.value.where == str(path) and "--skip-bad" in caught.value.fix


def test_label_and_image_of_different_size_are_named(layout: Layout, root: Path) -> None:
    source = opened(layout, root)
    height, width = source.check(0)
    trees.write_label(
        source.label_path(0), trees.stored_ids(layout, (height, width - 1)), palette=layout.palette
    )
    with pytest.raises(BadSample) as caught:
        source.check(0)
    assert (
        f"'{source.keys[0]}' differ in size: {height}x{width} and {height}x{width - 1}" in caught.value.what
    )
    assert str(source.image_path(0)) in caught.value.where and str(source.label_path(0)) in caught.value.where


def test_a_missing_split_names_those_that_exist(layout: Layout, root: Path) -> None:
    assert splits(f"{layout.spec}:{root}") == ("train",)
    with pytest.raises(Missing, match=f"{layout.spec} has no split 'val'") as caught:
        open_source(f"{layout.spec}:{root}", "val")
    assert "splits that exist: train;" in caught.value.fix


def test_a_missing_label_folder_shows_the_layout(layout: Layout, root: Path) -> None:
    (root / Path(layout.label.partition("{key}")[0])).rename(root / "mislaid")
    with pytest.raises(Missing) as caught:
        opened(layout, root)
    gone = f"the labels of {layout.spec} split 'train' are not there"
    assert caught.value.what == gone or "trainannot" in layout.label  # which is what tells that layout
    assert SOURCES[layout.spec].layout.strip().splitlines()[0].strip() in caught.value.fix


@pytest.mark.parametrize("name", sorted(set(SOURCES) - {"demo"}))
@pytest.mark.parametrize("exists", [False, True], ids=["absent", "empty"])
def test_a_missing_folder_shows_the_layout(name: str, exists: bool, tmp_path: Path) -> None:
    root = tmp_path / "nothing"
    if exists:
        root.mkdir()
    for call in (lambda: open_source(f"{name}:{root}", "train"), lambda: splits(f"{name}:{root}")):
        with pytest.raises(Missing) as caught:
            call()
        why = "holds nothing of the expected layout" if exists else "does not exist"
        assert caught.value.what == f"no {name} images: the folder {why}"
        assert caught.value.where == str(root)
        assert all(line.strip() in caught.value.fix for line in SOURCES[name].layout.strip().splitlines())
