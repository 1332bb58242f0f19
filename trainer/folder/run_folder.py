"""The folder of one run: who may write it, and which runs lie beside it.

`runs/<name>/{config.toml, network.json, student.safetensors, metrics.jsonl, environment.json, checkpoints/}`.
A folder is made once; continuing it takes --resume, and one process at a time holds it.
"""

import fcntl
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from kdcache.cache.errors import BadOption, Busy, Missing, nearest
from kdcache.cache.files.system import touching
from kdcache.cache.visible import shell_word
from kdcache.trainer.folder.metrics_log import METRICS_NAME

CONFIG_NAME = "config.toml"
LOCK_NAME = ".lock"
# Whoever lists runs asks for the lock for a moment: that is no reason to refuse a run.
_TRIES, _PAUSE_S = 5, 0.02


def check_free(run_dir: Path) -> None:
    """Refuse a folder that already holds something: results are never overwritten.

    A run that ended before its first line of metrics, its first checkpoint and its first export (killed, or
    an option that turned out wrong at step 0) has left nothing to lose.
    """
    if run_dir.exists() and not began_only(run_dir):
        raise BadOption(
            f"run '{run_dir.name}' exists",
            where=str(run_dir),
            fix="continue it with --resume, choose another name with --run, or remove it: "
            f"kdtrain rm {shell_word(run_dir.name)}",
        )


def no_run(runs: Path, name_or_path: str) -> Missing:
    """The error for a run that is not there; names the nearest one and lists all of the folder `runs`."""
    names = sorted(config_file.parent.name for config_file in runs.glob(f"*/{CONFIG_NAME}"))
    close = nearest(Path(name_or_path).name, names)
    hint = f"did you mean '{close}'? " if close else ""
    there = f"runs there: {', '.join(names)}" if names else "runs there: none; train one first"
    return Missing(f"no run '{name_or_path}'", where=str(runs), fix=f"{hint}{there}")


def began_only(run_dir: Path) -> bool:
    """True for a folder in which no run has got anywhere."""
    if not run_dir.is_dir():
        return False
    metrics = run_dir / METRICS_NAME
    lines = metrics.is_file() and metrics.stat().st_size > 0
    names = {path.name for path in run_dir.iterdir() if not path.name.startswith(".")}
    known = {CONFIG_NAME, "environment.json", METRICS_NAME, "kdcache"}  # the last: TensorBoard's folder
    return not lines and names <= known


@contextmanager
def held(run_dir: Path, *, keep: bool = False) -> Iterator[None]:
    """Hold the run for this process. Raises Busy when another one has it; a kill releases it. An error before
    the first step takes back the folder that was begun, or it would be listed as a run; `keep`: it stays."""
    with touching("the folder of the run cannot be written", run_dir):
        run_dir.mkdir(parents=True, exist_ok=True)
        lock = (run_dir / LOCK_NAME).open("w")
    with lock:
        try:
            with touching("the run could not be locked", run_dir, passing=(BlockingIOError,)):
                _lock(lock)
        except BlockingIOError as error:
            raise Busy(
                f"another process is training run '{run_dir.name}'",
                where=str(run_dir),
                fix="wait for it, or choose another name with --run",
            ) from error
        try:
            yield
        except BaseException:
            if not keep and began_only(run_dir):
                shutil.rmtree(run_dir, ignore_errors=True)
            raise


def _lock(lock: TextIO) -> None:
    """Raises BlockingIOError where another process keeps it."""
    for last in (*[False] * (_TRIES - 1), True):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if last:
                raise
            time.sleep(_PAUSE_S)
