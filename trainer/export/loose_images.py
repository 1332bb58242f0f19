"""Images of nobody's data set: files and folders that were named, as samples without a truth.

A sample's key is its path without suffix: from the folder that was named, or the bare name of a file.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kdcache.cache.errors import BadOption, BadSample, Missing
from kdcache.cache.files.system import user_path
from kdcache.cache.sources.listing import (
    IMAGE_SUFFIXES,
    find_images,
    header_size,
    image_size,
    read_bytes,
    require_text,
)
from kdcache.cache.spec import Task


class LooseImages:
    """A `SampleSource` of images; asked for a truth it has none."""

    def __init__(self, task: Task, paths: dict[str, Path]) -> None:
        """`paths`: key -> file."""
        self.task = task
        self.keys = tuple(paths)
        self.paths = tuple(paths.values())
        self.num_samples = len(paths)
        self.invalid = np.zeros(0, dtype=np.int64)
        self._sizes: dict[int, tuple[int, int]] = {}

    def key(self, index: int) -> str:
        return self.keys[index]

    def file(self, index: int) -> str:
        """The key with the suffix of its file."""
        return self.keys[index] + self.paths[index].suffix

    def image(self, index: int) -> np.ndarray:
        """The encoded image as it lies on disk, 1-D uint8. Raises BadSample."""
        content = read_bytes(self.paths[index], key=self.keys[index], kind="image")
        return np.frombuffer(content, dtype=np.uint8)

    def truth(self, index: int) -> np.ndarray:
        raise AssertionError(f"nobody knows the truth of '{self.keys[index]}'")

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) in pixels. Raises BadSample."""
        if index not in self._sizes:
            self._sizes[index] = header_size(self.paths[index], key=self.keys[index])
        return self._sizes[index]


def loose_images(named: Sequence[str], task: Task) -> LooseImages:
    """The JPEG and PNG files that were named, and those below folders that were named, in order of their
    names.

    Raises Missing for a path that is not there or a folder without images, BadOption for a file of another
    suffix, BadSample for two images of one key.
    """
    paths: dict[str, Path] = {}
    for word in named:
        for key, path in _below(user_path(word)).items():
            if paths.setdefault(key, path) != path:
                raise BadSample(
                    f"two images have the name '{key}', and answers are named after images",
                    where=f"{paths[key]} and {path}",
                    fix="predict them with two commands, or rename one of the two",
                )
    return LooseImages(task, paths)


def intact(samples: LooseImages, *, skip_bad: bool) -> tuple[LooseImages, tuple[Path, ...]]:
    """The images that can be decoded, every one of them tried, and the files of the others.

    Raises BadSample that names all of the others, unless `skip_bad` leaves them out and some stay.
    """
    bad: dict[int, BadSample] = {}
    for index, (key, path) in enumerate(zip(samples.keys, samples.paths, strict=True)):
        try:
            image_size(path, key=key)
        except BadSample as error:
            bad[index] = error
    kept = {key: samples.paths[i] for i, key in enumerate(samples.keys) if i not in bad}
    if bad and not (skip_bad and kept):
        first = next(iter(bad.values()))
        raise BadSample(
            first.what if len(bad) == 1 else f"{len(bad)} images cannot be read; {first.what}",
            where=", ".join(str(samples.paths[index]) for index in bad),
            fix="leave it out of the images named, or replace it by one that opens in an image viewer"
            if len(bad) == 1
            else "leave them out of the images named; --skip-bad goes on without them",
        )
    return LooseImages(samples.task, kept), tuple(samples.paths[index] for index in bad)


def _below(path: Path) -> dict[str, Path]:
    if path.is_dir():
        images = {key: path / name for key, name in sorted(find_images(path, "").items())}
        if not images:
            raise Missing(
                "the folder holds no images",
                where=str(path),
                fix=f"name a folder with files of {', '.join(IMAGE_SUFFIXES)}, or the files themselves",
            )
        return images
    if not path.exists():
        raise Missing("there is no such image or folder", where=str(path), fix="name one that is there")
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise BadOption(
            f"'{path.name}' is no image that is read: its name ends in none of {', '.join(IMAGE_SUFFIXES)}",
            where=str(path),
            fix="convert it to JPEG or PNG",
        )
    require_text(path.stem, path)
    return {path.stem: path}
