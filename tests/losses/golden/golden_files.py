"""Which adapter serves which file of golden vectors, in any folder that holds some."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import golden_dense
import golden_detection
import golden_features
import golden_logits
import golden_peers
import numpy as np

ADAPTERS = {
    **golden_dense.ADAPTERS,
    **golden_detection.ADAPTERS,
    **golden_logits.ADAPTERS,
    **golden_features.ADAPTERS,
    **golden_peers.ADAPTERS,
}
TASKS = ("segmentation", "classification", "detection")
# Not cases: an adapter reads them beside its own file.
WEIGHTS = ("segmentation/skds_holistic_weights", "segmentation/skds_cond_weights")
# Too large to store: tests/losses/dense/test_skds_conditional.py gives the adapter a file that a slow formula
# made.
NOT_STORED = ("segmentation/skds_holistic_conditional",)


class GoldenFile(NamedTuple):
    path: Path
    method: str  # 'segmentation/cwd', by which ADAPTERS knows it; or a name that nothing knows


def files_of(root: Path) -> Iterator[GoldenFile]:
    """Every npz file below a folder that holds cases, one that no adapter knows too."""
    for path in sorted(root.rglob("*.npz")):
        method = method_of(path)
        if method not in WEIGHTS:
            yield GoldenFile(path, method)


def method_of(path: Path) -> str:
    """By the folder that is named after a task; elsewhere by the file's name, and its keys where two tasks
    have a file of that name.
    """
    if path.parent.name in TASKS:
        return f"{path.parent.name}/{path.stem}"
    known = [name for name in (*ADAPTERS, *WEIGHTS) if name.endswith(f"/{path.stem}")]
    if len(known) < 2:
        return known[0] if known else f"unknown/{path.stem}"
    with np.load(path, allow_pickle=False) as archive:
        dotted = any(".in." in key for key in archive)
    return next(name for name in known if dotted != name.startswith("segmentation/"))
