"""CIFAR-10 and CIFAR-100: 50000 / 10000 RGB images of 32x32 pixels (Krizhevsky 2009), the python version.

The original archive, or its folder, or the files themselves. They are pickles, read without running them.
CIFAR-100 is told apart by its 100 fine classes.
"""

import gzip
import pickle
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from kdcache.cache.errors import BadSample, Refused
from kdcache.cache.files.regular import open_regular, read_regular
from kdcache.cache.files.unpack import Bounded
from kdcache.cache.sources.arrays import TEST, TRAIN, ArraySource, Rows
from kdcache.cache.sources.plain_pickle import read_plain

SIDE_PX = 32
CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
_READ_ERRORS = (OSError, EOFError, ValueError, zlib.error, tarfile.TarError, KeyError)
MAX_BYTES = 512 << 20  # unpacked; the published archives have 180 MB


class Cifar(ArraySource):
    """What both have in common."""

    folder: ClassVar[str]  # inside the archive, and what it unpacks to
    archive: ClassVar[str]
    batches: ClassVar[dict[str, tuple[str, ...]]]  # array -> files
    label_field: ClassVar[str]

    @classmethod
    def parts_in(cls, root: Path) -> tuple[str, ...]:
        place = _place(root, cls.folder, cls.archive, cls.batches[TRAIN][0], cls.batches[TEST][0])
        if place is None:
            return ()
        if place.is_file():
            return (TRAIN, TEST)
        return tuple(part for part, names in cls.batches.items() if (place / names[0]).is_file())

    def read_part(self, part: str) -> Rows:
        names = self.batches[part]
        place = _place(self.root, self.folder, self.archive, self.batches[TRAIN][0], self.batches[TEST][0])
        assert place is not None, "parts_in found it"
        batches = [self._batch(raw, path) for raw, path in _read(place, self.folder, names)]
        pixels = np.concatenate([pixels for pixels, _ in batches])
        labels = np.concatenate([labels for _, labels in batches])
        files = (place,) if place.is_file() else tuple(place / name for name in names)
        return Rows(part, pixels, labels, files)

    def _batch(self, raw: bytes, path: str) -> tuple[np.ndarray, np.ndarray]:
        """(N, 32, 32, 3) uint8 and (N,) int64 of one file."""
        fields = _fields(raw, path)
        pixels, labels = fields.get("data"), fields.get(self.label_field)
        if not isinstance(pixels, np.ndarray) or pixels.ndim != 2 or pixels.shape[1] != 3 * SIDE_PX**2:
            raise _damaged(path, "has no field 'data' of shape (N, 3072), bytes 0..255")
        if not isinstance(labels, list) or not all(type(label) is int for label in labels):
            raise _damaged(path, f"has no field '{self.label_field}' with a list of classes")
        if len(labels) != len(pixels):
            raise _damaged(path, f"holds {len(pixels)} images and {len(labels)} classes")
        planes_NCHW = pixels.reshape(-1, 3, SIDE_PX, SIDE_PX)
        return np.ascontiguousarray(planes_NCHW.transpose(0, 2, 3, 1)), np.asarray(labels, dtype=np.int64)


class Cifar10(Cifar):
    name = "cifar10"
    layout = """
        cifar-10-python.tar.gz
        (or cifar-10-batches-py/, or its files: data_batch_1 .. data_batch_5 and test_batch)
    """
    folder, archive = "cifar-10-batches-py", "cifar-10-python.tar.gz"
    batches: ClassVar = {TRAIN: tuple(f"data_batch_{n}" for n in range(1, 6)), TEST: ("test_batch",)}
    label_field = "labels"
    class_names = CIFAR10_CLASSES


class Cifar100(Cifar):
    """Its classes are the 100 fine ones, by the names in `meta`."""

    name = "cifar100"
    layout = """
        cifar-100-python.tar.gz
        (or cifar-100-python/, or its files: train, test and meta)
    """
    folder, archive = "cifar-100-python", "cifar-100-python.tar.gz"
    batches: ClassVar = {TRAIN: ("train",), TEST: ("test",)}
    label_field = "fine_labels"

    def read_part(self, part: str) -> Rows:
        place = _place(self.root, self.folder, self.archive, "train", "test")
        assert place is not None, "parts_in found it"
        ((raw, path),) = _read(place, self.folder, ("meta",))
        names = _fields(raw, path).get("fine_label_names")
        if not isinstance(names, list) or not all(isinstance(name, bytes | str) for name in names):
            raise _damaged(path, "has no field 'fine_label_names' with a list of names")
        self.class_names = tuple(n.decode("latin-1") if isinstance(n, bytes) else n for n in names)
        return super().read_part(part)


def _place(root: Path, folder: str, archive: str, *names: str) -> Path | None:
    """The folder with the batch files, else the archive; `root` may be either or hold either."""
    for inside in (root, root / folder):
        if any((inside / name).is_file() for name in names):
            return inside
    for path in (root, root / archive):
        if path.is_file() and path.name.endswith((".tar.gz", ".tgz")):
            return path
    return None


def _read(place: Path, folder: str, names: Sequence[str]) -> list[tuple[bytes, str]]:
    """Bytes of the named files, each with the path to show. Nothing is unpacked to disk."""
    try:
        if not place.is_file():
            return [(read_regular(place / name, MAX_BYTES), str(place / name)) for name in names]
        with open_regular(place, MAX_BYTES) as file, gzip.GzipFile(fileobj=file) as unpacked:
            content = _members(Bounded(unpacked, MAX_BYTES), {f"{folder}/{name}": name for name in names})
        return [(content[name], f"{place}, {folder}/{name}") for name in names]
    except Refused:
        raise
    except _READ_ERRORS as error:
        raise _damaged(str(place), f"cannot be read: {error}") from error


def _members(archive: Bounded, wanted: Mapping[str, str]) -> dict[str, bytes]:
    """The bytes of the wanted members, in the archive's order: seeking back would unpack it once more."""
    content: dict[str, bytes] = {}
    with tarfile.open(fileobj=archive, mode="r:") as tar:
        for member in tar:
            if member.name in wanted and member.isreg() and not member.issparse():
                file = tar.extractfile(member)
                content[wanted[member.name]] = b"" if file is None else file.read()
    return content


def _fields(raw: bytes, path: str) -> dict[str, object]:
    try:
        return read_plain(raw)
    except pickle.UnpicklingError as error:
        raise _damaged(path, f"is a pickle that is not read: {error}") from error


def _damaged(path: str, why: str) -> BadSample:
    return BadSample(
        f"'{path.rpartition('/')[2]}' is not the file of CIFAR that it should be: it {why}",
        where=path,
        fix="download the python version again from the dataset's own page",
    )
