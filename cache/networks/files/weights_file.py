"""Weights files: which file a text names, and its named tensors, read without running what else it holds.

`--weights FILE` is a path; `FILE#KEY` names one of several networks inside it: a part of a checkpoint
('model' beside 'model_ema'), or the beginning of names ('teacher' of 'teacher.conv1.weight').
"""

import json
import math
import os
import pickle
import shutil
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from kdcache.cache.errors import BadWeights, Missing, Refused
from kdcache.cache.files.pickled import check_pickle
from kdcache.cache.files.plain_json import parse_json
from kdcache.cache.files.regular import open_regular
from kdcache.cache.files.system import touching, user_path
from kdcache.cache.files.tensors import check_tensor_file
from kdcache.cache.files.unpack import check_stored
from kdcache.cache.networks.files.unwrapping import unwrap
from kdcache.cache.visible import shell_line, shell_word

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
KEY_MARK = "#"
METADATA = (
    "kdcache.mean",
    "kdcache.std",
)  # JSON lists in a safetensors header: statistics these weights expect
# Plain records of options: torch may be told to read them, which still runs nothing of the file.
HARMLESS = ("argparse.Namespace", "types.SimpleNamespace")
NUM_CLASSES_SHOWN = 3
MAX_PICKLE = 64 << 20  # bytes of what says which tensors there are
_LEGACY_PICKLES = 5  # of a file of torch before 1.6, before its tensors
DAMAGE = (
    *(RuntimeError, EOFError, OSError, ValueError, AttributeError, KeyError, TypeError, IndexError),
    *(AssertionError, OverflowError, MemoryError, zipfile.BadZipFile),  # a file may spell anything
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsFile:
    """Named tensors and where they came from; mean and std where the file states them. `peeled` says what was
    taken off or left out to get at them, a phrase each."""

    state: Mapping[str, Tensor] = field(repr=False)
    origin: str
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    peeled: tuple[str, ...] = ()


class NamedFile(NamedTuple):
    path: Path
    key: str  # '' where none was named


def named_file(weights: str) -> NamedFile | None:
    """The file or run folder that --weights names; None for a pretrained tag."""
    path = user_path(weights)
    if path.exists():
        return NamedFile(path, "")
    before, mark, key = weights.rpartition(KEY_MARK)
    text = before if mark and key else weights
    path = user_path(text)
    if path.suffix in SUFFIXES or os.sep in text or path.exists():
        return NamedFile(path, key if mark else "")
    return None


def read_weights(path: Path, key: str = "") -> WeightsFile:
    """Raises Missing for no file, BadWeights for one that is damaged, holds code, or holds no named tensors,
    or not the part that `key` names."""
    if not path.is_file():
        raise Missing(
            f"no weights file '{path}'", where="--weights", fix="give the path of a .safetensors or .pt file"
        )
    if path.suffix == ".safetensors":
        return _read_safetensors(path, key)
    state, peeled = unwrap(_read_pickle(path), path, key)
    return WeightsFile(state=state, origin=str(path), peeled=peeled)


def _read_safetensors(path: Path, key: str) -> WeightsFile:
    try:
        with touching("the weights cannot be read", path):
            check_tensor_file(path)
        with touching("the weights cannot be read", path), safe_open(path, framework="pt") as opened:
            header = opened.metadata() or {}
            content = {name: opened.get_tensor(name) for name in opened.keys()}
        mean, std = (_statistics(header[name], name) if name in header else None for name in METADATA)
    except (SafetensorError, ValueError) as damage:
        raise BadWeights(
            f"not a whole safetensors file: {damage}", where=str(path), fix="copy or download it again"
        ) from damage
    state, peeled = unwrap(content, path, key)
    return WeightsFile(state=state, origin=str(path), mean=mean, std=std, peeled=peeled)


def _statistics(text: str, name: str) -> list[float]:
    """Three numbers, one a colour. Raises ValueError for anything else."""
    plain = parse_json(text.encode(), max_bytes=4096)
    numbers = plain if isinstance(plain, list) else []
    if len(numbers) != 3 or not all(type(n) in (int, float) and math.isfinite(n) for n in numbers):
        raise ValueError(f"'{name}' of its header is no list of three numbers: {text[:60]}")
    return [float(n) for n in numbers]


def read_tensors(path: Path) -> object:
    """What torch saved, tensors on the CPU, without running any of it and in no more memory than the file
    has bytes. Raises OSError, ValueError, UnpicklingError, or what torch raises for damage."""
    with open_regular(path) as file:
        if zipfile.is_zipfile(file):
            check_stored(file)
            with zipfile.ZipFile(file) as archive:
                for member in archive.infolist():
                    if member.filename.endswith("/data.pkl"):
                        _check_pickles(archive, member)
        else:
            file.seek(0)
            for _ in range(_LEGACY_PICKLES):
                check_pickle(file)
    return torch.load(path, map_location="cpu", weights_only=True)


def _check_pickles(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    if member.file_size > MAX_PICKLE:
        raise ValueError(f"'{member.filename}' has {member.file_size} bytes, at most {MAX_PICKLE} are read")
    with archive.open(member) as content:
        check_pickle(content)  # type: ignore[arg-type]


def _read_pickle(path: Path) -> object:
    try:
        with touching("the weights cannot be read", path):
            return read_tensors(path)
    except pickle.UnpicklingError as refusal:
        raise _holds_more(path, str(refusal)) from refusal
    except DAMAGE as damage:
        if isinstance(damage, Refused):
            raise
        first = (str(damage).splitlines() or [type(damage).__name__])[0]
        raise BadWeights(
            f"not a readable PyTorch weights file: {first}", where=str(path), fix="copy or download it again"
        ) from damage


def _holds_more(path: Path, refusal: str) -> BadWeights:
    """The error for a pickle with classes, with the line that turns this very file into one of tensors."""
    try:
        classes = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # a pickle of any kind, which only looks like a checkpoint
        classes = []
    shown = ", ".join(classes[:NUM_CLASSES_SHOWN]) or refusal.splitlines()[0]
    shown += f" and {len(classes) - NUM_CLASSES_SHOWN} more" if len(classes) > NUM_CLASSES_SHOWN else ""
    made = path.with_name(f"{path.name.partition('.')[0]}-tensors.pt")
    harmless = bool(classes) and set(classes) <= set(HARMLESS)
    trust = "this line runs nothing of it" if harmless else "if you trust whoever made it, for this runs it"
    return BadWeights(
        f"refused: the file is a pickle that holds more than tensors and could run code ({shown})",
        where=str(path),
        fix=f"keep only the tensors ({trust}): {_conversion(path, made, classes if harmless else [])} "
        f"and then --weights {shell_word(str(made))}",
    )


def _conversion(path: Path, made: Path, harmless: Sequence[str]) -> str:
    """A shell command that writes what is named tensors in one file to another."""
    modules = sorted({name.partition(".")[0] for name in harmless} | {"torch"})
    allow = f"torch.serialization.add_safe_globals([{', '.join(harmless)}]); " if harmless else ""
    program = (
        f"import {', '.join(modules)}; {allow}"
        f'c = torch.load({json.dumps(str(path))}, map_location="cpu", weights_only={bool(harmless)}); '
        'c = getattr(c, "state_dict", lambda: c)(); '
        'd = {k: getattr(v, "state_dict", lambda: v)() for k, v in c.items()}; '
        "torch.save({k: v for k, v in d.items() if torch.is_tensor(v) or isinstance(v, dict) and v and "
        f"all(map(torch.is_tensor, v.values()))}}, {json.dumps(str(made))})"
    )
    return shell_line([_python(), "-c", program])


def _python() -> str:
    """The interpreter that has torch: by its short name where a shell finds this one under it."""
    there = shutil.which("python")
    same = there is not None and Path(there).absolute() == Path(sys.executable).absolute()
    return "python" if same else sys.executable
