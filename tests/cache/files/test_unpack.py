"""Archives: honest ones come back as numpy and gzip have them, and what they claim beyond their bytes is
refused."""

import gzip
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from bounded_memory import bounded_memory

from kdcache.cache.files import unpack
from kdcache.cache.files.tensors import check_header
from kdcache.cache.files.unpack import Bounded, check_stored, gunzip, npz_arrays, npz_names

ARRAYS = {
    "x": np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
    "names": np.array(["a", "bc"]),
    "none": np.zeros((0, 3)),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_come_back_as_numpy_has_them(tmp_path: Path, save: object) -> None:
    assert callable(save)
    save(tmp_path / "file.npz", fortran=np.asfortranarray(np.ones((2, 3))), **ARRAYS)
    assert set(npz_names(tmp_path / "file.npz")) == {"fortran", *ARRAYS}
    for name, array in zip(ARRAYS, npz_arrays(tmp_path / "file.npz", list(ARRAYS)), strict=True):
        assert np.array_equal(array, ARRAYS[name]) and array.dtype == ARRAYS[name].dtype
    assert npz_arrays(tmp_path / "file.npz", ["fortran"])[0].shape == (2, 3)


def member(path: Path, content: bytes, packed: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", packed) as archive:
        archive.writestr("x.npy", content)
    return path


def header(shape: str, descr: str = "'|u1'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    "shape", ["(1000000000000,)", "(4294967296, 4294967296)", "(9223372036854775808, 2)", "(5,)"]
)
def test_a_shape_beyond_the_bytes_that_are_there_takes_no_memory(tmp_path: Path, shape: str) -> None:
    path = member(tmp_path / "file.npz", header(shape) + bytes(4))
    with bounded_memory(), pytest.raises(ValueError, match="claims .* and 4 bytes are there"):
        npz_arrays(path, ["x"])


@pytest.mark.parametrize("shape", ["(4294967296, 4294967296)", "(9223372036854775808, 2)"])
def test_a_size_that_is_0_modulo_2_to_the_64_is_not_taken_for_none(tmp_path: Path, shape: str) -> None:
    path = member(tmp_path / "file.npz", header(shape))
    with pytest.raises(ValueError, match="claims 18446744073709551616 bytes .* and 0 bytes are there"):
        npz_arrays(path, ["x"])


def test_objects_are_refused(tmp_path: Path) -> None:
    path = member(tmp_path / "file.npz", header("(1,)", "'|O'") + bytes(8))
    with pytest.raises(ValueError, match="claims objects"):
        npz_arrays(path, ["x"])


def test_zeros_that_unpack_to_very_much_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "SMALL", 1 << 20)
    small, large = 1 << 19, 1 << 21
    path = member(tmp_path / "small.npz", header(f"({small},)") + bytes(small), zipfile.ZIP_DEFLATED)
    assert npz_arrays(path, ["x"])[0].shape == (small,)
    path = member(tmp_path / "large.npz", header(f"({large},)") + bytes(large), zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match="at most 200 times as many are read"):
        npz_arrays(path, ["x"])


def test_a_list_of_names_that_is_too_long_is_refused(tmp_path: Path) -> None:
    path = member(tmp_path / "file.npz", b"")
    content = bytearray(path.read_bytes())
    end = content.rfind(b"PK\x05\x06")
    content[end + 12 : end + 16] = (1 << 30).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(ValueError, match="its list of names takes 1073741824 bytes"):
        npz_names(path)


def test_members_of_tensors_are_stored_and_share_no_bytes(tmp_path: Path) -> None:
    with (member(tmp_path / "a.zip", bytes(100))).open("rb") as file:
        check_stored(file)
        assert file.tell() == 0
    with (member(tmp_path / "b.zip", bytes(100), zipfile.ZIP_DEFLATED)).open("rb") as file:
        with pytest.raises(ValueError, match="is packed"):
            check_stored(file)
    content = bytearray((tmp_path / "a.zip").read_bytes())
    entry = content.rfind(b"PK\x01\x02")
    content[entry + 20 : entry + 28] = (1 << 20).to_bytes(4, "little") * 2
    (tmp_path / "c.zip").write_bytes(content)
    with (
        (tmp_path / "c.zip").open("rb") as file,
        pytest.raises(ValueError, match="claim 1048576 bytes, it has"),
    ):
        check_stored(file)


def test_gzip_is_unpacked_up_to_its_bound(tmp_path: Path) -> None:
    (tmp_path / "file.gz").write_bytes(gzip.compress(bytes(1000)))
    assert gunzip(tmp_path / "file.gz", 1000) == bytes(1000)
    with pytest.raises(ValueError, match="more than the 999 bytes"):
        gunzip(tmp_path / "file.gz", 999)


def test_a_bounded_stream_ends_where_it_says() -> None:
    assert Bounded(io.BytesIO(b"abcdef"), 6).read() == b"abcdef"
    stream = Bounded(io.BytesIO(b"abcdef"), 4)
    assert stream.read(4) == b"abcd"
    for step in (lambda: stream.read(1), lambda: stream.read(), lambda: stream.seek(5)):
        stream.seek(4)
        with pytest.raises(ValueError, match="more than the 4 bytes"):
            step()


def test_a_header_of_tensors_is_within_the_file_and_the_limit() -> None:
    check_header((10).to_bytes(8, "little"), 18, 10)
    with pytest.raises(ValueError, match="too few for its header"):
        check_header((11).to_bytes(8, "little"), 18, 100)
    with pytest.raises(ValueError, match="too few for its header"):
        check_header(b"\0" * 7, 7, 100)
    with pytest.raises(ValueError, match="its header has 10 bytes, at most 9"):
        check_header((10).to_bytes(8, "little"), 18, 9)
