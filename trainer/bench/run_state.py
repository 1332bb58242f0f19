"""How far a run is, from what lies in its folder: no figure of it is stored twice. Light, no torch.

finished: the student is exported and the last step was reached. running: a process holds the run. stopped: it
began and has no end. not begun: there is no run of that name.
"""

import fcntl
import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

from kdcache.cache.errors import BadWeights, Refused
from kdcache.cache.files.plain_json import MAX_BYTES
from kdcache.cache.files.regular import read_regular
from kdcache.cache.files.seal import opened_text
from kdcache.cache.files.system import touching
from kdcache.trainer.config import read_config
from kdcache.trainer.folder.metrics_log import METRICS_BYTES, METRICS_NAME
from kdcache.trainer.folder.run_folder import CONFIG_NAME, LOCK_NAME

# As run_card.py and checkpoint.py write them, which load torch; a test compares.
CARD, CHECKPOINTS, UNSEALED = "network.json", "checkpoints", 1
_CHECKPOINT = re.compile(r"step-(\d{8,})")
_JUDGED = b'"split": "val"'

Word = Literal["finished", "running", "stopped", "failed", "not begun"]


class RunState(NamedTuple):
    """`best` is the best validation score, named by `metric`; None and '' before the first one."""

    word: Word
    step: int
    steps: int
    best: float | None
    metric: str


def state_of(run_dir: Path) -> RunState:
    """Raises BadOption and BadWeights for files of a run that cannot be read, Refused."""
    if not (run_dir / CONFIG_NAME).is_file():
        return RunState("running" if is_held(run_dir) else "not begun", 0, 0, None, "")
    steps = read_config(run_dir).steps
    lines = _lines(run_dir)
    metric, best = _best(lines)
    card = card_of(run_dir)
    metrics = card["metrics"] if card is not None else {}
    if metrics.get("final/step") == steps and not is_held(run_dir):
        return RunState("finished", steps, steps, metrics.get(f"best/{metric}", best), metric)
    step = max(_last_step(lines), _checkpointed(run_dir))
    return RunState("running" if is_held(run_dir) else "stopped", step, steps, best, metric)


def is_held(run_dir: Path) -> bool:
    """Whether a process of this machine, or of one that shares its locks, trains this run now."""
    path = run_dir / LOCK_NAME
    if not path.is_file():
        return False
    with touching("the lock of the run cannot be read", path), path.open("rb") as lock:
        try:  # shared, and given back at once: whoever begins the run meanwhile tries more than once
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def card_of(run_dir: Path) -> dict[str, Any] | None:
    """A run's card as JSON has it; None for a run that exported nothing. Raises BadWeights."""
    path = run_dir / CARD
    if not path.is_file():
        return None
    try:
        card = opened_text(read_regular(path, MAX_BYTES), unsealed=UNSEALED)
        if not isinstance(card.get("metrics"), dict):
            raise ValueError("its metrics are no table")
        return card
    except Refused:
        raise
    except (OSError, ValueError) as error:
        raise BadWeights(
            f"the run's description cannot be read: {error}",
            where=str(path),
            fix="put the file back as it was, or train the run again under another name (--run NAME)",
        ) from error


def _lines(run_dir: Path) -> list[bytes]:
    """Whole lines of figures; damage of one is said by who continues the run."""
    path = run_dir / METRICS_NAME
    if not path.is_file():
        return []
    with suppress(ValueError):
        return read_regular(path, METRICS_BYTES).split(b"\n")[:-1]
    return []


def _best(lines: list[bytes]) -> tuple[str, float | None]:
    """Name and value of the best score. A judge writes the figure that decides first."""
    metric, values = "", []
    for line in lines:
        if _JUDGED in line and (record := _record(line)):
            names = [name for name in record if name not in ("step", "split")]
            metric = names[0] if names else metric
            value = record.get(metric)
            values += [value] if isinstance(value, float) and value == value else []
    return metric, max(values, default=None)


def _last_step(lines: list[bytes]) -> int:
    step = _record(lines[-1]).get("step", 0) if lines else 0
    return step if isinstance(step, int) else 0


def _record(line: bytes) -> dict[str, Any]:
    with suppress(ValueError, RecursionError):
        record = json.loads(line)
        if isinstance(record, dict):
            return record
    return {}


def _checkpointed(run_dir: Path) -> int:
    folder = run_dir / CHECKPOINTS
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return max((int(match[1]) for name in names if (match := _CHECKPOINT.fullmatch(name))), default=0)
