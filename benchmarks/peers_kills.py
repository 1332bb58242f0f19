"""SIGKILL at random moments of writing, for benchmarks/peers.py: what each store then says, and whether it is
so.

Each trial writes the same rows into a fresh folder in a forked child and kills its process group at a uniform
moment of the time that an unkilled write took. Then another child opens what lies there and reads every row
that the store claims to have. Ours is `kdcache build`: after each kill every committed record must stand for
whole objects, and the same command must end in a tree that is byte for byte that of a build that was never
killed. A SIGKILL keeps the page cache: loss of power is not tested.
"""

import contextlib
import importlib
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from peers_rows import BY_NAME
from peers_stores import Store, like, load_table, save_table

ROWS, SMALL_ROWS, PART = 512, 128, (7, 7, 512)
INSPECT_S, WRITE_S = 60, 120
EARLY = 3  # kills that came after the end are tried again, at most so many times as asked for


def drawn_rows(folder: str, small: bool) -> None:
    """A table of rows none of which is zero anywhere: a fill value is never right."""
    rng, rows = np.random.default_rng(1), SMALL_ROWS if small else ROWS
    save_table({"values": rng.uniform(1, 2, (rows, *PART)).astype(np.float16)}, Path(folder))


def trials(store: str, table: str, work: str, kills: int, seed: int) -> dict[str, Any]:
    """Called in a worker of the store's environment: `kills` killed writes, each looked at."""
    one, rows = BY_NAME[store](), load_table(Path(table))
    draw, folder = random.Random(seed), Path(work) / f"killed-{store.split()[0].replace('.', '')}"
    for module in one.modules:  # here, so that a child is killed while it writes and not while it imports
        importlib.import_module(module)
    warm_up(one, rows, folder)
    span_s = _killed(one, rows, folder, None)[1]
    looks: list[dict[str, Any]] = []
    for _ in range(kills * EARLY):
        _clear(folder)
        said, _, killed = _killed(one, rows, folder, draw.random() * span_s)
        if killed:
            looks.append(_look(one, rows, folder) | {"said": said})
        if len(looks) == kills:
            break
    _clear(folder)
    return {"span_s": span_s, "rows": like(rows).rows, "trials": looks} | tally(looks)


def warm_up(store: Store, rows: dict[str, np.ndarray], folder: Path) -> None:
    """Once in a child, so that files of packages lie in the page cache and the span is that of writing."""
    for _ in range(2):
        _clear(folder)
        _killed(store, rows, folder, None)
    _clear(folder)


def tally(looks: list[dict[str, Any]]) -> dict[str, Any]:
    """Of all trials: how often nothing could be opened, how many rows were claimed and are not right, how
    many that the store had said to keep are lost."""
    return {
        "kills": len(looks),
        "refused": sum(1 for one in looks if one["error"]),
        "trials_with_wrong": sum(1 for one in looks if one["wrong"]),
        "wrong": sum(one["wrong"] for one in looks),
        "unreadable": sum(one["unreadable"] for one in looks),
        "kept": sum(one["right"] for one in looks),
        "lost_of_said": sum(max(0, one["said"] - one["right"]) for one in looks),
    }


def _killed(
    store: Store, rows: dict[str, np.ndarray], folder: Path, after_s: float | None
) -> tuple[int, float, bool]:
    """Write in a child, killed `after_s` after it began; (rows said to be kept, seconds, whether killed)."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        os.setpgid(0, 0)
        _in_child(lambda: store.write(rows, folder, lambda n: _tell(write, n)), lambda: _tell(write, 0))
    os.close(write)
    began, ended, heard = time.perf_counter(), False, _Heard(read)
    deadline = WRITE_S if after_s is None else after_s
    while not ended and (spent := time.perf_counter() - (heard.began or began)) < deadline:
        heard.read(min(0.002, max(0.0, deadline - spent)))
        ended = os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    spent = time.perf_counter() - (heard.began or began)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    while heard.read(0.0):
        pass
    os.close(read)
    if after_s is None and status:
        raise RuntimeError(f"an unkilled write ended with status {status}")
    return heard.said, spent, os.WIFSIGNALED(status)


class _Heard:
    """What a child has told through its pipe: that it begins (0), then the rows that are kept."""

    def __init__(self, pipe: int) -> None:
        self.pipe, self.said, self.began = pipe, 0, 0.0
        self._rest = b""
        os.set_blocking(pipe, False)

    def read(self, wait_s: float) -> bool:
        time.sleep(wait_s)
        try:
            new = os.read(self.pipe, 1 << 16)
        except BlockingIOError:
            return False
        *lines, self._rest = (self._rest + new).split(b"\n")
        if lines:
            self.began = self.began or time.perf_counter()
            self.said = max(self.said, *(int(line) for line in lines))
        return bool(new)


def _tell(pipe: int, number: int) -> None:
    os.write(pipe, f"{number}\n".encode())


def _in_child(work: Callable[[], object], begin: Callable[[], object] = lambda: None) -> None:
    """Never returns: what a forked child does, then its end without the parent's."""
    status = 0
    try:
        begin()
        work()
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stderr.flush()
    os._exit(status)


def _look(store: Store, rows: dict[str, np.ndarray], folder: Path) -> dict[str, Any]:
    """In a child, because a reader of torn files may die: rows claimed, right, wrong and unreadable."""
    file = folder.with_name(f"{folder.name}.json")
    file.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        _in_child(lambda: file.write_text(json.dumps(read_back(store, rows, folder))))
    until = time.monotonic() + INSPECT_S
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
            until += INSPECT_S
        time.sleep(0.005)
    if file.is_file():
        told: dict[str, Any] = json.loads(file.read_text())
        return told
    return {"claimed": 0, "right": 0, "wrong": 0, "unreadable": 0, "error": "the reader died"}


def read_back(store: Store, rows: dict[str, np.ndarray], folder: Path) -> dict[str, Any]:
    """Every claimed row against the table; `error` where nothing can be opened at all."""
    told: dict[str, Any] = {"claimed": 0, "right": 0, "wrong": 0, "unreadable": 0, "error": ""}
    try:
        told["claimed"] = store.claims(folder, like(rows))
        batch = store.open(folder, like(rows)) if told["claimed"] else None
    except Exception as error:
        return told | {"error": f"{type(error).__name__}: {error}"[:200]}
    for index in range(told["claimed"]):
        try:
            assert batch is not None
            row = batch(np.array([index]))
            same = all(np.array_equal(values[0], rows[name][index]) for name, values in row.items())
            told["right" if same else "wrong"] += 1
        except Exception:
            told["unreadable"] += 1
    return told


def _clear(folder: Path) -> None:
    for path in (folder, folder.with_name(f"{folder.name}-source")):
        shutil.rmtree(path, ignore_errors=True)
