"""Files of data sets that hang, grow or loop: refused in three parts, and what is too large says so."""

import gzip
import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from bounded_memory import bounded_memory
from PIL import Image

from kdcache.cache.errors import BadSample, KdError
from kdcache.cache.sources import cifar, fashion_mnist
from kdcache.cache.sources.cifar import CIFAR10_CLASSES, Cifar10
from kdcache.cache.sources.coco_json import read_coco
from kdcache.cache.sources.fashion_mnist import IMAGES, read_idx
from kdcache.cache.sources.labels import decode_label
from kdcache.cache.sources.listing import find_images, header_size, image_size, listed_keys, read_bytes

HUGE = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (14000).to_bytes(4) + (13000).to_bytes(4) + b"\x08\0\0\0\0"


@pytest.mark.timeout(10)
def test_a_pipe_where_an_image_belongs_is_refused_without_waiting(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    os.mkfifo(path)
    for read in (
        lambda: read_bytes(path, key="a", kind="image"),
        lambda: header_size(path, key="a"),
        lambda: image_size(path, key="a"),
        lambda: listed_keys(path),
        lambda: read_coco(path, "layout"),
    ):
        with pytest.raises(KdError, match="no regular file") as caught:
            read()
        assert caught.value.where == str(path) and caught.value.fix


def test_an_image_over_the_limit_says_its_size_the_limit_and_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(HUGE)
    said = "is too large: 13000x14000 pixels (height x width), at most 178956970 in all are decoded"
    for kind, read in (
        ("image", lambda: image_size(path, key="a")),
        ("image", lambda: header_size(path, key="a")),
        ("label", lambda: decode_label(HUGE, key="a", path=path)),
    ):
        with bounded_memory(50 << 20), pytest.raises(BadSample) as caught:
            read()
        assert caught.value.what == f"the {kind} of 'a' {said}" and caught.value.where == str(path)
        assert caught.value.fix.startswith("cut it into pieces or shrink it, or leave it out with")


def test_an_image_that_pillow_merely_warns_of_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 70)
    Image.new("L", (10, 10)).save(tmp_path / "a.png")
    assert image_size(tmp_path / "a.png", key="a") == header_size(tmp_path / "a.png", key="a") == (10, 10)


@pytest.mark.timeout(10)
def test_links_that_lead_back_are_not_followed_and_others_are(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "b.png").write_bytes(b"")
    folder = tmp_path / "images"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.png").write_bytes(b"")
    for name in ("x", "y", "z"):
        (folder / name).symlink_to(folder)
        (folder / "deep" / name).symlink_to(folder)
    (folder / "one").symlink_to(other)
    (folder / "two").symlink_to(other)
    (other / "back").symlink_to(other)
    assert sorted(find_images(folder, "")) == ["a", "one/b", "two/b"]


def test_an_idx_file_that_unpacks_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fashion_mnist, "MAX_BYTES", 1 << 20)
    path = tmp_path / "images.gz"
    head = bytes((0, 0, 8, 3)) + np.array([1, 28, 28], ">u4").tobytes()
    path.write_bytes(gzip.compress(head + bytes(784)))
    assert read_idx(path, IMAGES).shape == (1, 28, 28)
    path.write_bytes(gzip.compress(head + bytes(1 << 24)))
    with bounded_memory(8 << 20), pytest.raises(BadSample, match="unpacks to more than"):
        read_idx(path, IMAGES)
    path.write_bytes(gzip.compress(bytes((0, 0, 8, 3)) + b"\xff" * 12))
    with pytest.raises(BadSample, match="79228162458924105385300197391 for 4294967295x4294967295x4294967295"):
        read_idx(path, IMAGES)


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE], ids=["a member", "a header"])
def test_an_archive_that_unpacks_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: bytes
) -> None:
    monkeypatch.setattr(cifar, "MAX_BYTES", 1 << 20)
    member = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
    member.size, member.type = 1 << 26, kind
    (tmp_path / Cifar10.archive).write_bytes(gzip.compress(member.tobuf() + bytes(1 << 26)))
    with bounded_memory(32 << 20), pytest.raises(BadSample, match="cannot be read: it unpacks to more than"):
        Cifar10(tmp_path, "train")
    assert len(CIFAR10_CLASSES) == 10


def test_a_pickle_that_would_take_room_for_places_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / Cifar10.folder
    folder.mkdir()
    for name in (*Cifar10.batches["train"], *Cifar10.batches["test"]):
        (folder / name).write_bytes(b"\x80\x02}r" + (1 << 31).to_bytes(4, "little") + b".")
    with bounded_memory(), pytest.raises(BadSample, match="keeps a value at place 2147483648"):
        Cifar10(tmp_path, "train")


def test_numbers_that_no_float_holds_are_no_box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDCACHE_HOME", str(tmp_path))
    text = io.StringIO()
    text.write('{"images": [{"id": 1, "file_name": "a.png"}], "categories": [{"id": 1, "name": "x"}], ')
    text.write(
        '"annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1' + "0" * 400 + "]}]}"
    )
    (tmp_path / "a.json").write_text(text.getvalue())
    with pytest.raises(BadSample, match="annotation 1 has no bbox of four numbers"):
        read_coco(tmp_path / "a.json", "layout")
