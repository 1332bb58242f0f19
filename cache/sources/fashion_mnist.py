"""Fashion-MNIST: 60000 / 10000 grey images of 28x28 pixels, 10 classes (Xiao et al. 2017).

The four files in the idx form of MNIST, gzipped as published or unpacked. MNIST itself has the same file
names: its digits would be given the names of clothes, so do not point this at it.
"""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from kdcache.cache.errors import BadSample
from kdcache.cache.files.regular import read_regular
from kdcache.cache.files.system import touching
from kdcache.cache.files.unpack import gunzip
from kdcache.cache.sources.arrays import TEST, TRAIN, ArraySource, Rows

STEMS = {TRAIN: "train", TEST: "t10k"}
IMAGES, LABELS = "images", "labels"
NUM_AXES = {IMAGES: 3, LABELS: 1}
MAX_BYTES = 256 << 20  # unpacked; the largest published has 47 MB
UINT8_CODE = 8  # third byte of an idx file
CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


class FashionMnist(ArraySource):
    name = "fashion-mnist"
    layout = """
        train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz (or unpacked, without .gz)
        t10k-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz (the split test)
    """
    class_names = CLASSES
    augment = "pad=2,flip"

    @classmethod
    def parts_in(cls, root: Path) -> tuple[str, ...]:
        with_images = (part for part in STEMS if _file(root, part, IMAGES).is_file())
        return tuple(part for part in with_images if _file(root, part, LABELS).is_file())

    def read_part(self, part: str) -> Rows:
        images, labels = (_file(self.root, part, kind) for kind in (IMAGES, LABELS))
        return Rows(part, read_idx(images, IMAGES), read_idx(labels, LABELS), (images, labels))


def _file(root: Path, part: str, kind: str) -> Path:
    plain = root / f"{STEMS[part]}-{kind}-idx{NUM_AXES[kind]}-ubyte"
    return plain if plain.is_file() else plain.with_name(f"{plain.name}.gz")


def read_idx(path: Path, kind: str) -> np.ndarray:
    """The uint8 array of an idx file: two zero bytes, type, number of axes, sizes (big endian), values.

    Raises BadSample for another magic number and for a file that is shorter or longer than its sizes say.
    """
    axes = NUM_AXES[kind]
    try:
        with touching(f"'{path.name}' cannot be read", path):
            raw = (gunzip if path.suffix == ".gz" else read_regular)(path, MAX_BYTES)
    except (gzip.BadGzipFile, EOFError, ValueError, zlib.error) as error:
        raise _damaged(path, f"cannot be unpacked: {error}") from error
    magic = bytes((0, 0, UINT8_CODE, axes))
    start = 4 + 4 * axes
    if raw[:4] != magic or len(raw) < start:
        raise _damaged(path, f"starts with {raw[:4].hex(' ') or 'nothing'}, {kind} with {magic.hex(' ')}")
    shape = tuple(int(n) for n in np.frombuffer(raw, ">u4", axes, 4))
    wanted = start + math.prod(shape)
    if len(raw) != wanted:
        raise _damaged(path, f"has {len(raw)} bytes, {wanted} for {'x'.join(map(str, shape))} values")
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


def _damaged(path: Path, why: str) -> BadSample:
    return BadSample(
        f"'{path.name}' is not the idx file that it should be: it {why}",
        where=str(path),
        fix="download it again",
    )
