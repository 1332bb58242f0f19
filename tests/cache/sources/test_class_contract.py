"""One contract for every source of classification: each test runs over a tiny dataset in each form."""

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path

import class_data as draw
import numpy as np
import pytest
from PIL import Image

from kdcache.cache.errors import Missing
from kdcache.cache.sources.contract import ClassSource
from kdcache.cache.sources.table import SOURCES, open_source, splits
from kdcache.cache.tasks.table import CLASSIFICATION, DETECTION, SEGMENTATION

FORMS: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "npz": ("npz", lambda root: draw.draw_npz(root).parent),
    "npz grey file": ("npz", lambda root: draw.draw_npz(root, (28, 28))),
    "npz own val": ("npz", lambda root: draw.draw_npz(
        root, x_val=draw.pixels(3, (32, 32, 3), 2), y_val=[0, 1, 2])),
    "fashion-mnist": ("fashion-mnist", draw.draw_fashion_mnist),
    "fashion-mnist unpacked": ("fashion-mnist", partial(draw.draw_fashion_mnist, packed=False)),
    "cifar10 outer": ("cifar10", draw.draw_cifar10),
    "cifar10": ("cifar10", lambda root: draw.draw_cifar10(root) / "cifar-10-batches-py"),
    "cifar10 archive": ("cifar10", partial(draw.draw_cifar10, archive=True)),
    "cifar10 archive named": (
        "cifar10", lambda root: draw.draw_cifar10(root, archive=True) / "cifar-10-python.tar.gz"),
    "cifar100": ("cifar100", draw.draw_cifar100),
    "imagefolder": ("imagefolder", draw.draw_imagefolder),
}  # fmt: skip


@pytest.fixture(params=FORMS, ids=lambda name: name.replace(" ", "-"))
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def spec(form: str, tmp_path: Path) -> str:
    kind, make = FORMS[form]
    return f"{kind}:{make(tmp_path)}"


def opened(spec: str, split: str = "train") -> ClassSource:
    source = open_source(spec, split)
    assert hasattr(source, "class_of")
    return source  # type: ignore[return-value]


def test_every_source_is_held_to_one_of_the_contracts() -> None:
    tasks = {name: kind.task for name, kind in SOURCES.items()}
    held = {name for name, _ in FORMS.values()}
    assert {name for name, task in tasks.items() if task == CLASSIFICATION} == held
    assert set(tasks.values()) == {SEGMENTATION, CLASSIFICATION, DETECTION}


def test_every_split_opens_and_no_key_is_there_twice(spec: str) -> None:
    for split in splits(spec):
        source = opened(spec, split)
        assert source.split == split and len(set(source.keys)) == len(source.keys) > 0


def test_train_and_val_share_no_sample(spec: str) -> None:
    train, val = opened(spec), opened(spec, "val")
    shown = {train.content(i) for i in range(len(train.keys))}
    if "imagefolder" not in spec:  # whose two folders were drawn alike
        assert shown.isdisjoint(val.content(i) for i in range(len(val.keys)))
    assert train.class_names == val.class_names


def test_images_are_decodable_and_of_the_size_that_is_said(spec: str) -> None:
    source = opened(spec)
    for index in (0, 1, len(source.keys) - 1):
        with Image.open(io.BytesIO(source.image_bytes(index))) as image:
            size = (image.height, image.width)
        assert source.check(index) == source.size(index) == size
    assert max(source.default_crop) < 64


def test_the_label_is_the_class_in_ascii(spec: str) -> None:
    source = opened(spec)
    ids = [source.class_of(i) for i in range(len(source.keys))]
    assert [source.label_bytes(i) for i in range(len(ids))] == [str(n).encode() for n in ids]
    assert 0 <= min(ids) and max(ids) < len(source.class_names) and len(set(ids)) > 1


def test_content_tells_samples_apart_and_files_are_those_on_disk(spec: str) -> None:
    source = opened(spec)
    assert len({source.content(i) for i in range(len(source.keys))}) == len(source.keys)
    assert all(path.is_file() for path in source.files(0)) and source.num_bytes(0) > 0


def test_identity_names_task_and_classes_but_no_folder(form: str, spec: str, tmp_path: Path) -> None:
    described = opened(spec).describe()
    assert described["task"] == CLASSIFICATION and described["split"] == "train"
    assert str(tmp_path) not in repr(described)
    kind, make = FORMS[form]
    assert opened(f"{kind}:{make(tmp_path / 'moved')}").describe() == described


def test_name_and_root_open_the_source_again(spec: str) -> None:
    source = opened(spec)
    assert list(opened(f"{source.name}:{source.root}").keys) == list(source.keys)


def test_a_split_that_is_not_there_names_those_that_are(spec: str) -> None:
    with pytest.raises(Missing, match="has no split 'trian'") as caught:
        open_source(spec, "trian")
    assert "splits that exist: train, val" in caught.value.fix


@pytest.mark.parametrize("name", ["npz own val", "fashion-mnist", "cifar10 archive", "cifar100"])
def test_arrays_become_pngs_of_the_very_same_pixels(name: str, tmp_path: Path) -> None:
    kind, make = FORMS[name]
    source = opened(f"{kind}:{make(tmp_path)}", "trainval")
    shape = (28, 28) if kind == "fashion-mnist" else (32, 32, 3)
    for index, wanted in enumerate(draw.pixels(draw.NUM_TRAIN, shape)):
        with Image.open(io.BytesIO(source.image_bytes(index))) as image:
            assert image.mode == ("L" if len(shape) == 2 else "RGB")
            np.testing.assert_array_equal(np.asarray(image), wanted)
        wanted_class = draw.classes(draw.NUM_TRAIN, {"npz": 3, "cifar100": 100}.get(kind, 10))[index]
        assert source.class_of(index) == wanted_class
