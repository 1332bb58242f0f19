"""The demo: scenes that the project draws itself, once, into a folder of the same layout as `folder`.

The whole folder is drawn under a temporary name beside its place and then renamed, so that it is there
completely or not at all. A killed drawing leaves a folder `.NAME.drawing-*` behind, which may be removed.
"""

import io
import json
import logging
import shutil
import tempfile
from pathlib import Path

from PIL import Image

from kdcache.cache.errors import BadOption, KdError
from kdcache.cache.files.plain_json import read_json_object
from kdcache.cache.files.system import refused, user_path
from kdcache.cache.record.find import home_dir
from kdcache.cache.sources.contract import Described, FileSource
from kdcache.cache.sources.demo_scenes import CLASSES, draw_scene
from kdcache.cache.sources.labels import ClassMap, encode_label, identity_map
from kdcache.cache.sources.tree import SPLITS, Tree

NUM_SCENES = {"train": 240, "val": 60, "test": 60}
SEED = 0
DRAWING = 2  # raise it whenever a pixel changes: it is part of a cache's identity
RECORD_FILE = "dataset.json"
_logger = logging.getLogger(__name__)


class Demo(FileSource):
    """Draws its folder if it is not there (about 5 s). Raises BadOption when that holds something else."""

    name = "demo"
    layout = "nothing: the project draws its images itself, into an empty folder or a new one"
    class_names = CLASSES
    default_crop = (96, 96)

    def __init__(self, root: Path, split: str) -> None:
        if split in SPLITS:
            draw_all(user_path(root).absolute())
        super().__init__(root, split)

    @classmethod
    def trees(cls, root: Path) -> dict[str, Tree]:
        """All three, drawn or not."""
        return {split: Tree(root / split / "images", root / split / "labels") for split in SPLITS}

    def class_map_of(self, tree: Tree) -> ClassMap:
        return identity_map(len(CLASSES))

    def describe(self) -> Described:
        return super().describe() | {"drawing": DRAWING, "seed": SEED}


def default_root() -> Path:
    """`$KDCACHE_HOME/demo-data`, in the current directory when the variable is not set."""
    return home_dir().absolute() / "demo-data"


def draw_all(root: Path) -> None:
    """Draw every split into `root`; nothing to do where that is done. Several processes may do it at once."""
    if _is_drawn(root):
        return
    _logger.info("drawing %d demo scenes into %s", sum(NUM_SCENES.values()), root)
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{root.name}.drawing-", dir=root.parent))
    except OSError as error:
        raise _not_written(root, error) from error
    try:
        for split, num_scenes in NUM_SCENES.items():
            _draw_split(partial / split, split, num_scenes)
        (partial / RECORD_FILE).write_text(json.dumps(_record(), indent=1), encoding="utf-8")
        partial.chmod(0o755)  # mkdtemp's own would hide it from other users
        _take_place(partial, root)
    except OSError as error:
        raise _not_written(root, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _take_place(partial: Path, root: Path) -> None:
    try:
        partial.rename(root)
    except OSError:
        if not _is_drawn(root):  # another process was first, or someone put files there meanwhile
            raise


def _draw_split(folder: Path, split: str, num_scenes: int) -> None:
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for index in range(num_scenes):
        scene = draw_scene(seed=SEED, split=split, index=index)
        buffer = io.BytesIO()
        Image.fromarray(scene.image_HW3).save(buffer, "JPEG", quality=92)
        (folder / "images" / f"{index:04d}.jpg").write_bytes(buffer.getvalue())
        (folder / "labels" / f"{index:04d}.png").write_bytes(encode_label(scene.label_HW))


def _record() -> dict[str, object]:
    return {"name": "demo", "drawing": DRAWING, "seed": SEED, "classes": list(CLASSES)}


def _is_drawn(root: Path) -> bool:
    """True for a finished drawing, False for nothing. Raises BadOption for anything else."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    try:
        record = read_json_object(root / RECORD_FILE)
    except (OSError, ValueError):
        record = None
    if record == _record():
        return True
    other = isinstance(record, dict) and record.get("name") == "demo"
    raise BadOption(
        "the demo was drawn there by another version of this project"
        if other
        else "the demo cannot be drawn there: the folder holds something else",
        where=str(root),
        fix="name an empty folder, 'demo:DIR'"
        + (", or remove this one to have it drawn anew" if other else ""),
    )


def _not_written(root: Path, error: OSError) -> KdError:
    again = "run the same command again; it takes 5 MB, and 'demo:DIR' names another folder"
    return refused(error, "the demo cannot be drawn", root, again=again)
