"""Tiny classification datasets for tests, each in the form that its source reads."""

import gzip
import pickle
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

NUM_TRAIN, NUM_TEST = 20, 4


def pixels(count: int, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """`count` smooth uint8 images of this shape, no two alike."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    phase = rng.uniform(0, 6, (count, 1, 1, 3))
    waves = np.sin((y[..., None] + 1) / 5 + phase) + np.cos((x[..., None] + 1) / 4 - phase)
    images = np.clip(128 + 50 * waves, 0, 255).astype(np.uint8)
    images[:, 0, 0, :] = np.arange(count, dtype=np.uint8)[:, None]
    return images if len(shape) == 3 else images[..., 0]


def classes(count: int, num_classes: int) -> np.ndarray:
    return (np.arange(count) * 7 % num_classes).astype(np.int64)


def draw_brightness(folder: Path) -> None:
    """`tiny.npz` below `folder`: 20 and 6 noisy images of 16x16, whose three classes differ in brightness."""
    draw, arrays = np.random.default_rng(0), {}
    for split, count in (("train", 20), ("test", 6)):
        labels = np.arange(count) % 3
        noise = draw.integers(0, 20, (count, 16, 16, 3))
        arrays |= {
            f"x_{split}": (labels[:, None, None, None] * 90 + noise).astype(np.uint8),
            f"y_{split}": labels,
        }
    np.savez(folder / "tiny.npz", **arrays)


def draw_npz(
    root: Path, shape: tuple[int, ...] = (32, 32, 3), num_classes: int = 3, **arrays: object
) -> Path:
    """`small.npz` below `root`; `arrays` are added to it, or replace what it would hold. Returns the file."""
    root.mkdir(parents=True, exist_ok=True)
    held: dict[str, object] = {
        "x_train": pixels(NUM_TRAIN, shape),
        "y_train": classes(NUM_TRAIN, num_classes),
        "x_test": pixels(NUM_TEST, shape, seed=1),
        "y_test": classes(NUM_TEST, num_classes),
    }
    held |= arrays
    np.savez(root / "small.npz", **{name: np.asarray(value) for name, value in held.items()})
    return root / "small.npz"


def idx_bytes(array: np.ndarray) -> bytes:
    sizes = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return bytes((0, 0, 8, array.ndim)) + sizes + array.astype(np.uint8).tobytes()


def draw_fashion_mnist(root: Path, *, packed: bool = True) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for stem, count, seed in (("train", NUM_TRAIN, 0), ("t10k", NUM_TEST, 1)):
        for kind, array in (
            ("images-idx3", pixels(count, (28, 28), seed)),
            ("labels-idx1", classes(count, 10)),
        ):
            raw = idx_bytes(array)
            path = root / f"{stem}-{kind}-ubyte{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(raw, mtime=0) if packed else raw)
    return root


def cifar_batch(images: np.ndarray, labels: np.ndarray, field: bytes) -> bytes:
    """As the original: a dictionary of protocol 2 with bytes as keys, planes one after another."""
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return pickle.dumps({b"data": planes, field: [int(label) for label in labels]}, protocol=2)


def draw_cifar10(root: Path, *, archive: bool = False) -> Path:
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True, exist_ok=True)
    images, labels = pixels(NUM_TRAIN, (32, 32, 3)), classes(NUM_TRAIN, 10)
    for n in range(5):
        part = slice(4 * n, 4 * n + 4)
        (folder / f"data_batch_{n + 1}").write_bytes(cifar_batch(images[part], labels[part], b"labels"))
    test = cifar_batch(pixels(NUM_TEST, (32, 32, 3), 1), classes(NUM_TEST, 10), b"labels")
    (folder / "test_batch").write_bytes(test)
    if archive:
        with tarfile.open(root / "cifar-10-python.tar.gz", "w:gz") as tar:
            tar.add(folder, folder.name)
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
    return root


def draw_cifar100(root: Path) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for name, count, seed in (("train", NUM_TRAIN, 0), ("test", NUM_TEST, 1)):
        batch = cifar_batch(pixels(count, (32, 32, 3), seed), classes(count, 100), b"fine_labels")
        (root / name).write_bytes(batch)
    names = [f"class{n:02d}".encode() for n in range(100)]
    (root / "meta").write_bytes(pickle.dumps({b"fine_label_names": names}, protocol=2))
    return root


def draw_imagefolder(root: Path, *, size: tuple[int, int] = (24, 30), suffix: str = "jpg") -> Path:
    """Classes 'cat' and 'dog' with 10 training images each, 2 each in val; two sizes of images."""
    for split, count in (("train", NUM_TRAIN), ("val", NUM_TEST)):
        for number, image in enumerate(pixels(count, (*size, 3))):
            name = ("cat", "dog")[number % 2]
            path = root / split / name / f"{number:03d}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[: size[0] - number % 4]).save(path)
    return root
