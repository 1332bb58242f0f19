"""Only regular files of a bounded size are opened, and an honest one comes back as it is."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kdcache.cache.files.regular import SMALL_HOLE, open_regular, read_regular, read_text

Make = Callable[[Path], object]


@pytest.mark.parametrize(
    "make",
    [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero"), lambda path: _linked_pipe(path)],
    ids=["pipe", "folder", "link to a device", "link to a pipe"],
)
@pytest.mark.timeout(10)
def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path, make: Make) -> None:
    make(tmp_path / "file")
    with pytest.raises(ValueError, match="no regular file"):
        open_regular(tmp_path / "file")


def _linked_pipe(path: Path) -> None:
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to(path.with_name("pipe"))


def test_a_link_to_a_regular_file_is_followed_where_links_are_allowed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert read_regular(tmp_path / "link", 3) == b"abc"
    with pytest.raises(ValueError, match="no regular file"):
        read_regular(tmp_path / "link", 3, follow=False)


def test_a_file_larger_than_allowed_is_refused_with_both_sizes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abcd")
    with pytest.raises(ValueError, match="has 4 bytes, at most 3 are read"):
        read_regular(tmp_path / "file", 3)
    assert read_regular(tmp_path / "file", 4) == b"abcd"


def test_a_terabyte_of_holes_is_refused_and_a_file_with_some_is_read(tmp_path: Path) -> None:
    with (tmp_path / "holes").open("wb") as file:
        file.write(b"begin")
        file.truncate(1 << 40)
    with pytest.raises(ValueError, match="are on disk: the rest are holes"):
        open_regular(tmp_path / "holes")
    with (tmp_path / "some").open("wb") as file:
        file.truncate(SMALL_HOLE)
        file.seek(0, os.SEEK_END)
        file.write(b"end")
    with open_regular(tmp_path / "some") as opened:
        assert opened.tell() == 0 and os.fstat(opened.fileno()).st_size == SMALL_HOLE + 3


def test_text_is_utf8_with_or_without_a_mark(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\xef\xbb\xbfa\xc3\xb6")
    assert read_text(tmp_path / "file") == "a\u00f6"
    (tmp_path / "file").write_bytes(b"\xff")
    with pytest.raises(ValueError, match="utf-8"):
        read_text(tmp_path / "file")
