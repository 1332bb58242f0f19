"""What the operating system refuses: three parts for every number, no advice to repair, nothing hidden."""

import errno
import os
from pathlib import Path

import pytest
from refusals import CODES

from kdcache.cache.errors import BadCache, BadOption, DiskFull, KdError, Missing, Refused
from kdcache.cache.files.system import current_folder, refused, touching, user_path, write_whole

FULL = (errno.ENOSPC, errno.EDQUOT)


@pytest.mark.parametrize("code", [*CODES, errno.ENOENT, errno.ENOTDIR, errno.EINTR])
def test_every_number_has_three_parts_and_no_repair(code: int) -> None:
    error = refused(OSError(code, os.strerror(code), "/data/x"), "'x' could not be read")
    assert type(error) is (DiskFull if code in FULL else Refused) and error.errno == code
    assert not isinstance(error, BadCache | ValueError)  # what a build would take for damage, and remake
    assert error.where == "/data/x" and error.what.endswith(": 'x' could not be read")
    assert error.fix.endswith("run the same command again") and "repair" not in str(error).lower()


def test_the_text_of_an_error_is_whole() -> None:
    error = refused(OSError(errno.EMFILE, "Too many open files"), "'x.tar' cannot be read", "/data/x.tar")
    assert str(error) == (
        "this process has too many open files: 'x.tar' cannot be read\n"
        "  where: /data/x.tar\n"
        "  fix:   raise the limit with 'ulimit -n 4096', then run the same command again"
    )


def test_what_a_library_wrapped_is_found() -> None:
    with pytest.raises(DiskFull, match="the disk is full: it") as caught, touching("it", "here"):
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError:
            raise RuntimeError("unexpected pos 704 vs 598")  # noqa: B904  as torch's writer does
    assert caught.value.where == "here"
    with pytest.raises(Refused, match="no file may be that large"), touching("it"):
        raise ValueError("Error while serializing: I/O error: File too large (os error 27)")


@pytest.mark.parametrize("error", [ValueError("7"), OSError("truncated"), BadCache("a", where="b", fix="c")])
def test_other_errors_go_through_as_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, touching("it"):
        raise error
    assert caught.value is error


def test_an_error_that_is_expected_goes_through() -> None:
    with pytest.raises(FileExistsError) as caught, touching("it", passing=(FileExistsError,)):
        raise FileExistsError(errno.EEXIST, "File exists")
    assert not isinstance(caught.value, KdError)


def test_a_user_that_nobody_knows_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/x") == tmp_path / "x" and user_path("a~/x") == Path("a~/x")
    with pytest.raises(BadOption, match="there is no user 'nosuchuser'") as caught:
        user_path("~nosuchuser/x")
    assert caught.value.where == "~nosuchuser/x"


def test_a_current_folder_that_was_deleted_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert current_folder() == os.getcwd()
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(Missing, match="the current folder was deleted"):
        current_folder()


def test_an_older_file_stays_until_the_new_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "new" / "x.json"
    write_whole(path, b"old")
    assert path.read_bytes() == b"old"

    def half(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[:1])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(DiskFull, match="'x.json' could not be written"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old" and os.listdir(path.parent) == ["x.json"]


def test_what_is_no_plain_file_is_written_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_whole(pipe, b"figures")
    assert os.read(reading, 100) == b"figures" and pipe.is_fifo()
    os.close(reading)
