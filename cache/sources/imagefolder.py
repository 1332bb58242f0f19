"""Classification from folders: one folder per class below one folder per split, as ImageNet is unpacked.

Classes are the folder names of `train` in sorted order (of the split itself where there is no `train`), so a
class has one number in every split. Images may lie deeper than one level. A key is the path below the split
without suffix.
"""

from collections.abc import Sequence
from os.path import splitext
from pathlib import Path

from kdcache.cache.errors import BadSample, Missing
from kdcache.cache.sources.contract import BaseSource, Described
from kdcache.cache.sources.listing import (
    IMAGE_SUFFIXES,
    find_images,
    header_size,
    image_size,
    read_bytes,
    require_text,
)
from kdcache.cache.sources.remarks import depth_remarks, spread
from kdcache.cache.sources.tree import SPLITS
from kdcache.cache.spec import Task
from kdcache.cache.tasks.table import CLASSIFICATION

CROP_PX = 224  # the usual input; smaller images are used at their own size
# Pictures that would be lost in silence, as other files (lists, readmes) are meant to be.
OTHER_IMAGES = (".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".heic", ".avif", ".jp2")


class ImageFolder(BaseSource):
    """Raises Missing for a class without images, BadSample for an image of a form that is not read."""

    name = "imagefolder"
    layout = """
        {train,val,test}/CLASS/*.jpg (or .jpeg, .png): one folder per class
    """
    task: Task = CLASSIFICATION
    augment = "rrc=0.08,flip"

    def __init__(self, root: Path, split: str) -> None:
        super().__init__(root, split)
        self._folder = self.root / split
        self.class_names = self._classes()
        self._class_of: list[int] = []
        self._paths: list[str] = []  # below the split's folder
        keys: list[str] = []
        for class_id, name in enumerate(self.class_names):
            for key, path in sorted(self._images_of(name).items()):
                keys.append(f"{name}/{key}")
                self._paths.append(f"{name}/{path}")
                self._class_of.append(class_id)
        self.keys: Sequence[str] = keys
        self.default_crop = self._crop()

    @property
    def label(self) -> str:
        """The folder's own name: of your data there may be several."""
        return self.root.name

    @classmethod
    def splits_in(cls, root: Path) -> tuple[str, ...]:
        return tuple(split for split in SPLITS if _folders(root / split))

    def image_path(self, index: int) -> Path:
        return self._folder / self._paths[index]

    def image_bytes(self, index: int) -> bytes:
        return read_bytes(self.image_path(index), key=self.keys[index], kind="image")

    def class_of(self, index: int) -> int:
        return self._class_of[index]

    def label_bytes(self, index: int) -> bytes:
        return str(self._class_of[index]).encode()

    def files(self, index: int) -> tuple[Path, ...]:
        return (self.image_path(index),)

    def content(self, index: int) -> tuple[bytes, ...]:
        return self.image_bytes(index), self.label_bytes(index)

    def size(self, index: int) -> tuple[int, int]:
        return header_size(self.image_path(index), key=self.keys[index])

    def check(self, index: int) -> tuple[int, int]:
        return image_size(self.image_path(index), key=self.keys[index])

    @property
    def notes(self) -> tuple[str, ...]:
        looked_at = [self.image_path(index) for index in spread(len(self._paths))]
        return tuple(depth_remarks(looked_at))

    def describe(self) -> Described:
        return {
            "name": self.name,
            "split": self.split,
            "task": self.task,
            "class_names": list(self.class_names),
        }

    def _classes(self) -> tuple[str, ...]:
        here = _folders(self._folder)
        known = _folders(self.root / SPLITS[0]) or here
        strange = sorted(set(here) - set(known))
        if strange:
            raise Missing(
                f"class '{strange[0]}' of split '{self.split}' is not in '{SPLITS[0]}': it has no number",
                where=str(self._folder / strange[0]),
                fix=f"classes are the folders of {SPLITS[0]}: {', '.join(known[:5])}"
                + (", ..." if len(known) > 5 else ""),
            )
        return tuple(known)

    def _images_of(self, name: str) -> dict[str, str]:
        folder = self._folder / name
        if not folder.is_dir():
            return {}  # a class of `train` that this split happens not to have
        passed: list[str] = []
        images = find_images(folder, "", passed.append)
        others = (folder / path for path in passed if splitext(path)[1].lower() in OTHER_IMAGES)
        other = min(others, default=None)
        if other is not None:
            raise BadSample(
                f"'{other.name}' is a {other.suffix} image; read are {', '.join(IMAGE_SUFFIXES)}",
                where=str(other),
                fix="convert it to JPEG or PNG, or take it out of the folder",
            )
        if not images:
            raise Missing(
                f"the class '{name}' of split '{self.split}' has no images",
                where=str(folder),
                fix="put its images there, or remove the folder",
            )
        return images

    def _crop(self) -> tuple[int, int]:
        try:
            height, width = self.size(0)
        except BadSample:  # reported with its name when samples are checked
            return CROP_PX, CROP_PX
        return (height, width) if max(height, width) < CROP_PX else (CROP_PX, CROP_PX)


def _folders(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    names = [path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    for name in names:
        require_text(name, folder / name)
    return sorted(names)
