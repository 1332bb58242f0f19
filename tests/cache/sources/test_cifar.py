"""CIFAR's pickles: read without running them, whatever they hold."""

import os
import pickle
from pathlib import Path
from typing import Any

import class_data as draw
import numpy as np
import pytest

from kdcache.cache.errors import BadSample
from kdcache.cache.sources.plain_pickle import read_plain
from kdcache.cache.sources.table import open_source


class Evil:
    """A pickle of it calls `function(*arguments)` in whoever loads it carelessly."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def test_a_pickle_that_would_run_code_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    path = draw.draw_cifar10(tmp_path) / "cifar-10-batches-py/data_batch_2"
    trace = tmp_path / "it_ran"
    bomb = pickle.dumps({b"data": Evil(os.mkdir, str(trace)), b"labels": []}, protocol=2)
    pickle.loads(bomb)
    assert trace.is_dir(), "the bomb works where it is let"
    trace.rmdir()
    path.write_bytes(bomb)
    with pytest.raises(BadSample) as caught:
        open_source(f"cifar10:{tmp_path}", "train")
    assert not trace.exists()
    assert "'data_batch_2' is not the file of CIFAR" in caught.value.what
    assert "mkdir', which is no array of numbers" in caught.value.what
    assert caught.value.where == str(path) and "download" in caught.value.fix


@pytest.mark.parametrize("function", [eval, getattr, __import__, np.fromfile, np.memmap, np.load])
def test_no_function_can_be_named(function: Any) -> None:
    for protocol in range(6):
        with pytest.raises(pickle.UnpicklingError, match="which is no array of numbers"):
            read_plain(pickle.dumps({"x": Evil(function, "1")}, protocol=protocol))


def test_arrays_and_plain_values_come_back() -> None:
    array = np.arange(12, dtype=np.uint8).reshape(3, 4)
    for protocol in (2, 3, 4):
        content = read_plain(pickle.dumps({b"data": array, "n": [1, "a", None]}, protocol=protocol))
        np.testing.assert_array_equal(content["data"], array)  # type: ignore[arg-type]
        assert content["n"] == [1, "a", None]


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({"data": np.zeros(3)}, "an array of f8"),
        ({"data": np.array([Path], dtype=object)}, "no array of numbers|an array of"),
        ({"data": np.asfortranarray(np.zeros((3, 2), np.uint8))}, "Fortran"),
        ([1, 2], "holds a list, not a dictionary"),
    ],
)
def test_other_values_are_refused(value: object, why: str) -> None:
    with pytest.raises(pickle.UnpicklingError, match=why):
        read_plain(pickle.dumps(value, protocol=2))


@pytest.mark.parametrize(
    "raw", [b"", b"\x80", b"no pickle at all", pickle.dumps({"a": 1})[:-4], b"\x80\x02}b."]
)
def test_torn_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(pickle.UnpicklingError):
        read_plain(raw)


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({b"labels": [0]}, "has no field 'data'"),
        ({b"data": np.zeros((1, 5), np.uint8), b"labels": [0]}, "has no field 'data'"),
        ({b"data": np.zeros((1, 3072), np.uint8)}, "has no field 'labels'"),
        ({b"data": np.zeros((1, 3072), np.uint8), b"labels": ["cat"]}, "has no field 'labels'"),
        ({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0]}, "holds 2 images and 1 classes"),
        (
            {b"data": np.zeros((1, 3072), np.uint8), b"labels": [10]},
            "'test/00000' has class 10, legal are 0..9",
        ),
    ],
)
def test_a_batch_that_is_not_one_is_named(tmp_path: Path, fields: dict[bytes, Any], what: str) -> None:
    path = draw.draw_cifar10(tmp_path) / "cifar-10-batches-py/test_batch"
    path.write_bytes(pickle.dumps(fields, protocol=2))
    with pytest.raises(BadSample) as caught:
        open_source(f"cifar10:{tmp_path}", "test")
    assert what in caught.value.what and caught.value.where == str(path)


def test_a_missing_batch_and_a_torn_archive_are_named(tmp_path: Path) -> None:
    root = draw.draw_cifar10(tmp_path / "a")
    (root / "cifar-10-batches-py/data_batch_3").unlink()
    with pytest.raises(BadSample, match=r"cannot be read: .*data_batch_3"):
        open_source(f"cifar10:{root}", "train")
    archive = draw.draw_cifar10(tmp_path / "b", archive=True) / "cifar-10-python.tar.gz"
    archive.write_bytes(archive.read_bytes()[:300])
    with pytest.raises(BadSample, match="cannot be read") as caught:
        open_source(f"cifar10:{archive}", "train")
    assert caught.value.where == str(archive)


def test_cifar100_takes_the_names_of_its_fine_classes_from_meta(tmp_path: Path) -> None:
    root = draw.draw_cifar100(tmp_path)
    assert open_source(f"cifar100:{root}", "test").class_names[7] == "class07"
    (root / "meta").write_bytes(pickle.dumps({b"other": []}, protocol=2))
    with pytest.raises(BadSample, match="'meta' is not the file of CIFAR .* no field 'fine_label_names'"):
        open_source(f"cifar100:{root}", "test")
