"""Files of a split: what lies in a folder, what a list names, and reads whose errors name the sample."""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from PIL import Image

from kdcache.cache.errors import LEAVE_OUT, BadSample, Missing, Refused
from kdcache.cache.files.picture import check_picture_size
from kdcache.cache.files.regular import open_regular, read_regular, read_text
from kdcache.cache.files.system import GONE, file_of, refused, touching
from kdcache.cache.sources.labels import DECODE_ERRORS, open_intact, unreadable

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
_FORMATS = ("JPEG", "MPO", "PNG")  # MPO: a JPEG with further pictures behind it, as some cameras write
_EXIF_ORIENTATION = 0x0112
ABSENT = (*GONE, IsADirectoryError)  # there is no such file: the sample's own fault
MAX_FILE_BYTES = 1 << 30  # of one image or label
_HEAD_BYTES = 1 << 16  # cameras write a thumbnail before the size
LIST_BYTES = 256 << 20  # of a list, some million samples


def find_images(
    folder: Path, ending: str, passed: Callable[[str], object] = lambda path: None
) -> dict[str, str]:
    """Key -> path relative to `folder`, for every JPEG and PNG below it; `passed` is told the path of every
    other file. Raises BadSample for two files of one key.

    Links to folders are followed: datasets of this size are often put together from several disks.
    """
    path_of: dict[str, str] = {}
    for parent, _, names in _walk(folder):
        inside = Path(parent).relative_to(folder).as_posix()
        within = "" if inside == "." else f"{inside}/"  # text: there may be ten million files
        for name in sorted(names):
            stem, suffix = os.path.splitext(name)
            path = within + name
            if name.startswith(".") or suffix.lower() not in IMAGE_SUFFIXES or not stem.endswith(ending):
                passed(path)
                continue
            key = within + stem.removesuffix(ending)
            if not key.isascii():
                require_text(key, Path(parent, name))
            if key in path_of:
                raise BadSample(
                    f"two images have the key '{key}': {path_of[key]} and {path}",
                    where=str(folder),
                    fix="a key is the path without suffix; rename or remove one of the two",
                )
            path_of[key] = path
    return path_of


def absent(files: Iterable[Sequence[Path]]) -> list[int]:
    """Places of the samples of which a file is missing: each folder is listed once, nothing is opened. Raises
    Refused where a folder cannot be listed."""
    names: dict[Path, frozenset[str]] = {}

    def is_there(path: Path) -> bool:
        if path.parent not in names:
            names[path.parent] = _names_in(path.parent)
        return path.name in names[path.parent]

    return [place for place, paths in enumerate(files) if not all(map(is_there, paths))]


def _names_in(folder: Path) -> frozenset[str]:
    with touching(f"'{folder.name}' cannot be listed", folder, passing=GONE):
        try:
            return frozenset(os.listdir(folder))
        except GONE:
            return frozenset()


def _walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """As `os.walk`, through links to folders; one that leads back to a folder above it is not entered. Raises
    Refused where a folder cannot be listed: half a list would say that the samples of the other half are
    gone."""
    above: dict[str, frozenset[tuple[int, int]]] = {}
    for parent, inner, names in os.walk(folder, followlinks=True, onerror=_stop):
        status = os.stat(parent)
        own = above.pop(parent, frozenset()) | {(status.st_dev, status.st_ino)}
        kept = []
        for name in inner:
            below = os.stat(os.path.join(parent, name))
            if (below.st_dev, below.st_ino) not in own:
                kept.append(name)
                above[os.path.join(parent, name)] = own
        inner[:] = kept
        yield parent, inner, names


def _stop(error: OSError) -> None:
    if not isinstance(error, GONE):
        raise refused(error, "the folder cannot be listed", file_of(error)) from error


def require_text(key: str, path: Path) -> None:
    """Raises BadSample for a name, of the file or folder `path`, that is no text: nothing could write it
    down."""
    try:
        key.encode()
    except UnicodeEncodeError as error:
        raise BadSample(
            f"the name of a file is not UTF-8: {ascii(path.name)}",
            where=ascii(str(path.parent)),
            fix="rename it, or the folder that it lies in",
        ) from error


def listed_keys(list_file: Path) -> list[str]:
    """Keys of a list, one sample per line, in its order. Raises Missing, and BadSample for a key on two
    lines.

    A line is a key, or a path to the image (whose folders are dropped when it is absolute), or such a path
    followed by the label's: all three are in use for CamVid and VOC.
    """
    try:
        lines = read_text(list_file, LIST_BYTES, what="the list of a split").splitlines()
    except (*ABSENT, ValueError) as error:
        raise Missing(
            f"the list of a split cannot be read: {error}", where=str(list_file), fix="restore the file"
        ) from error
    first_line: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        key = _key_of_line(line.strip())
        if key in first_line:
            raise BadSample(
                f"the key '{key}' is listed twice, on lines {first_line[key]} and {number}",
                where=str(list_file),
                fix="remove one of the two lines",
            )
        first_line[key] = number
    return list(first_line)


def read_bytes(path: Path, *, key: str, kind: str) -> bytes:
    """The whole file. Raises BadSample when it is missing or no file, Refused where it cannot be reached:
    that is no fault of the sample, and --skip-bad must not leave it out."""
    try:
        return read_regular(path, MAX_FILE_BYTES, what=f"the {kind} of '{key}'")
    except FileNotFoundError as error:
        raise _missing_file(kind, key, path) from error
    except (*ABSENT, ValueError) as error:
        raise unreadable(kind, key, path, error) from error


def image_size(path: Path, *, key: str) -> tuple[int, int]:
    """(height, width) in pixels as stored, after decoding every pixel. Raises BadSample."""
    encoded = read_bytes(path, key=key, kind="image")
    try:
        with open_intact(encoded) as image:
            form, size = image.format, (image.height, image.width)
    except DECODE_ERRORS as error:
        raise unreadable("image", key, path, error) from error
    if form not in _FORMATS:
        raise BadSample(
            f"the image of '{key}' is {form}, whatever its suffix says",
            where=str(path),
            fix="convert it to JPEG or PNG",
        )
    return size


def header_size(path: Path, *, key: str) -> tuple[int, int]:
    """(height, width) in pixels from the header alone. Raises BadSample when the file is not an image."""
    try:
        with (
            touching(f"the image of '{key}' cannot be read", path, passing=ABSENT),
            open_regular(path, MAX_FILE_BYTES, what=f"the image of '{key}'") as file,
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            check_picture_size(file.read(_HEAD_BYTES))  # Pillow would not say the size of one too large
            file.seek(0)
            with Image.open(file) as image:
                return image.height, image.width
    except FileNotFoundError as error:
        raise _missing_file("image", key, path) from error
    except Refused:
        raise
    except DECODE_ERRORS as error:
        raise unreadable("image", key, path, error) from error


def transposed_by_exif(path: Path) -> bool:
    """True when a viewer would turn this image by 90 degrees."""
    with Image.open(path) as image:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1)) >= 5


def _missing_file(kind: str, key: str, path: Path) -> BadSample:
    return BadSample(
        f"'{key}' has no {kind}",
        where=str(path),
        fix=f"add the {kind}, or {LEAVE_OUT}",
    )


def _key_of_line(line: str) -> str:
    path = line
    parts = line.split()
    if len(parts) == 2 and all(p.lower().endswith(IMAGE_SUFFIXES) for p in parts):
        path = parts[0]  # image and label, the form of SegNet and DeepLab lists
    if path.startswith("/"):
        path = PurePosixPath(path).name
    return path[: -len(PurePosixPath(path).suffix)] if path.lower().endswith(IMAGE_SUFFIXES) else path
