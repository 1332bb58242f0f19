"""What a run wrote while it trained, thinned out for a picture."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kdcache.cache.errors import KdError
from kdcache.trainer.folder.metrics_log import METRICS_NAME, read_metrics

MOST_POINTS = 60  # of a curve
_PER_CLASS = "per_class_"
TASK = "task"  # the supervised term, of one meaning for every method


class Curves(NamedTuple):
    """Of one run; steps count finished ones."""

    val: list[tuple[int, float]]  # step, score as a ratio
    supervised: list[tuple[int, float]]  # step, mean of the supervised loss over the steps since the last
    classes: Mapping[str, float | None]  # of the student that val chose
    seconds: float | None  # of all steps, validation and saving left out
    class_word: str = ""  # what `classes` are: 'iou', 'accuracy'
    note: str = ""


def read_curves(run_dir: Path, metric: str) -> Curves:
    """Without a log, or with one that was changed, nothing, and a note."""
    if not (run_dir / METRICS_NAME).is_file():
        return Curves([], [], {}, None)
    try:
        lines = read_metrics(run_dir)
    except KdError as error:
        return Curves([], [], {}, None, note=f"the curves of run '{run_dir.name}' are left out: {error.what}")
    judged = [line for line in lines if line.get("split") == "val" and _is_figure(line.get(metric))]
    steps = [line for line in lines if "loss" in line]
    rates = [line["steps_per_s"] for line in steps if line.get("steps_per_s")]
    best: Mapping[str, Any] = max(judged, key=lambda line: (line[metric], -line["step"]), default={})
    key = next((name for name in best if name.startswith(_PER_CLASS)), "")
    return Curves(
        val=[(line["step"], line[metric]) for line in judged],
        supervised=_thinned(
            [(line["step"], loss) for line in steps if (loss := _supervised(line)) is not None]
        ),
        classes=best.get(key, {}),
        seconds=sum(1 / rate for rate in rates) if rates else None,
        class_word=key.removeprefix(_PER_CLASS),
    )


def _supervised(line: Mapping[str, Any]) -> float | None:
    """The sum of the supervised parts without their weights, which methods choose for themselves."""
    parts = [value for name, value in line.get("unweighted", {}).items() if name.partition(".")[0] == TASK]
    return sum(parts) if parts and all(map(_is_figure, parts)) else None


def _is_figure(value: object) -> bool:
    return isinstance(value, float | int) and math.isfinite(value)


def _thinned(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Means of neighbours, so that at most `MOST_POINTS` are left."""
    size = max(1, math.ceil(len(points) / MOST_POINTS))
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(group[-1][0], sum(value for _, value in group) / len(group)) for group in groups]
