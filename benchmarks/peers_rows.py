"""Row reads and bytes per row, for benchmarks/peers.py: every store holds the rows of our caches and gives
shuffled batches of 64, stacked, one thread, files in the page cache.

The functions below `Called in a worker` run in the store's environment. A turn reads batches for a moment,
going on where the last one ended; the parent takes the turns of all stores in interleaved rounds.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from peers_envs import OWN, CallFailed, NotInstalled, Workers
from peers_ours import SIZES, reader, target_folder
from peers_stores import (
    Batch,
    Hdf5,
    LitData,
    Lmdb,
    Mds,
    Memmap,
    MemmapRows,
    PtFiles,
    Store,
    Tensorstore,
    ZarrPython,
    bytes_of,
    like,
    load_table,
)
from peers_torchdistill import TorchdistillFiles
from rounds import interleave, ratio

OURS, REFERENCE, BATCH = "kdcache", "memmap", 64
# Store -> the environment that it lives in.
STORES: dict[type[Store], str] = {
    Memmap: OWN,
    MemmapRows: OWN,
    Lmdb: "arrays",
    Hdf5: "arrays",
    Mds: "mds",
    LitData: "litdata",
    Tensorstore: "arrays",
    ZarrPython: OWN,
    PtFiles: OWN,
    TorchdistillFiles: "torchdistill",
}
BY_NAME = {store.name: store for store in STORES}


class Asked(NamedTuple):
    """What the parts are told."""

    work: Path
    rounds: int
    small: bool
    until_s: float  # time.monotonic() after which no further round begins
    stores: tuple[str, ...]  # names; () is all


# ---- the parent --------------------------------------------------------------------------------------------


def measure(asked: Asked, workers: Workers) -> dict[str, Any]:
    """Size -> what each store took per row, its bytes per row, and why a store is not there."""
    own = workers.of(OWN)
    roots = own.call("peers_ours:caches", work=str(asked.work), small=asked.small)
    result: dict[str, Any] = {"sizes": {}, "missing": {}, "versions": {}, "how": {}}
    for key, size in SIZES.items():
        table = str(asked.work / f"table-{key}")
        own.call("peers_ours:export", root=roots[size.cache], target=size.target, folder=table)
        ready = _prepare(asked, workers, key, table, result)
        ready[OURS] = own.call(
            "peers_rows:open_ours",
            name=f"{OURS} {key}",
            root=roots[size.cache],
            target=size.target,
            table=table,
        )
        result["how"][OURS] = ready[OURS].pop("how")
        result["sizes"][key] = _rounds(asked, workers, key, ready)
    return result


def _prepare(
    asked: Asked, workers: Workers, key: str, table: str, result: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """Write and open every store that is there; what each says of its bytes."""
    ready: dict[str, dict[str, Any]] = {}
    for store, env in STORES.items():
        if asked.stores and store.name not in asked.stores:
            continue
        folder = str(asked.work / "".join(c for c in f"{store.name}-{key}" if c.isalnum() or c == "-"))
        try:
            worker = workers.of(env)
            arguments = {"store": store.name, "table": table, "folder": folder}
            ready[store.name] = worker.call("peers_rows:prepare", name=f"{store.name} {key}", **arguments)
            result["versions"] |= worker.call("peers_envs:versions", packages=list(store.packages))
            result["how"][store.name] = store.as_recommended
        except NotInstalled as error:
            result["missing"][store.name] = f"not installed: {error}"
        except CallFailed as error:
            result["missing"][f"{store.name}, {SIZES[key].title}"] = f"failed: {error}"
    return ready


def _rounds(
    asked: Asked, workers: Workers, key: str, ready: dict[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    turn_s = 0.02 if asked.small else 0.5

    def turn(name: str) -> Callable[[], float]:
        worker = workers.of(OWN if name == OURS else STORES[BY_NAME[name]])
        return lambda: float(worker.call("peers_rows:turn", name=f"{name} {key}", turn_s=turn_s))

    turns = {name: turn(name) for name in ready}
    row_s: dict[str, list[float]] = {name: [] for name in turns}
    for number in range(asked.rounds + 1):  # the first warms up
        for name, times in interleave(turns, 1).items() if number % 2 else _reversed(turns).items():
            row_s[name] += times
        if number and time.monotonic() > asked.until_s:
            break
    return {name: summary(times, row_s[REFERENCE], ready[name]) for name, times in row_s.items()}


def _reversed(turns: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
    return interleave(dict(reversed(turns.items())), 1)


def summary(row_s: list[float], reference_s: list[float], kept: dict[str, Any]) -> dict[str, Any]:
    """Of one store: seconds per row in each round, and speed and bytes against the reference; `kept` has the
    bytes on disk and `raw`, those of the numbers alone."""
    speed, spread = ratio(reference_s, row_s)
    return {
        "row_s": row_s, "speed": speed, "speed_spread": spread, "of_raw": kept["bytes"] / kept["raw"],
        "of_raw_on_disk": kept["disk"] / kept["raw"], "files": kept["files"], "write_s": kept.get("write_s"),
    }  # fmt: skip


# ---- called in a worker ------------------------------------------------------------------------------------


class _Opened:
    """A store that is read in turns: where in the shuffled order the next turn begins."""

    def __init__(self, batch: Batch, rows: int) -> None:
        self.batch = batch
        order = np.random.default_rng(0).permutation(rows)
        full = max(1, rows // BATCH)
        self.batches = [order[k * BATCH : (k + 1) * BATCH] for k in range(full)]
        self.next = 0

    def turn(self, turn_s: float) -> float:
        rows, began = 0, time.perf_counter()
        while True:
            indices = self.batches[self.next % len(self.batches)]
            self.batch(indices)
            self.next += 1
            rows += len(indices)
            spent = time.perf_counter() - began
            if spent >= turn_s:
                return spent / rows


_OPENED: dict[str, _Opened] = {}


def prepare(name: str, store: str, table: str, folder: str) -> dict[str, Any]:
    """Write the table, open it, compare; what it takes on disk. Raises AssertionError for other numbers."""
    one, rows = BY_NAME[store](), load_table(Path(table))
    began = time.perf_counter()
    one.write(rows, Path(folder), lambda n: None)
    write_s = time.perf_counter() - began
    _take(name, one.open(Path(folder), like(rows)), rows)
    return bytes_of(Path(folder)) | {"raw": _raw(rows), "write_s": write_s}


def open_ours(name: str, root: str, target: str, table: str) -> dict[str, Any]:
    rows = load_table(Path(table))
    batch, how = reader(root, target, like(rows))
    _take(name, batch, rows)
    return bytes_of(target_folder(root, target)) | {"raw": _raw(rows), "how": how}


def turn(name: str, turn_s: float) -> float:
    """Seconds per row."""
    return _OPENED[name].turn(turn_s)


def _take(name: str, batch: Batch, rows: dict[str, np.ndarray]) -> None:
    """Keep an opened store; every batch once, compared with the table, which also fills the page cache."""
    import torch

    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    opened = _Opened(batch, like(rows).rows)
    for indices in opened.batches:
        for part, values in batch(indices).items():
            assert np.array_equal(values, rows[part][indices]), f"{name}: other numbers in '{part}'"
    _OPENED[name] = opened


def _raw(rows: dict[str, np.ndarray]) -> int:
    table = like(rows)
    return table.rows * table.row_bytes
