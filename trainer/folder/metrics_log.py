"""`metrics.jsonl`: appended lines, each with a check of its own: a stray byte is an error, no figure.

A line is a JSON object whose last key is "check", the CRC-32 of every byte before it (the comma excluded).
Lines of before there were checks end in a number; they are read as they are.
"""

import json
import math
import os
import re
import zlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from kdcache.cache.errors import BadCache
from kdcache.cache.files.plain_json import parse_json
from kdcache.cache.files.regular import read_regular
from kdcache.cache.files.system import touching
from kdcache.cache.visible import shell_line, shell_word
from kdcache.trainer.folder.atomic_file import RUN_AGAIN, write_bytes

METRICS_NAME = "metrics.jsonl"
METRICS_BYTES = 1 << 30  # some million lines
_CHECK = re.compile(rb', "check": "([0-9a-f]{8})"\}\Z')


class BadMetrics(BadCache):
    """A line of a run's figures that is not as it was written."""


class MetricsLog:
    """Append-only lines with `step`, the number of finished steps that each speaks of."""

    def __init__(self, run_dir: Path, *, keep_until: int) -> None:
        """Opens the log and drops what a killed run wrote after step `keep_until`, its last checkpoint.

        `notes` says so where a line was cut, and where lines of steps before it are not there or not in
        order. Raises BadMetrics for a line that was changed, and for what is no file of lines.
        """
        self.path = run_dir / METRICS_NAME
        self.notes: tuple[str, ...] = ()
        steps, torn = [], False
        if self._is_there():  # a pipe too: to open it for more lines would wait for a reader
            lines, torn = _lines(self.path)
            steps = [self._step(number, line) for number, line in enumerate(lines, 1)]
            kept = [line for step, line in zip(steps, lines, strict=True) if step <= keep_until]
            write_bytes(self.path, b"".join(line + b"\n" for line in kept))
        if torn:
            self.notes = (f"the last line of {METRICS_NAME} was cut short by a kill, and is left out",)
        elif max(steps, default=0) < keep_until:
            lost = f"the last step of {METRICS_NAME} is {max(steps, default=0)}"
            self.notes = (f"{lost}, the checkpoint's is {keep_until}: figures between them are lost",)
        elif steps != sorted(steps):
            self.notes = (f"the steps of {METRICS_NAME} are not in order: some figures are there twice",)
        with self._touching():
            self._file = self.path.open("a")

    def _is_there(self) -> bool:
        """`os.path.lexists` takes every refusal of the system for "no": all figures would be lost."""
        with self._touching():
            try:
                os.lstat(self.path)
            except FileNotFoundError:
                return False
        return True

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Raises DiskFull and Refused, as the others do."""
        with self._touching():
            self._file.write(checked_line({"step": step, **values}))

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

    def _step(self, number: int, line: bytes) -> int:
        return int(_read(self.path, number, line)["step"])


def checked_line(values: Mapping[str, Any]) -> str:
    """One line as it is written, with its check and its end. What is no number is null: JSON has none."""
    plain = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }
    body = json.dumps(plain)[:-1]
    return f'{body}, "check": "{zlib.crc32(body.encode()):08x}"}}\n'


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """Every whole line of `metrics.jsonl`, without its check. Raises BadMetrics for a line that was
    changed."""
    path = run_dir / METRICS_NAME
    return [_read(path, number, line) for number, line in enumerate(_lines(path)[0], 1)]


def _lines(path: Path) -> tuple[Sequence[bytes], bool]:
    """The lines that were written to their end, and whether one more was begun."""
    try:
        content = read_regular(path, METRICS_BYTES)
    except ValueError as error:
        aside = shell_line(["mv", str(path), f"{path}.aside"])
        raise BadMetrics(
            f"the run's figures cannot be read: {error}",
            where=str(path),
            fix=f"move them aside, the run itself needs them not: {aside}",
        ) from error
    *whole, last = content.split(b"\n")
    return whole, bool(last)


def _read(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        values = parse_json(line)
        if not isinstance(values, dict) or type(values.get("step")) is not int:
            raise ValueError("it names no step")
        match = _CHECK.search(line)
        if match is None and line.endswith(b'"}'):
            raise ValueError("it does not end in a check")
        if match is not None and int(match[1], 16) != zlib.crc32(line[: match.start()]):
            raise ValueError("its check differs")
    except (ValueError, RecursionError) as error:
        raise BadMetrics(
            f"line {number} of the run's figures is not as it was written: {error}",
            where=str(path),
            fix="put the line back as it was; or give it up, the run itself needs it not: "
            f"sed -i {number}d {shell_word(str(path))}",
        ) from error
    values.pop("check", None)
    return values
