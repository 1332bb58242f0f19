"""Flipped bits of faults.py: in every kind of file of a cache; found by verify or the reader, mended by
--repair.

'harmless' is a flip after which every row reads as before, through our reader and through plain zarr: in a
builder's note, in what an older generation said, or in what no reader of a description looks at.
"""

import random
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import zarr
from cache_scene import Rows, Scene, add, built_scene, images, living_rows, remove

from kdcache.cache.build.build import build_cache
from kdcache.cache.build.options import parse_tap
from kdcache.cache.errors import KdError
from kdcache.cache.fingerprint import digest_bytes
from kdcache.cache.look.verify import problems

FLIPS, SMALL = 2000, 60
FORMATS = ("zarr", "webdataset")


def flip_cases(small: bool) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """The same number of flips in every kind of file, at random bits of random files."""
    draw = random.Random(0)
    total = SMALL if small else FLIPS
    kinds = [(form, kind) for form in FORMATS for kind in sorted(files_by_kind(form))]
    for number in range(total):
        form, kind = kinds[number % len(kinds)]
        name = draw.choice(files_by_kind(form)[kind])
        size = (scene(form).cache / name).stat().st_size
        bit = draw.randrange(8 * size)
        yield f"{number} {form} {name} bit {bit}", partial(flip, form, name, bit)


@cache
def scene(target_format: str) -> Scene:
    """A cache with a past: it grew, a sample changed, one was deleted, a tap was added."""
    root = Path(tempfile.mkdtemp(prefix="kdcache-flips-")) / "scene"
    made = built_scene(root, target_format)
    add(made, "aaa", 1)
    remove(images(made)[3])
    build_cache(made.options(update=True))
    build_cache(made.options(views="crops:2+full", taps=(parse_tap("stage1=fp16"),)))
    return made


@cache
def files_by_kind(target_format: str) -> dict[str, list[str]]:
    """Kind -> names of the files of that kind that hold anything."""
    root = scene(target_format).cache
    kinds: dict[str, list[str]] = {}
    for path in sorted(root.rglob("*")):
        if path.is_file() and path.stat().st_size:
            name = path.relative_to(root).as_posix()
            kinds.setdefault(_kind(name), []).append(name)
    return kinds


def _kind(name: str) -> str:
    """'records/samples', 'records/targets', 'zarr.json', 'views' and so on: numbers and paths left out."""
    if name.endswith("zarr.json"):
        return "zarr.json"
    if name.startswith("records/"):
        return "records/samples" if "samples" in name else "records/targets"
    if name.startswith("targets"):
        part = re.findall(r"/(values|scale)/", name)
        return f"targets/{part[0] if part else name.rpartition('.')[2]}"
    return re.sub(r"\d+", "N", name)


@cache
def wanted(target_format: str) -> tuple[Rows, dict[str, str]]:
    root = scene(target_format).cache
    return living_rows(root), plain_arrays(root)


def plain_arrays(root: Path) -> dict[str, str]:
    """What zarr-python reads of every array; nothing without zarr."""
    folder = root / "targets.zarr"
    if not folder.is_dir():
        return {}
    arrays = {}
    for path in sorted(folder.rglob("zarr.json")):
        if len(path.relative_to(folder).parts) == 5:
            array = zarr.open_array(path.parent, mode="r")
            arrays[str(path.relative_to(folder))] = digest_bytes(array[...].tobytes())
    return arrays


def flip(target_format: str, name: str, bit: int) -> dict[str, Any]:
    """Flip, look, read, repair, put back."""
    wanted(target_format)  # of the whole cache, before its first flip
    root = scene(target_format).cache
    path = root / name
    whole = root.with_name("whole")
    shutil.copytree(root, whole, copy_function=shutil.copy2)
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    try:
        return _outcome(target_format, root)
    finally:
        shutil.rmtree(root)
        whole.rename(root)


def _outcome(target_format: str, root: Path) -> dict[str, Any]:
    rows, arrays = wanted(target_format)
    try:
        noticed = next(problems(root), None) is not None
        read = _read(lambda: living_rows(root))
        if read is not None and read != rows:
            return {"failed": 1, "silent": 1, "why": "the reader gives other rows"}
        if not noticed:
            if read is None:
                return {"failed": 1, "why": "verify finds nothing, the reader refuses"}
            if plain_arrays(root) != arrays:
                return {"failed": 1, "silent": 1, "why": "zarr reads other rows"}
        build_cache(scene(target_format).options(repair=True, update=True))
        if problem := next(problems(root), None):
            return {"failed": 1, "why": f"after repair: {problem.title}: {problem.text}"}
        if _values(living_rows(root)) != _values(rows):
            return {"failed": 1, "silent": 1, "why": "repaired to other rows"}
    except KdError as error:
        return {"failed": 1, "why": f"repair: {error.what}"}
    except Exception as error:  # the count of these is what the table is about
        return {"failed": 1, "traceback": 1, "why": f"{type(error).__name__}: {error}"}
    return {"found": 1} if noticed else {"harmless": 1}


def _read(read: Callable[[], Rows]) -> Rows | None:
    """None where the reader refuses."""
    try:
        return read()
    except KdError:
        return None


def _values(rows: Rows) -> Rows:
    return dict(sorted(rows.items()))
