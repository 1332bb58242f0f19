"""How far a run is: derived from its folder each time, stored nowhere."""

import fcntl
from pathlib import Path
from typing import NamedTuple

from kdcache.cache.networks.run_card import CARD, read_run_card
from kdcache.trainer.config import read_config
from kdcache.trainer.folder.checkpoint import list_checkpoints
from kdcache.trainer.folder.run_folder import CONFIG_NAME
from kdcache.trainer.judge.judge import judge_of

FINISHED, RUNNING, STOPPED, NOT_BEGUN = "finished", "running", "stopped", "not begun"


class RunState(NamedTuple):
    """`best` is the score of the best student, a ratio in 0..1, and `metric` its name; None without one."""

    word: str
    step: int  # finished steps that are known of
    steps: int | None  # that the run is to make
    best: float | None
    metric: str


def state_of(run_dir: Path) -> RunState:
    """Raises KdError for a run whose files cannot be read."""
    if not (run_dir / CONFIG_NAME).is_file():
        return RunState(NOT_BEGUN, 0, None, None, "")
    steps = read_config(run_dir).steps
    checkpoints = list_checkpoints(run_dir)
    step = int(checkpoints[-1].name.rpartition("-")[2]) if checkpoints else 0
    best, metric, reached = None, "", False
    if (run_dir / CARD).is_file():
        card = read_run_card(run_dir)
        metric = judge_of(card.task, card.class_names).score_name
        best = card.metrics.get(f"best/{metric}")
        reached = card.metrics.get("final/step") == steps
    if reached:
        return RunState(FINISHED, int(steps or 0), steps, best, metric)
    return RunState(RUNNING if _is_held(run_dir) else STOPPED, step, steps, best, metric)


def _is_held(run_dir: Path) -> bool:
    try:
        with (run_dir / ".lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False
