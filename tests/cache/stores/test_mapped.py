"""Maps of files: without a descriptor, as long as somebody reads, read-only."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from kdcache.cache.stores.mapped import map_file


def mapped(path: Path) -> np.ndarray:
    with path.open("rb") as file:
        return map_file(file.fileno(), path.stat().st_size)


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def maps_of(path: Path) -> int:
    return Path("/proc/self/maps").read_text().count(str(path))


def test_a_map_is_the_file_and_keeps_no_descriptor(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(content := bytes(range(256)) * 100)
    before = open_files()
    kept = [mapped(path) for _ in range(50)]
    assert open_files() == before and all(array.tobytes() == content for array in kept)


def test_a_view_keeps_the_map_and_the_last_one_ends_it(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abcdefgh" * 1000)
    row = np.ndarray((4,), np.uint8, mapped(path), 8)
    assert maps_of(path) == 1 and row.tobytes() == b"abcd"
    held = memoryview(row.data)
    del row
    assert bytes(held) == b"abcd" and maps_of(path) == 1
    del held
    assert maps_of(path) == 0


def test_nobody_writes_into_a_map(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    with pytest.raises(ValueError, match="read-only"):
        mapped(path)[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        mapped(path).flags.writeable = True


def test_an_empty_file_is_an_empty_array(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    assert mapped(tmp_path / "x").shape == (0,)


def test_what_cannot_be_mapped_is_an_error_of_the_system() -> None:
    reading, writing = os.pipe()
    with pytest.raises(OSError) as caught:
        map_file(reading, 10)
    os.close(reading)
    os.close(writing)
    assert caught.value.errno in (errno.ENODEV, errno.EACCES)
