"""Your own data: images and labels with equal stems, and a list of class names.

Labels are PNGs whose values are train ids 0..C-1 in the order of the names, and 255 where a pixel is ignored;
with `classes.toml` any values or colours that it names.
"""

from pathlib import Path

from kdcache.cache.errors import BadOption, BadSample, Missing, Refused
from kdcache.cache.files.plain_json import MAX_BYTES, parse_json
from kdcache.cache.files.regular import read_regular, read_text
from kdcache.cache.sources.contract import Described, FileSource
from kdcache.cache.sources.labels import ClassMap, identity_map
from kdcache.cache.sources.listing import image_size
from kdcache.cache.sources.own.classes_toml import CLASSES_FILE, read_classes
from kdcache.cache.sources.tree import SPLITS, Tree, split_folders
from kdcache.cache.spec import IGNORE
from kdcache.cache.visible import shell_word

NAMES_FILE = "classes.txt"
RECORD_FILE = "dataset.json"
MAX_CROP = 512  # pixels a side; smaller images are cropped at their own size


class Folder(FileSource):
    """Raises Missing when neither file gives the classes, BadOption when what they give cannot be used."""

    name = "folder"
    layout = """
        {train,val,test}/images/KEY.jpg (or .png) and {train,val,test}/labels/KEY.png
        or images/, labels/ and the lists train.txt, val.txt, test.txt with one KEY per line
        classes.txt: one class name per line, in the order of the label values
        (or dataset.json with "classes", a list of names; or classes.toml: names, and which values or
        colours of the labels they are)
    """

    def __init__(self, root: Path, split: str) -> None:
        super().__init__(root, split)
        self.default_crop = self._crop()

    @property
    def label(self) -> str:
        """The folder's own name: of your data there may be several."""
        return self.root.name

    @classmethod
    def trees(cls, root: Path) -> dict[str, Tree]:
        return split_folders(root) or _listed_folders(root)

    def class_map_of(self, tree: Tree) -> ClassMap:
        table = self.root / CLASSES_FILE
        if table.is_file():
            if (other := self.root / NAMES_FILE).is_file():
                raise BadOption(
                    f"{CLASSES_FILE} and {NAMES_FILE} both name the classes",
                    where=str(self.root),
                    fix=f"remove one of them: rm {shell_word(str(other))}",
                )
            self.class_names, class_map = read_classes(table)
            return class_map
        self.class_names = class_names_in(self.root)
        return identity_map(len(self.class_names))

    def describe(self) -> Described:
        """With the title that dataset.json gives, so that two folders of equal classes are two datasets."""
        title = _record(self.root).get("name")
        return super().describe() | ({"title": title} if isinstance(title, str) else {})

    def _crop(self) -> tuple[int, int]:
        """The size of the first image, at most `MAX_CROP` a side."""
        try:
            height, width = image_size(self.image_path(0), key=self.keys[0])
        except BadSample:  # reported with its name when samples are checked
            return MAX_CROP, MAX_CROP
        return min(height, MAX_CROP), min(width, MAX_CROP)


def class_names_in(root: Path, *, limit: int = IGNORE) -> tuple[str, ...]:
    """From classes.txt, else dataset.json, whose classes are names or objects with "name" and "id".

    `limit`: how many there may be; of pixel labels, one less than an 8-bit map has values."""
    path = root / NAMES_FILE
    if path.is_file():
        names = _lines(path)
    else:
        path = root / RECORD_FILE
        names = _recorded_names(_record(root).get("classes"), path)
    if len(set(names)) != len(names) or not 1 <= len(names) <= limit:
        raise BadOption(
            f"{len(names)} class names of which {len(set(names))} are different cannot number labels",
            where=str(path),
            fix=f"give 1 to {limit} different names, one per class"
            + (f"; {IGNORE} is the value of ignored pixels" if limit == IGNORE else ""),
        )
    return tuple(names)


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in read_text(path).splitlines() if line.strip()]
    except Refused:
        raise
    except (OSError, ValueError) as error:
        raise BadOption(
            f"'{path.name}' cannot be read: {error}",
            where=str(path),
            fix="write one class name per line, in UTF-8",
        ) from error


def _recorded_names(classes: object, path: Path) -> list[str]:
    if classes is None:
        raise Missing(
            "the classes of these labels are not given, so their number is unknown",
            where=str(path.parent),
            fix=f"write {NAMES_FILE} there: one class name per line, the first for label value 0",
        )
    if isinstance(classes, list) and all(isinstance(c, str) for c in classes):
        return list(classes)
    if isinstance(classes, list) and all(isinstance(c, dict) and "name" in c for c in classes):
        if [c.get("id", i) for i, c in enumerate(classes)] == list(range(len(classes))):
            return [str(c["name"]) for c in classes]
    raise BadOption(
        '"classes" is neither a list of names nor a list of {"id", "name"} with ids 0, 1, 2, ...',
        where=str(path),
        fix=f'write ["road", "car", ...], or write {NAMES_FILE} instead',
    )


def _record(root: Path) -> dict[str, object]:
    path = root / RECORD_FILE
    if not path.is_file():
        return {}
    try:
        record = parse_json(read_regular(path, MAX_BYTES))
    except Refused:
        raise
    except (OSError, ValueError) as error:
        raise BadOption(
            f"not JSON: {error}", where=str(path), fix=f"correct it, or write {NAMES_FILE} and remove it"
        ) from error
    return record if isinstance(record, dict) else {}


def _listed_folders(root: Path) -> dict[str, Tree]:
    images, labels = root / "images", root / "labels"
    if not images.is_dir():
        return {}
    return {s: Tree(images, labels, list_file=p) for s in SPLITS if (p := root / f"{s}.txt").is_file()}
