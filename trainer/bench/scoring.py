"""Scores of a finished run on a split, kept beside its student."""

from collections.abc import Mapping
from math import isnan
from pathlib import Path
from typing import Any

from kdcache.cache.files.seal import sealed_text
from kdcache.cache.files.system import touching
from kdcache.cache.networks.run_card import read_run_card
from kdcache.trainer.config import MachineOptions
from kdcache.trainer.folder.atomic_file import write_text
from kdcache.trainer.run import evaluate_run


def judge_and_keep(
    run_dir: Path, *, home: Path, split: str, device: str, threads: int | None
) -> Mapping[str, Any]:
    """Judge the student of a run on the whole split and keep the figures in `scores/<split>.json`.

    Raises KdError for what is not there.
    """
    judged = evaluate_run(
        str(run_dir),
        home=home,
        data=None,
        split=split,
        device=device,
        threads=MachineOptions.threads if threads is None else threads,
    )
    metrics = judged.metrics
    figures = {name: None if isnan(value) else value for name, value in metrics.named().items()}
    classes = {name: None if isnan(value) else value for name, value in metrics.per_class.items()}
    student = read_run_card(run_dir).weights_digest
    kept = {"data": judged.data, "split": split, **figures, metrics.per_class_key: classes}
    kept |= {"num_images": metrics.num_images, "student": student}
    path = run_dir / "scores" / f"{split}.json"
    with touching("the scores could not be kept", path):
        path.parent.mkdir(exist_ok=True)
    write_text(path, sealed_text(kept))
    return kept
