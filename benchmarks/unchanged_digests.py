"""Digests of what the commands of benchmarks/unchanged.py left in their homes.

Files are taken byte for byte, except that

* in texts (JSON, TOML) the folder of the whole proof is written as ROOM, and the name of a piece of kdcache's
  own code without its module ('kdcache.losses.features.at:attention_map' -> 'attention_map'), because modules
  move without a change for anybody;
* for the same reason the id of a pass that stores a reduced tap is replaced by the names of its targets: it
  is a digest over that module's name, and stands in file names, records and the manifest, whose keys are
  sorted again. Ids of other passes stay as they are;
* of a checkpoint's part every tensor and value is taken, with type and shape, not the file's own bytes:
  pickles of equal values differ in how often they write a text that stands in them twice;
* `metrics.jsonl` goes without the two figures of speed and the check of a line, `environment.json`
  without versions and machine.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

LEFT_OUT = {
    ".lock": "held by a training run, empty",
    "build.lock": "held by a build, empty",
    "digests.json": "of a checkpoint: digests of the parts' bytes; the parts are compared by value",
}
TIMING = ("steps_per_s", "wait_share", "check")  # the last is over the whole line, these two included
TEXTS = (".json", ".toml", ".jsonl")
_CODE = re.compile(r"\bkdcache(?:\.\w+)+[:.](\w+)")


def digests_of(room: Path, homes: list[str]) -> dict[str, str]:
    """Digest of every file by its path, and of every cache as a whole."""
    drawn = {_label(room, p): digest(p.read_bytes()) for p in _files(room / "demo")}
    entries = {"demo (all files)": _whole(drawn)}
    for home in homes:
        caches = sorted((room / home / "caches").glob("*/manifest.json"))
        for manifest in caches:
            inside = dict(_cache_files(room, manifest.parent))
            entries |= {**inside, f"{home}/caches/{manifest.parent.name} (all files)": _whole(inside)}
        reduced = _reduced_taps(caches)
        for run in sorted(path for path in (room / home / "runs").iterdir() if not path.is_symlink()):
            entries |= dict(_run_files(room, run, reduced))
        entries |= {_label(room, p): digest(_text(room, p)) for p in _files(room / home / "eval")}
    return entries


def digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _whole(files: dict[str, str]) -> str:
    return digest(json.dumps(files, sort_keys=True).encode())


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in LEFT_OUT)


def _label(room: Path, path: Path) -> str:
    return path.relative_to(room).as_posix()


def _text(room: Path, path: Path) -> bytes:
    return _CODE.sub(r"\1", path.read_text().replace(str(room), "ROOM")).encode()


def _cache_files(room: Path, cache: Path) -> Iterator[tuple[str, str]]:
    renamed = _renamed_passes(cache)

    def with_names(text: str) -> str:
        for pass_id, name in renamed.items():
            text = text.replace(pass_id, name)
        return text

    for path in _files(cache):
        content = path.read_bytes()
        if path.suffix in TEXTS:
            text = with_names(_text(room, path).decode())
            in_order = path.name == "manifest.json"
            content = (json.dumps(json.loads(text), sort_keys=True) if in_order else text).encode()
        yield with_names(_label(room, path)), digest(content)


def _reduced_taps(manifests: list[Path]) -> set[str]:
    read = [json.loads(manifest.read_text()) for manifest in manifests]
    return {tap["name"] for manifest in read for tap in manifest["taps"] if tap["reduction"]}


def _renamed_passes(cache: Path) -> dict[str, str]:
    passes = json.loads((cache / "manifest.json").read_text())["passes"]
    reduced = _reduced_taps([cache / "manifest.json"])
    return {key: f"pass({'+'.join(names)})" for key, names in passes.items() if reduced & set(names)}


def _run_files(room: Path, run: Path, reduced: set[str]) -> Iterator[tuple[str, str]]:
    """The last checkpoint holds everything that the run would continue with."""
    last = max(run.glob("checkpoints/step-*"))
    readers: dict[str, Callable[[Path], bytes]] = {
        "metrics.jsonl": _metrics,
        "environment.json": lambda path: _stream(path, reduced),
    }
    for path in _files(run):
        if path.is_relative_to(run / "checkpoints") and not path.is_relative_to(last):
            continue
        if path.suffix == ".pt":
            content = _state(path)
        elif path.name in readers:
            content = readers[path.name](path)
        else:
            content = _text(room, path) if path.suffix in TEXTS else path.read_bytes()
        yield _label(room, path), digest(content)


def _metrics(path: Path) -> bytes:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    kept = [{key: value for key, value in line.items() if key not in TIMING} for line in lines]
    return "\n".join(json.dumps(line) for line in kept).encode()


def _stream(path: Path, reduced: set[str]) -> bytes:
    """What the run read; the digest of a reduced tap is over its module's name too."""
    stream = json.loads(path.read_text())["stream"]
    for tap in reduced & {name.removeprefix("tap/") for name in stream.get("entries", {})}:
        stream["entries"][f"tap/{tap}"] = "reduced"
    return json.dumps(stream, sort_keys=True).encode()


def _state(path: Path) -> bytes:
    leaves = _leaves(torch.load(path, map_location="cpu", weights_only=True), "")
    return "\n".join(f"{name} {leaf}" for name, leaf in leaves).encode()


def _leaves(value: Any, name: str) -> Iterator[tuple[str, str]]:
    """Every tensor and plain value of nested containers, in their order."""
    if isinstance(value, torch.Tensor):
        numbers = value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        yield name, f"{value.dtype} {tuple(value.shape)} {digest(numbers)}"
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}/{key!r}")
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{name}/{number}")
    else:
        yield name, f"{type(value).__name__} {value!r}"
    if isinstance(value, dict | list | tuple) and not value:
        yield name, type(value).__name__
