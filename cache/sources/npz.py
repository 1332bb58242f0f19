"""Your own arrays of equal images: one npz file. Nothing in it can run code.

Arrays: x_train, y_train, x_test, y_test, x_val, y_val, of which the pairs that are there give the splits, and
class_names. Images are uint8, (N, H, W) or (N, H, W, 1) grey, (N, H, W, 3) RGB; classes are integers from 0.
Without class_names the names come from classes.txt or dataset.json beside the file, else they are numbers.
"""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from kdcache.cache.errors import BadSample, Missing, Refused
from kdcache.cache.files.unpack import npz_arrays, npz_names
from kdcache.cache.sources.arrays import SMALL_PX, TEST, TRAIN, VAL, ArraySource, Rows
from kdcache.cache.sources.contract import Described
from kdcache.cache.sources.folder import NAMES_FILE, RECORD_FILE, class_names_in

NAMES_ARRAY = "class_names"
MAX_CLASSES = 1 << 16  # more are no classes but ids of something
_READ_ERRORS = (OSError, EOFError, ValueError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error)
MOST_NAMES = 8  # of arrays that an error lists


class Npz(ArraySource):
    name = "npz"
    layout = """
        one FILE.npz with x_train, y_train and, where there are, x_val, y_val, x_test, y_test, class_names
    """

    def __init__(self, root: Path, split: str) -> None:
        super().__init__(root, split)
        if max(self.default_crop) > SMALL_PX:
            self.augment = "rrc=0.08,flip"

    @property
    def label(self) -> str:
        """The file's own name: of your data there may be several."""
        return self.root.stem

    @classmethod
    def parts_in(cls, root: Path) -> tuple[str, ...]:
        file = npz_file(root)
        names = set(_names_in(file)) if file else set()
        return tuple(part for part in (TRAIN, VAL, TEST) if {f"x_{part}", f"y_{part}"} <= names)

    @classmethod
    def missing_folder(cls, root: Path) -> Missing:
        """A file that is there and holds other arrays is said with their names."""
        file = npz_file(root) if root.exists() else None
        if file is None:
            return super().missing_folder(root)
        listed = ", ".join(_names_in(file)[:MOST_NAMES]) or "nothing"
        return Missing(
            f"no {cls.name} images: '{file.name}' has no pair x_train and y_train, or x_test and y_test",
            where=str(file),
            fix="give its arrays these names: numpy.savez(FILE, x_train=..., y_train=...); it holds "
            f"{listed}",
        )

    def read_part(self, part: str) -> Rows:
        file = npz_file(self.root)
        assert file is not None, "parts_in found it"
        pixels, labels = _array(file, f"x_{part}"), _array(file, f"y_{part}")
        if pixels.ndim == 4 and pixels.shape[3] == 1:
            pixels = pixels[..., 0]
        if labels.ndim == 2 and labels.shape[1] == 1:
            labels = labels[:, 0]
        self.class_names = self._names(file)
        return Rows(part, np.ascontiguousarray(pixels), labels, (file,))

    def describe(self) -> Described:
        """With the file's name, so that two files of equal classes are two datasets."""
        file = npz_file(self.root)
        return super().describe() | ({"title": file.stem} if file else {})

    def _names(self, file: Path) -> tuple[str, ...]:
        names = _array(file, NAMES_ARRAY) if NAMES_ARRAY in _names_in(file) else None
        if names is not None:
            if names.ndim != 1 or names.dtype.kind not in "US" or len(set(names.tolist())) != names.size:
                raise _bad(file, f"'{NAMES_ARRAY}' is {names.dtype} of shape {names.shape}, or names twice")
            return tuple(n.decode() if isinstance(n, bytes) else str(n) for n in names.tolist())
        if any((file.parent / name).is_file() for name in (NAMES_FILE, RECORD_FILE)):
            return class_names_in(file.parent, limit=MAX_CLASSES)
        labels = [_array(file, n) for n in _names_in(file) if n.startswith("y_")]
        highest = max((int(a.max()) for a in labels if a.size and a.dtype.kind in "iu"), default=0)
        if highest >= MAX_CLASSES:
            raise _bad(file, f"the highest class is {highest}, and nothing names the classes")
        return tuple(str(number) for number in range(highest + 1))


def npz_file(root: Path) -> Path | None:
    """The file itself, or the only npz file of a folder. Raises BadSample when there are several."""
    if root.is_file():
        return root
    files = sorted(root.glob("*.npz"))
    if len(files) > 1:
        raise BadSample(
            f"{len(files)} npz files lie there: {', '.join(f.name for f in files[:5])}",
            where=str(root),
            fix=f"name one of them: npz:{files[0]}",
        )
    return files[0] if files else None


def _names_in(file: Path) -> tuple[str, ...]:
    try:
        return npz_names(file)
    except Refused:
        raise
    except _READ_ERRORS as error:
        raise _bad(file, f"it cannot be opened: {error}") from error


def _array(file: Path, name: str) -> np.ndarray:
    try:
        return npz_arrays(file, [name])[0]
    except Refused:
        raise
    except _READ_ERRORS as error:
        raise _bad(file, f"'{name}' cannot be read: {error}") from error


def _bad(file: Path, why: str) -> BadSample:
    return BadSample(
        f"'{file.name}' is not an npz file of images and classes: {why}",
        where=str(file),
        fix="write it with numpy.savez(FILE, x_train=..., y_train=...), without objects",
    )
