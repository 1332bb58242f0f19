"""Samples in tars: plain webdataset reads them, invalid ones keep their place, damage is named."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save
from stored_shard import put_samples

from kdcache.cache.errors import BadCache, BadSample
from kdcache.cache.stores.columns import read_columns
from kdcache.cache.stores.local import LocalStore
from kdcache.cache.stores.sample_tars import (
    SampleEntry,
    bad_entry,
    image_suffix,
    index_name,
    open_samples,
    pack_samples,
    packed_keys,
    tar_name,
)
from kdcache.cache.stores.tar_pack import pack_tar
from kdcache.cache.views.words import key_hash

Samples = list[dict[str, Any]]


def picture(kind: str, mode: str, colour: int) -> bytes:
    file = io.BytesIO()
    Image.new(mode, (6, 4), (colour,) * 3 if mode == "RGB" else colour).save(file, kind)
    return file.getvalue()


ONE, TWO, THREE = (bytes([n]) * 16 for n in (1, 2, 3))
ENTRIES = [
    SampleEntry(
        "city/a.b",
        "jpg",
        picture("JPEG", "RGB", 9),
        "label.png",
        picture("PNG", "L", 1),
        4,
        6,
        True,
        ONE,
        TWO,
    ),
    bad_entry("city/broken", THREE, ONE),
    SampleEntry(
        "c", "png", picture("PNG", "RGB", 7), "label.png", picture("PNG", "L", 2), 4, 6, True, TWO, ONE
    ),
]


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    store = LocalStore(tmp_path)
    put_samples(store, 3, 4, ENTRIES)
    return store


def test_plain_webdataset_reads_the_samples_back(
    store: LocalStore, plain_webdataset: Callable[..., Samples]
) -> None:
    samples = plain_webdataset(store.root / "samples/00003.tar")
    assert [s["__key__"] for s in samples] == ["00000012", "00000014"]
    first, last = samples
    assert [k for k in first if not k.startswith("__")] == ["jpg", "label.png", "json"]
    assert [k for k in last if not k.startswith("__")] == ["png", "label.png", "json"]
    assert first["jpg"] == ENTRIES[0].image and last["png"] == ENTRIES[2].image
    assert first["label.png"] == ENTRIES[0].label
    assert json.loads(first["json"]) == {"key": "city/a.b", "height": 4, "width": 6}


def test_webdataset_decodes_them_to_pictures(
    store: LocalStore, plain_webdataset: Callable[..., Samples]
) -> None:
    first = plain_webdataset(store.root / "samples/00003.tar", "rgb8")[0]
    assert first["jpg"].shape == (4, 6, 3) and first["json"]["key"] == "city/a.b"


def test_images_and_labels_come_back_as_views_of_the_tar(store: LocalStore) -> None:
    block = open_samples(store, 3, 3)
    tar = store.open_map(tar_name(3))
    for row in (0, 2):
        assert block.image(row).tobytes() == ENTRIES[row].image
        assert block.label(row).tobytes() == ENTRIES[row].label
        assert np.shares_memory(block.image(row), tar)
        assert block.image(row).ndim == 1 and block.image(row).dtype == np.uint8


CLASSIFIED = [
    ENTRIES[0]._replace(label_suffix="cls", label=b"7", columns={"classes": 7}),
    bad_entry("city/broken", columns={"classes": -1}),
    ENTRIES[2]._replace(label_suffix="cls", label=b"0", columns={"classes": 0}),
]


def test_classes_are_ascii_members_and_a_column(
    tmp_path: Path, plain_webdataset: Callable[..., Samples]
) -> None:
    store = LocalStore(tmp_path)
    put_samples(store, 0, 4, CLASSIFIED)
    samples = plain_webdataset(tmp_path / tar_name(0))
    assert [s["cls"] for s in samples] == [b"7", b"0"] and "label.png" not in samples[0]
    assert plain_webdataset(tmp_path / tar_name(0), "rgb8")[0]["cls"] == 7
    block = open_samples(store, 0, 3)
    assert list(block.columns) == ["classes"] and block.columns["classes"].tolist() == [7, -1, 0]
    assert block.columns["classes"].dtype == np.int64 and block.label(0).tobytes() == b"7"
    with pytest.raises(BadSample, match="'city/broken' is marked invalid"):
        block.require_valid(1)
    with pytest.raises(BadSample, match="'city/broken' is marked invalid"):
        block.label(1)


def test_only_a_truth_with_columns_adds_them_to_the_index(store: LocalStore) -> None:
    plain, classified = (pack_samples(0, entries)[1] for entries in (ENTRIES, CLASSIFIED))
    assert set(read_columns(classified)) - set(read_columns(plain)) == {"truth.classes"}
    assert open_samples(store, 3, 3).columns == {}


def changed_index(store: LocalStore, block: int, change: dict[str, np.ndarray]) -> None:
    """The index with other columns."""
    columns = read_columns(store.get(index_name(block))[0])
    store.put(index_name(block), save(columns | change))


@pytest.mark.parametrize("classes", [np.array([7, -1]), np.array([7.0, -1.0, 0.0])])
def test_a_column_of_classes_that_does_not_fit_is_damage(tmp_path: Path, classes: np.ndarray) -> None:
    store = LocalStore(tmp_path)
    put_samples(store, 0, 4, CLASSIFIED)
    changed_index(store, 0, {"truth.classes": classes})
    with pytest.raises(BadCache, match=r"samples/00000\.safetensors' cannot be read"):
        open_samples(store, 0, 3)


def test_columns_say_what_every_place_holds(store: LocalStore) -> None:
    block = open_samples(store, 3, 3)
    assert len(block) == 3
    assert block.keys == ("city/a.b", "city/broken", "c")
    assert block.suffixes == ("jpg", "", "png")
    assert [block.content_digest(row) for row in range(3)] == [(ONE, TWO), (THREE, ONE), (TWO, ONE)]
    assert block.valid.tolist() == [True, False, True]
    assert block.heights.tolist() == [4, 0, 4] and block.widths.tolist() == [6, 0, 6]
    assert block.key_hashes.dtype == np.uint64
    assert block.key_hashes.tolist() == [key_hash(k) for k in block.keys]


def test_an_invalid_sample_keeps_its_place_and_says_so_when_read(store: LocalStore) -> None:
    block = open_samples(store, 3, 3)
    with pytest.raises(BadSample) as caught:
        block.image(1)
    assert "sample 'city/broken' is marked invalid" in caught.value.what
    assert "kdcache build --update" in caught.value.fix
    with tarfile.open(store.root / tar_name(3)) as tar:
        assert not [n for n in tar.getnames() if n.startswith("00000013")]


def test_packing_twice_gives_the_same_bytes(store: LocalStore, tmp_path: Path) -> None:
    again = put_samples(LocalStore(tmp_path / "other"), 3, 4, ENTRIES)
    assert [r.name for r in again] == [tar_name(3), index_name(3)]
    for record in again:
        assert (tmp_path / "other" / record.name).read_bytes() == (store.root / record.name).read_bytes()


def test_images_are_packed_without_copying_them() -> None:
    buffers, _ = pack_samples(12, ENTRIES)
    assert any(buffer is ENTRIES[0].image for buffer in buffers)


def test_a_block_of_invalid_samples_only_can_be_read(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    put_samples(store, 0, 4, [bad_entry("a"), bad_entry("b")])
    assert open_samples(store, 0, 2).valid.tolist() == [False, False]


@pytest.mark.parametrize(("kind", "suffix"), [("JPEG", "jpg"), ("PNG", "png")])
def test_the_suffix_follows_the_bytes_not_the_file_name(kind: str, suffix: str) -> None:
    assert image_suffix(picture(kind, "RGB", 5), key="a") == suffix


@pytest.mark.parametrize("kind", ["BMP", "GIF", "TIFF"])
def test_another_kind_of_image_is_refused_by_key(kind: str) -> None:
    with pytest.raises(BadSample) as caught:
        image_suffix(picture(kind, "L", 5), key="city/a")
    assert "the image of 'city/a' is neither JPEG nor PNG" in caught.value.what
    assert "convert it" in caught.value.fix


def test_an_empty_image_is_refused() -> None:
    with pytest.raises(BadSample, match="starts with nothing"):
        image_suffix(b"", key="a")


def test_a_truncated_tar_is_an_error_that_names_it(store: LocalStore) -> None:
    path = store.root / tar_name(3)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(BadCache, match=r"samples/00003\.tar' has 2000 bytes, its index needs more") as caught:
        open_samples(store, 3, 3)
    assert "kdcache build --repair" in caught.value.fix
    assert caught.value.where == str(path), "the same name in every cache says nothing"


@pytest.mark.parametrize(
    "change",
    [
        {"keys.ends": np.array([8, 3, 20])},
        {"keys.ends": np.array([8, 19, 40])},
        {"keys.text": np.zeros(3, dtype=np.int8)},
        {"images": np.zeros((3, 3), dtype=np.int64)},
        {"images": np.zeros((3, 2), dtype=np.int32)},
        {"valid": np.ones(4, dtype=np.uint8)},
        {"heights": np.ones(3)},
        {"image_digests": np.zeros((3, 8), dtype=np.uint8)},
    ],
)
def test_an_index_that_does_not_fit_is_an_error_that_names_it(
    store: LocalStore, change: dict[str, np.ndarray]
) -> None:
    changed_index(store, 3, change)
    with pytest.raises(BadCache, match=r"samples/00003\.safetensors' cannot be read"):
        open_samples(store, 3, 3)


@pytest.mark.parametrize("span", [(-1, 4), (10, -4), (1 << 40, 4), (512, 1 << 62)])
def test_a_span_outside_of_the_tar_is_an_error_that_names_it(
    store: LocalStore, span: tuple[int, int]
) -> None:
    images = np.array([[512, 10], [0, 0], span], dtype=np.int64)
    changed_index(store, 3, {"images": images})
    with pytest.raises(BadCache, match=r"samples/00003\.tar' has \d+ bytes, its index needs more"):
        open_samples(store, 3, 3)


def test_an_index_of_another_number_of_samples_is_an_error(store: LocalStore) -> None:
    with pytest.raises(BadCache, match="cannot be read"):
        open_samples(store, 3, 2)


def test_the_keys_of_a_damaged_block_can_still_be_told(store: LocalStore) -> None:
    (store.root / tar_name(3)).unlink()
    told = packed_keys(store, 3, 3)
    assert told is not None and told[0] == ("city/a.b", "city/broken", "c")
    assert told[1].tolist() == [True, False, True]
    (store.root / index_name(3)).write_bytes(b"nothing")
    assert packed_keys(store, 3, 3) is None


def test_tar_members_start_at_multiples_of_512_and_read_back() -> None:
    members = [("a.bin", b""), ("b.bin", b"x" * 512), ("c.bin", memoryview(b"y" * 513))]
    buffers, offsets = pack_tar(members)
    whole = b"".join(buffers)
    assert offsets == [512, 1024, 2048] and len(whole) % 512 == 0
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        for (name, content), entry in zip(members, tar.getmembers(), strict=True):
            member = tar.extractfile(entry)
            assert member is not None and member.read() == bytes(content)
            assert (entry.name, entry.mtime, entry.uid, entry.gid, entry.uname) == (name, 0, 0, 0, "")


@pytest.mark.parametrize("name", ["00000012.json", "a", "x" * 99, "y" * 100, "d" * 60 + "/" + "e" * 60])
def test_a_tar_is_byte_for_byte_what_tarfile_writes_of_the_same_members(name: str) -> None:
    sizes = (0, 1, 7, 8, 63, 511, 512, 513, 4095, 70_000)
    members = [(f"{name[: -len(str(n))]}{n}", bytes([n % 251]) * n) for n in sizes]
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for member, content in members:
            entry = tarfile.TarInfo(member)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    ours = b"".join(pack_tar(members)[0])
    assert ours == file.getvalue()[: len(ours)] and not any(file.getvalue()[len(ours) :])


class Claims(bytes):
    """A member that says it has so many bytes: nobody wants to write eight gigabytes in a test."""

    claimed = 0

    def __len__(self) -> int:
        return self.claimed


def test_what_no_header_can_say_is_refused_and_never_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="name is too long"):
        pack_tar([("x" * 101, b"")])
    with pytest.raises(UnicodeEncodeError):
        pack_tar([("b\xe4r", b"")])
    monkeypatch.setattr(Claims, "claimed", 8**11)
    with pytest.raises(ValueError, match="overflow"):
        pack_tar([("a", Claims())])
    monkeypatch.setattr(Claims, "claimed", 8**11 - 1)
    assert pack_tar([("a", Claims())])[0][0][124:136] == b"77777777777\0"


def test_two_members_of_one_name_are_our_own_mistake() -> None:
    with pytest.raises(AssertionError, match="two members are called 'a'"):
        pack_tar([("a", b"1"), ("a", b"2")])
