"""Judge the exported student of a run on a split of its own data, and keep the figures with the run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdcache.trainer.config import MachineOptions
from kdcache.trainer.folder.scores import write_scores
from kdcache.trainer.judge.metrics import plain
from kdcache.trainer.run import Judged, evaluate_run


def judge_and_keep(
    run_dir: Path, *, home: Path, split: str, device: str, threads: int | None
) -> Mapping[str, Any]:
    """The figures, also in `scores/<split>.json`. `threads` decode images; None: as many as a run has.

    Raises KdError for a run without a student, and for a split that its data do not have.
    """
    threads = MachineOptions.threads if threads is None else threads
    judged = evaluate_run(str(run_dir), home=home, data=None, split=split, device=device, threads=threads)
    record = judged_record(judged, split, None)
    write_scores(run_dir, split, record)
    return record


def judged_record(judged: Judged, split: str, exit_number: int | None) -> dict[str, Any]:
    """Figures as plain values; what cannot be said, such as of a class that never occurs, is null."""
    metrics = judged.metrics
    classes, figures = plain(metrics.per_class), plain(metrics.named())
    chosen = {} if exit_number is None else {"exit": exit_number}
    return {
        "data": judged.data,
        "split": split,
        **chosen,
        **figures,
        metrics.per_class_key: classes,
        "num_images": metrics.num_images,
    }
