"""Run folders as training leaves them, without training: the figures are those of the test."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch

from kdcache.cache.networks.build import build_network
from kdcache.cache.networks.network import Network
from kdcache.cache.networks.run_card import RunCard, save_run_network
from kdcache.cache.tasks.table import SEGMENTATION
from kdcache.trainer.config import TrainConfig, write_config
from kdcache.trainer.folder.environment import describe_environment, write_environment
from kdcache.trainer.folder.metrics_log import MetricsLog
from kdcache.trainer.folder.scores import write_scores

CLASSES = ("sky", "ground", "thing")
STEPS, BATCH = 40, 4
NETWORK = "tiny_teacher:make"


@cache
def network(classes: tuple[str, ...] = CLASSES) -> Network:
    """Some student with fixed weights: always the same object, not to be changed."""
    return build_network(
        NETWORK, task=SEGMENTATION, num_classes=len(classes), role="student", output_stride=8, weights=None
    )


def write_run(
    home: Path,
    name: str,
    score: float | None,
    *,
    loss: str = "kd",
    seed: int = 0,
    test: float | None = None,
    classes: tuple[str, ...] = CLASSES,
    data: str | None = None,
    of: str = "folder:/data",
    finished: bool = True,
    taps: tuple[str, ...] = ("logits",),
    **options: Any,
) -> Path:
    """A run of `STEPS` steps whose best validation was at step 20. `data` are fresh views, else the views of
    'cache', which are `of` some data; `test` is what it was judged to have on test."""
    run_dir = home / "runs" / name
    run_dir.mkdir(parents=True)
    pixels = {"data": data} if data else {"cache": "cache"}
    options = {"steps": STEPS, "batch_size": BATCH, "student": "r18", "log": "none", **pixels, **options}
    write_config(run_dir, TrainConfig(run=name, loss=loss, seed=seed, **options), {})
    entries = {} if loss == "none" or data else {f"tap/{tap}": "d" for tap in taps}
    write_environment(
        run_dir,
        describe_environment(torch.device("cpu"), world=1),
        {"entries": {"cache": "cache", **entries}},
    )
    _write_metrics(run_dir, score, classes)
    _write_student(run_dir, score, classes, data or of, finished=finished)
    if test is not None:
        per_class = {one: test for one in classes}
        write_scores(run_dir, "test", {"miou": test, "per_class_iou": per_class, "num_images": 2})
    return run_dir


def _write_student(
    run_dir: Path, score: float | None, classes: tuple[str, ...], data: str, *, finished: bool
) -> None:
    best: Mapping[str, float] = {} if score is None else {"best/step": 20, "best/miou": score}
    card = RunCard(
        network={},
        data=data,
        class_names=classes,
        crop=(32, 32),
        output_stride=8,
        metrics={**best, **({"final/step": STEPS} if finished else {})},
    )
    save_run_network(run_dir, network(classes), card)


def _write_metrics(run_dir: Path, score: float | None, classes: tuple[str, ...]) -> None:
    log = MetricsLog(run_dir, keep_until=0)
    for step in range(1, STEPS + 1):
        loss = {"total": 9.0, "task.logits": 0.1 / step, "kd": 3.0}
        bare = {"task.logits": 1.0 / step, "task.aux": 0.5, "kd": 3.0}
        log.write(step, {"loss": loss, "unweighted": bare, "steps_per_s": 2.0})
        if score is not None and step % 20 == 0:
            reached = score if step == 20 else score - 0.05
            log.write(
                step, {"split": "val", "miou": reached, "per_class_iou": dict.fromkeys(classes, reached)}
            )
    log.close()
