"""All sources by name, and how the user's 'name:DIR' or 'package.module:Class:DIR' becomes one."""

from collections.abc import Mapping
from pathlib import Path

from kdcache.cache.errors import BadOption, nearest, unknown
from kdcache.cache.files.system import user_path
from kdcache.cache.sources.ade20k import Ade20k
from kdcache.cache.sources.camvid import CamVid
from kdcache.cache.sources.cifar import Cifar10, Cifar100
from kdcache.cache.sources.cityscapes import Cityscapes
from kdcache.cache.sources.coco import Coco
from kdcache.cache.sources.cocostuff import CocoStuff
from kdcache.cache.sources.contract import BaseSource, Source
from kdcache.cache.sources.demo import Demo, default_root
from kdcache.cache.sources.fashion_mnist import FashionMnist
from kdcache.cache.sources.folder import Folder
from kdcache.cache.sources.imagefolder import ImageFolder
from kdcache.cache.sources.npz import Npz
from kdcache.cache.sources.own.named import own_parts, own_source
from kdcache.cache.sources.voc import Voc
from kdcache.cache.sources.voc_boxes import VocBoxes
from kdcache.cache.sources.yolo import Yolo
from kdcache.cache.spec import Task
from kdcache.cache.trust import require_trust

_SEGMENTATION = (Ade20k, CamVid, Cityscapes, CocoStuff, Demo, Folder, Voc)
_CLASSIFICATION = (Cifar10, Cifar100, FashionMnist, ImageFolder, Npz)
_DETECTION = (Coco, VocBoxes, Yolo)
SOURCES: Mapping[str, type[BaseSource]] = {
    kind.name: kind for kind in (*_SEGMENTATION, *_CLASSIFICATION, *_DETECTION)
}


def open_source(spec: str, split: str, *, keep_empty: bool = True) -> Source:
    """The split of 'camvid:DIR', 'demo:DIR', 'demo' or 'package.module:Class:DIR'; without `keep_empty` only
    its samples from which something can be learnt.

    Raises BadOption for an unknown name, no folder, or code that nobody trusts, Missing for a
    folder, split or class list that is not there, BadSample for two files with one key.
    """
    kind, root = _parse(spec)
    source = kind(root, split)
    if not keep_empty:
        source.leave_out_empty()
    return source


def splits(spec: str) -> tuple[str, ...]:
    """Splits that exist, in the order train, val, test. Draws nothing. Raises BadOption and Missing."""
    kind, root = _parse(spec)
    root = user_path(root).absolute()
    existing = kind.splits_in(root)
    if not existing:
        raise kind.missing_folder(root)
    return existing


def split_spec(spec: str) -> tuple[str, str]:
    """'camvid' and 'DIR', or 'package.module:Class' and 'DIR'; the folder is '' where none is named. Imports
    nothing."""
    name, _, folder = spec.partition(":")
    own = own_parts(spec) if name not in SOURCES else None
    return own or (name, folder)


def data_word(spec: str) -> str:
    """What the data of a spec are called in lists: 'camvid', or 'folder shapes' of a kind of which there may
    be several. Reads nothing."""
    name, folder = split_spec(spec)
    kind = SOURCES.get(name)
    published = kind is not None and kind.label is BaseSource.label
    own = "" if published else Path(folder).name.removesuffix(".npz")
    return f"{name} {own}".rstrip()


def own_name(spec: str | None) -> str:
    """'package.module:Class' of a spec that names code, else ''."""
    name = split_spec(spec)[0] if spec else ""
    return name if ":" in name else ""


def task_of_data(spec: str) -> Task | None:
    """The task of the data that '--data' names; None where nobody knows that yet."""
    kind = SOURCES.get(spec.partition(":")[0])
    return None if kind is None else kind.task


def check_data(spec: str) -> None:
    """Raises BadOption for an unknown name or no folder, Missing where nothing lies there. Code of somebody's
    own is asked when it is imported."""
    if not own_name(spec):
        splits(spec)


def _parse(spec: str) -> tuple[type[BaseSource], Path]:
    name, folder = split_spec(spec)
    if ":" in name:
        require_trust([name], where=f"data '{spec}'")
    kind = own_source(name) if ":" in name else SOURCES.get(name)
    if kind is None:
        if not folder and user_path(spec).is_dir():
            raise BadOption(
                "a folder without the name of its dataset",
                where=f"data '{spec}'",
                fix=f"write 'folder:{spec}' or 'imagefolder:{spec}' for your own images, or one of "
                f"{', '.join(sorted(SOURCES))}",
            )
        if _names_class(name, folder):
            raise BadOption(
                f"'{spec}' names code of somebody's own, and no folder that it reads",
                where=f"data '{spec}'",
                fix=f"write the folder behind it: {spec}:DIR",
            )
        raise unknown("dataset", name, SOURCES, where=f"data '{spec}'")
    if folder:
        return kind, Path(folder)
    if kind is Demo:
        return kind, default_root()
    raise BadOption(f"'{name}' needs a folder", where=f"data '{spec}'", fix=f"write '{name}:DIR'")


def _names_class(name: str, rest: str) -> bool:
    """Whether 'name:rest' looks like 'package.module:Class' rather than a misspelt dataset and its folder."""
    code = all(part.isidentifier() for part in (*name.split("."), rest))
    likely = "." in name or (rest[:1].isupper() and nearest(name, SOURCES) is None)
    return code and likely and not user_path(rest).is_dir()
