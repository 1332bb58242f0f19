"""`$KDCACHE_WEIGHTS`: a folder that is searched for pretrained weights before anything is downloaded.

A file is found by the name that timm or torchvision gives it: that of its address
('resnet50_a1_0-14fe96d1.pth'), timm's own with a tag ('resnet18.a1_in1k.safetensors'; of the default weights
the architecture alone will do), or as the hub keeps it ('timm/resnet18.a1_in1k/model.safetensors', also
below the client's 'models--timm--resnet18.a1_in1k/snapshots'). Eight hexadecimal digits at the end of a name
are the beginning of the file's SHA-256, and are compared.
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import timm

from kdcache.cache.errors import BadOption, BadWeights
from kdcache.cache.files.system import user_path
from kdcache.cache.networks.files.weights_file import SUFFIXES, WeightsFile, read_weights
from kdcache.cache.networks.run_card import file_digest

VARIABLE = "KDCACHE_WEIGHTS"
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")
_DIGEST = re.compile(r"-([0-9a-f]{8,64})\.[a-z]+\Z")


def weights_folder() -> Path | None:
    """The folder, None where the variable is not set. Raises BadOption for one that is not there."""
    text = os.environ.get(VARIABLE)
    if not text:
        return None
    folder = user_path(text)
    if not folder.is_dir():
        raise BadOption(f"${VARIABLE} names no folder", where=text, fix=f"make it, or unset {VARIABLE}")
    return folder


def own_weights(names: Sequence[str]) -> WeightsFile | None:
    """The first of these files that the folder holds, None for none. Raises BadWeights for a damaged one."""
    folder = weights_folder()
    if folder is None:
        return None
    for path in _candidates(folder, names):
        if path.is_file():
            _check_digest(path)
            read = read_weights(path)
            return replace(read, peeled=(f"from {path}", *read.peeled))  # said where the weights are
    return None


def timm_files(timm_name: str, *, default: bool) -> tuple[str, ...]:
    """Names of the files of 'resnet18.a1_in1k', the likeliest first; `default`: the tag is timm's choice."""
    recorded = timm.get_pretrained_cfg(timm_name)
    architecture = timm_name.partition(".")[0]
    if recorded is None:
        return tuple(f"{architecture}{suffix}" for suffix in SUFFIXES)
    whole = f"{architecture}.{recorded.tag}" if recorded.tag else architecture
    names = [f"{whole}{suffix}" for suffix in SUFFIXES]
    names += [name_of(recorded.url)] if recorded.url else []
    if hub := recorded.hf_hub_id:
        files = (recorded.hf_hub_filename,) if recorded.hf_hub_filename else _HUB_FILES
        names += [f"{place}/{file}" for place in (hub, hub.rpartition("/")[2]) for file in files]
        names += [f"models--{hub.replace('/', '--')}/snapshots/*/{file}" for file in files]
    names += [f"{architecture}{suffix}" for suffix in SUFFIXES] if default else []
    return tuple(dict.fromkeys(names))


def name_of(url: str) -> str:
    return url.rpartition("/")[2]


def how_to_put(names: Sequence[str]) -> str:
    """What to do with a file that was fetched elsewhere: the likeliest names, and where to."""
    set_now = os.environ.get(VARIABLE)
    place = f"into {set_now}" if set_now else f"into a folder, and export {VARIABLE}=FOLDER"
    plain = [name for name in names if "*" not in name and "/" not in name]
    shown = [plain[0], *[name for name in plain[1:] if _DIGEST.search(name)][:1]]
    return f"put the file {' or '.join(shown)} {place}"


def _candidates(folder: Path, names: Sequence[str]) -> Iterator[Path]:
    for name in names:
        if "*" in name:
            yield from sorted(folder.glob(name))
        else:
            yield folder / name


def _check_digest(path: Path) -> None:
    match = _DIGEST.search(path.name)
    if match and not (digest := file_digest(path)).startswith(match[1]):
        raise BadWeights(
            f"not the file of that name: its SHA-256 begins with {digest[: len(match[1])]}",
            where=str(path),
            fix="copy or download it again, or give it another name and pass it with --weights FILE",
        )
