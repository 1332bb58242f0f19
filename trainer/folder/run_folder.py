"""The folder of one run: who may write it, and its `metrics.jsonl`.

`runs/<name>/{config.toml, network.json, student.safetensors, metrics.jsonl, environment.json, checkpoints/}`.
A folder is made once; continuing it takes --resume, and one process at a time holds it.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from kdcache.cache.errors import BadOption, Busy
from kdcache.cache.files.regular import read_text
from kdcache.cache.system import touching
from kdcache.trainer.folder.atomic_file import RUN_AGAIN, write_text

CONFIG_NAME = "config.toml"
METRICS_NAME = "metrics.jsonl"
METRICS_BYTES = 1 << 30  # some million lines


def check_free(run_dir: Path) -> None:
    """Refuse a folder that already holds something: results are never overwritten.

    A run that ended before its first line of metrics, its first checkpoint and its first export (killed, or
    an option that turned out wrong at step 0) has left nothing to lose.
    """
    if run_dir.exists() and not _began_only(run_dir):
        raise BadOption(
            f"run '{run_dir.name}' exists",
            where=str(run_dir),
            fix="continue it with --resume, or choose another name with --run",
        )


def _began_only(run_dir: Path) -> bool:
    """True for a folder in which no run has got anywhere."""
    if not run_dir.is_dir():
        return False
    metrics = run_dir / METRICS_NAME
    lines = metrics.is_file() and metrics.stat().st_size > 0
    names = {path.name for path in run_dir.iterdir() if not path.name.startswith(".")}
    known = {CONFIG_NAME, "environment.json", METRICS_NAME, "kdcache"}  # the last: TensorBoard's folder
    return not lines and names <= known


@contextmanager
def held(run_dir: Path) -> Iterator[None]:
    """Hold the run for this process. Raises Busy when another one has it; a kill releases it."""
    with touching("the folder of the run cannot be written", run_dir):
        run_dir.mkdir(parents=True, exist_ok=True)
        lock = (run_dir / ".lock").open("w")
    with lock:
        try:
            with touching("the run could not be locked", run_dir, passing=(BlockingIOError,)):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Busy(
                f"another process is training run '{run_dir.name}'",
                where=str(run_dir),
                fix="wait for it, or choose another name with --run",
            ) from error
        yield


class MetricsLog:
    """Append-only lines, each a JSON object with `step`, the number of finished steps it speaks of."""

    def __init__(self, run_dir: Path, *, keep_until: int) -> None:
        """Opens the log and drops what a killed run wrote after step `keep_until`, its last checkpoint."""
        self.path = run_dir / METRICS_NAME
        if self.path.is_file():
            kept = [
                line
                for line in read_text(self.path, METRICS_BYTES).splitlines()
                if _step_in(line) <= keep_until
            ]
            write_text(self.path, "".join(line + "\n" for line in kept))
        with self._touching():
            self._file = self.path.open("a")

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Raises DiskFull and Refused, as the others do."""
        with self._touching():
            self._file.write(json.dumps({"step": step, **values}) + "\n")

    def sync(self) -> None:
        """Put every line on disk: done before a checkpoint that stands for them."""
        with self._touching():
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        with self._touching():
            try:
                self.sync()
            finally:
                self._file.close()

    def _touching(self) -> AbstractContextManager[None]:
        return touching(f"'{self.path.name}' could not be written", self.path, again=RUN_AGAIN)


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """Every whole line of `metrics.jsonl`."""
    lines = read_text(run_dir / METRICS_NAME, METRICS_BYTES).splitlines()
    return [json.loads(line) for line in lines if _step_in(line) < _TORN]


_TORN = 1 << 62  # beyond any step: a line cut by a kill is dropped with the lines after the checkpoint


def _step_in(line: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return _TORN
