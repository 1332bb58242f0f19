"""Our side of benchmarks/peers.py: caches whose rows have the sizes that are compared, and how a batch is
read.

Batches are read by `Cache.gather` where the reader has it, else row by row. The rows of the other stores are
those of these caches, so that all of them hold the same numbers.
"""

import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from peers_stores import Batch, Like, save_table, stacked

CLASSES = 10


class Size(NamedTuple):
    """One size of rows: which cache and target, how many rows in full and in a small run."""

    title: str
    cache: str
    target: str
    rows: int
    small_rows: int


SIZES = {
    "map": Size("45x60x256 int8", "wide", "stage4", 192, 6),
    "last map": Size("7x7x512 fp16", "pooled", "stage4", 4096, 80),
    "logits": Size("10 logits fp16", "pooled", "logits", 4096, 80),
}


def caches(work: str, small: bool) -> dict[str, str]:
    """Build both caches below `work`; their roots by name."""
    rows = {one.cache: one.small_rows if small else one.rows for one in SIZES.values()}
    return {
        "wide": str(_wide(Path(work), rows["wide"])),
        "pooled": str(_pooled(Path(work), rows["pooled"])),
    }


def _wide(work: Path, rows: int) -> Path:
    from bench_cache import DRAWN_SIZE, data_spec, wide_cache

    return wide_cache(work, data_spec(None, work, rows), views="full", crop=DRAWN_SIZE).root


def _pooled(work: Path, rows: int) -> Path:
    from kdcache.cache.build.build import build_cache
    from kdcache.cache.build.options import BuildOptions, parse_tap
    from kdcache.cache.trust import trust

    trust("peers_teacher")
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    return build_cache(
        BuildOptions(
            runs_dir=work / "runs",
            caches_dir=work / "caches-pooled",
            data=f"npz:{drawn_images(work, rows)}",
            views="full",
            crop=(56, 56),
            taps=(parse_tap("stage4=fp16"), parse_tap("logits=fp16")),
            teacher="peers_teacher:make",
            split="trainval",
        )  # fmt: skip
    ).root


def drawn_images(work: Path, rows: int, side_px: int = 56) -> Path:
    """An npz file of noise in ten classes; returns its path."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (rows, side_px, side_px, 3), np.uint8)
    labels = (np.arange(rows) % CLASSES).astype(np.uint8)
    file = work / f"drawn{side_px}.npz"
    np.savez(file, x_train=images, y_train=labels, x_test=images[:CLASSES], y_test=labels[:CLASSES])
    return file


def export(root: str, target: str, folder: str) -> int:
    """The rows of a target as a table below `folder`; returns how many."""
    cache = _open(root)
    rows = [cache.parts(target, index, 0) for index in range(cache.num_samples)]
    save_table({name: np.stack([row[name] for row in rows]) for name in rows[0]}, Path(folder))
    return len(rows)


def target_folder(root: str, target: str) -> Path:
    """Where the rows of a target lie; views and labels, which no other store keeps, lie elsewhere."""
    cache = _open(root)
    folder: Path = cache.root / "targets.zarr" / cache.manifest.teacher / target
    return folder


def reader(root: str, target: str, like: Like) -> tuple[Batch, str]:
    """How a batch of a target is read, and by what in words."""
    cache = _open(root)
    if not hasattr(cache, "gather"):
        return stacked(lambda index: cache.parts(target, index, 0), like), "Cache.parts, row by row"

    def batch(indices: np.ndarray) -> dict[str, np.ndarray]:
        out = like.empty(len(indices))
        rows = cache.row_batch(indices, np.zeros_like(indices))
        for name, values in out.items():
            cache.gather(target, rows, name, values)
        return out

    return batch, "Cache.gather, a batch at once"


def _open(root: str) -> Any:
    from kdcache.cache.reader.cache import open_cache
    from kdcache.cache.trust import trust

    for module in ("wide_teacher", "peers_teacher"):
        trust(module)
    return open_cache(Path(root))
