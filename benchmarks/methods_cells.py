"""What the methods benchmark runs: per dataset a teacher, the caches, and one cell per method and seed."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kdcache.cache.build.options import BuildOptions, parse_tap

FIVE, SEEDS = 5, (0, 1, 2)
STEPS, BATCH = 600, 64
STUDENT = "resnet8"
SETS = ("cifar", "fashion")
NUM_TRAIN, NUM_TEST = 5000, 5000  # of Fashion-MNIST; the npz source holds 10 % of the training rows back
# Published warm-ups and memories are of 240 epochs of 50000 images; these runs have 8.5 epochs of 4500.
CACHED = {
    "kd": "kd",
    "dkd": "dkd(warmup=1)",
    "nkd": "nkd",
    "dist": "dist",
    "tfkd-reg": "tfkd-reg",
    "label-smoothing": "label-smoothing",
    "kd-topk": "kd-topk",
    "kd-pt": "kd-pt",
    "kd-sim": "kd-sim",
    "fitnet": "fitnet",
    "at": "at",
    "rkd-d": "rkd-d",
    "rkd-a": "rkd-a",
    "rkd": "rkd",
    "crd": "crd(negatives=1024)",
    "reviewkd": "reviewkd(warmup=1)",
    "pkd": "pkd(taps=stage3)",
    "mgd": "mgd(tap=stage3)",
}
SSKD: dict[str, Any] = {"cache": "build-turns", "init": "sskd-head-0", "weights": None}
NO_CACHE = {
    "dml": "dml",
    "okddip": "okddip(length=3)",
    "one": "one(length=3)",
    "cl-ilr": "cl-ilr(length=3)",
    "byot": "byot(exits=2)",
}


class Set(NamedTuple):
    """One dataset: what --data says, the teacher's options (a run of the first cell, or weights)."""

    name: str
    data: str
    teacher: str
    weights: str | None
    teacher_run: dict[str, Any] | None


class Cell(NamedTuple):
    """One build, or one run by the options that the command line would give."""

    name: str
    method: str
    group: str  # teacher, build, none, cached, no-cache, stage
    text: str
    options: dict[str, Any]
    build: Callable[[Path], BuildOptions] | None = None


def prepare(name: str, folder: Path, weights: Path | None, home: Path) -> Set:
    """The dataset's facts; Fashion-MNIST is cut to its first rows once, as an npz beside the runs."""
    if name == "cifar":
        assert weights is not None, "--weights DIR with cifar_resnet56.safetensors"
        file = weights / "cifar_resnet56.safetensors"
        return Set(name, f"npz:{folder.resolve()}", "resnet56a", str(file.resolve()), None)
    small = home / "fashion.npz"
    if not small.is_file():
        np.savez(small, **_first_rows(folder))
    teacher = {"student": "resnet20", "loss": "none", "data": f"fashion-mnist:{folder.resolve()}"}
    run = teacher | {"steps": 2400, "lr": 0.1, **_common(0)}
    return Set(name, f"npz:{small.resolve()}", "teacher-0", None, run | {"eval_every": None})


def first_cells(chosen: Set) -> list[Cell]:
    """Teacher, caches, `none`, every method once. Methods without a cache train on fresh views."""
    cells = []
    if chosen.teacher_run is not None:
        cells.append(_run("teacher", "teacher", 0, chosen.teacher_run))
    taps = ["stage1", "stage2", "stage3", "pre1", "pre2", "pre3", "embedding", "logits"]
    cells.append(_build("build", chosen, taps=taps, views="crops:4"))
    fresh = {"data": chosen.data}
    cells += [_student("none-fresh", "none", "none", 0, fresh), _cached("none-stored", "none", 0, "none")]
    cells += [_cached(method, loss, 0) for method, loss in CACHED.items()]
    cells.append(_build("build-self", chosen, taps=["logits"], views="crops:4", teacher="none-fresh-0"))
    cells.append(_cached("tfkd-self", "tfkd-self", 0, cache="build-self"))
    cells.append(_build("build-turns", chosen, taps=["embedding", "logits"], views="turns:1"))
    cells.append(_cached("sskd-head", "sskd(stage=head)", 0, "stage", cache="build-turns", steps=200))
    cells.append(_cached("sskd", "sskd", 0, **SSKD))
    cells += [_student(method, loss, "no-cache", 0, fresh) for method, loss in NO_CACHE.items()]
    online = fresh | {"online": True, "teacher": chosen.teacher, "teacher_weights": chosen.weights}
    cells.append(_student("dafl", "dafl", "no-cache", 0, online))
    return cells


def seed_cells(chosen: Set, best: list[str]) -> list[Cell]:
    """Two more seeds of `none` and of the best methods."""
    cells = []
    for seed in SEEDS[1:]:
        cells.append(_student("none-fresh", "none", "none", seed, {"data": chosen.data}))
        cells.append(_cached("none-stored", "none", seed, "none"))
        for method in best:
            extra = SSKD if method == "sskd" else {}
            extra = {"cache": "build-self"} if method == "tfkd-self" else extra
            cells.append(_cached(method, CACHED.get(method, method), seed, **extra))
    return cells


def _common(seed: int) -> dict[str, Any]:
    shared = {"batch_size": BATCH, "weights": "none", "seed": seed, "log": "none", "save_every": 200}
    return shared | {"nesterov": True, "weight_decay": 5e-4, "device": "cpu"}


def _student(method: str, loss: str, group: str, seed: int, more: dict[str, Any]) -> Cell:
    options = {"student": STUDENT, "loss": loss, "steps": STEPS, "lr": 0.05, **_common(seed), **more}
    options["eval_every"] = STEPS // 4
    return _run(method, group, seed, options)


def _cached(
    method: str, loss: str, seed: int, group: str = "cached", cache: str = "build", **more: Any
) -> Cell:
    """`cache` names the build; the script puts its path in."""
    return _student(method, loss, group, seed, {"cache": cache, **more})


def _run(method: str, group: str, seed: int, options: dict[str, Any]) -> Cell:
    written = {name: value for name, value in options.items() if value is not None}
    words = [_flag(name, value) for name, value in written.items()]
    return Cell(f"{method}-{seed}", method, group, f"kdtrain {' '.join(words)}", written)


def _build(name: str, chosen: Set, *, taps: list[str], views: str, teacher: str | None = None) -> Cell:
    """A folder of caches for each build: a cache's own name is a digest."""
    source = teacher or chosen.teacher
    weights = None if teacher else chosen.weights

    def options(home: Path) -> BuildOptions:
        return BuildOptions(
            runs_dir=home / "runs",
            caches_dir=home / name,
            teacher=source,
            data=chosen.data,
            weights=weights,
            views=views,
            taps=tuple(parse_tap(tap) for tap in taps),
            batch_size=128,
        )

    text = f"kdcache build --teacher {source} --data {chosen.data} --views {views}"
    return Cell(name, name, "build", text + "".join(f" --tap {tap}" for tap in taps), {}, options)


def _flag(name: str, value: object) -> str:
    flag = "--" + name.replace("_", "-")
    return flag if value is True else f"{flag} '{value}'" if "(" in str(value) else f"{flag} {value}"


def _first_rows(folder: Path) -> dict[str, np.ndarray]:
    """The first images of each split from the idx files; the sources have their own, strict reader."""
    found = {}
    for split, prefix, count in (("train", "train", NUM_TRAIN), ("test", "t10k", NUM_TEST)):
        images = gzip.decompress((folder / f"{prefix}-images-idx3-ubyte.gz").read_bytes())
        labels = gzip.decompress((folder / f"{prefix}-labels-idx1-ubyte.gz").read_bytes())
        pixels = np.frombuffer(images, np.uint8, count * 784, 16).reshape(count, 28, 28)
        found |= {f"x_{split}": pixels, f"y_{split}": np.frombuffer(labels, np.uint8, count, 8)}
    return {name: value.astype(np.int64) if name[0] == "y" else value for name, value in found.items()}
