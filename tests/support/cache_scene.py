"""A tiny data set and its cache that a test disturbs: what may happen to them, and what must be readable
then."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from tiny_folder import draw_folder

from kdcache.cache.build.build import build_cache
from kdcache.cache.build.options import BuildOptions, parse_tap
from kdcache.cache.fingerprint import digest_bytes
from kdcache.cache.reader.cache import open_cache
from kdcache.cache.stores.local import LocalStore

SAMPLES, SHARD = 7, 3  # the last block is not full
Rows = dict[str, object]


class Scene:
    """A folder with drawn data and a home with one cache, made once for each format and copied for each
    case."""

    def __init__(self, root: Path, target_format: str) -> None:
        self.root, self.target_format = root, target_format

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def caches(self) -> Path:
        return self.root / "caches"

    @property
    def cache(self) -> Path:
        return next(p for p in sorted(self.caches.iterdir()) if p.name.startswith("folder-"))

    def options(self, **changes: object) -> BuildOptions:
        options = BuildOptions(
            runs_dir=self.root / "runs",
            caches_dir=self.caches,
            teacher="tiny_teacher:make",
            data=f"folder:{self.data}",
            views="crops:2",
            crop=(32, 32),
            taps=(parse_tap("stage4"), parse_tap("logits")),
            target_format=self.target_format,
            shard_rows=SHARD,
            batch_size=4,
        )
        return replace(options, **changes)  # type: ignore[arg-type]

    def copy(self, to: Path) -> "Scene":
        """With times of change kept, so that nothing looks changed."""
        shutil.copytree(self.root, to, copy_function=shutil.copy2)
        return Scene(to, self.target_format)


def draw_scene(root: Path, target_format: str) -> Scene:
    draw_folder(root / "data", SAMPLES)
    return Scene(root, target_format)


def built_scene(root: Path, target_format: str) -> Scene:
    scene = draw_scene(root, target_format)
    build_cache(scene.options())
    return scene


# ---- what happens to the data --------------------------------------------------------------------------


def images(scene: Scene) -> list[Path]:
    return sorted((scene.data / "train" / "images").iterdir())


def label_of(image: Path) -> Path:
    return image.parent.parent / "labels" / f"{image.stem}.png"


def repaint(image: Path, seed: int) -> None:
    shape = np.asarray(Image.open(image)).shape
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)).save(image)


def relabel(image: Path) -> None:
    label = np.asarray(Image.open(label_of(image))).copy()
    label[:4, :4] = (label[:4, :4].astype(int) + 1) % 3
    Image.fromarray(label).save(label_of(image))


def add(scene: Scene, name: str, seed: int) -> None:
    """A sample whose key is `name`: 'aaa' sorts before all others."""
    first = images(scene)[0]
    new = first.with_name(f"{name}.jpg")
    shutil.copy(label_of(first), label_of(new))
    shutil.copy(first, new)
    repaint(new, seed)


def remove(image: Path) -> None:
    image.unlink()
    label_of(image).unlink()


def damage(path: Path) -> None:
    """One bit, in place: who has mapped the file sees it change, not shrink."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 3)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 4]))


# ---- what must be there --------------------------------------------------------------------------------


def living_rows(root: Path) -> Rows:
    """Every living row of a cache by key and view: digests of image, label, pixels and stored targets."""
    cache = open_cache(root)
    rows: Rows = {}
    for index in cache.living.tolist():
        key = cache.key(index)
        rows[key] = digest_bytes(cache.image(index).tobytes(), cache.truth(index).tobytes())
        for view in cache.view_numbers():
            for target in cache.manifest.tap_names:
                if cache.coverage.key(target, view, index // cache.shard_samples):
                    parts = cache.parts(target, index, view)
                    content = b"".join(parts[name].tobytes() for name in sorted(parts))
                    place = f"{key} {view} {target}"
                    rows[place] = digest_bytes(content), cache.pixel_digest(index, view)
    return rows


def tree(root: Path) -> dict[str, str]:
    """Digest of every file of a cache by its name; the lock holds nothing."""
    files = sorted(p for p in root.rglob("*") if p.is_file() and p.name != "build.lock")
    return {p.relative_to(root).as_posix(): digest_bytes(p.read_bytes()) for p in files}


def operations(run: Callable[[], object]) -> int:
    """How many operations of the store a job takes."""
    with counted_store() as counter:
        run()
    return counter.number


class counted_store:
    """Counts what every store writes, and calls `at` before and after each operation."""

    def __init__(self, at: Callable[[int, str], None] = lambda number, when: None) -> None:
        self.number, self._at = 0, at
        self._kept = {name: getattr(LocalStore, name) for name in ("put", "create", "remove")}

    def __enter__(self) -> "counted_store":
        for name, method in self._kept.items():
            setattr(LocalStore, name, self._wrapped(method))
        return self

    def __exit__(self, *_: object) -> None:
        for name, method in self._kept.items():
            setattr(LocalStore, name, method)

    def _wrapped(self, method: Callable[..., object]) -> Callable[..., object]:
        def counted(*arguments: object) -> object:
            number, self.number = self.number, self.number + 1
            self._at(number, "before")
            result = method(*arguments)
            self._at(number, "after")
            return result

        return counted
