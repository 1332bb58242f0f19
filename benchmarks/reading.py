"""Shuffled reads of targets through our reader, against np.memmap of the same bytes and zarr-python.

    .venv/bin/python benchmarks/reading.py [--images 367] [--rounds 9] [--data camvid:DIR] [--only batches]

Batches: 64 shuffled rows at a time of three sizes of drawn numbers, copied into one array, as a training step
reads them: `Cache.row_batch` and `Cache.gather`, against a memory map that is read row by row, and against
numpy's own gather from it. One thread. Also the bytes that the cache keeps for each byte of a row.

Rows: int8 maps of 45x60x256 (0.69 MB) with their scales, full views of 360x480 images, page cache warm.
Measured: copying shuffled rows into a preallocated batch of 16, as the stream does (seconds per row). One
thread; two threads, each taking half of every batch, against one thread of memmap; windows of 22x30 cells.
Also the bytes that the default codec keeps per element. Ratios are speeds: above 1 is faster than memmap.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import zarr
from bench_cache import DRAWN_SIZE, data_spec, wide_cache
from rounds import Figure, figure, interleave, ratio, report, seconds
from stored_rows import TARGET as DRAWN
from stored_rows import rows_cache

from kdcache.cache.reader.cache import Cache
from kdcache.cache.spec import TensorSpec

TARGET, BATCH, CELLS = "stage4", 16, (22, 30)
GATHERED = 64  # rows of a batch
Row = Callable[[int], tuple[np.ndarray, np.ndarray]]


class Size(NamedTuple):
    """Rows of one size: how many are drawn, and what the figures are to be."""

    name: str
    spec: TensorSpec
    codec: str
    num_rows: int
    speed: str
    kept: str


SIZES = (
    Size("45x60x256", TensorSpec((45, 60, 256), 8), "int8", 400, ">= 0.95", "<= 1.01"),
    Size("7x7x512", TensorSpec((7, 7, 512), 32), "int8", 8192, ">= 1.0", "<= 1.2"),
    Size("10 logits", TensorSpec((10,), 0), "fp16", 50000, ">= 2.0", "<= 1.1"),
)


class Contender:
    """Copies shuffled rows, or windows of them, into one batch that is used again and again."""

    def __init__(self, row: Row, shape: tuple[int, ...], order: np.ndarray, *, window: bool) -> None:
        cells = (*CELLS, shape[2]) if window else shape
        self.row, self.order = row, order
        self.values = np.empty((BATCH, *cells), np.uint8)
        self.scale = np.empty((BATCH, 2, shape[2]), np.float32)
        room = (shape[0] - CELLS[0], shape[1] - CELLS[1])
        self.corner = [(int(i * 7 % room[0]), int(i * 11 % room[1])) if window else (0, 0) for i in order]
        self.cells = cells[:2]
        self.cpu_s: list[float] = []  # per row, of one thread: other programs disturb it less than wall time

    def read(self, first: int, step: int) -> None:
        for place in range(first, len(self.order), step):
            values, scale = self.row(int(self.order[place]))
            y, x = self.corner[place]
            np.copyto(self.values[place % BATCH], values[y : y + self.cells[0], x : x + self.cells[1]])
            np.copyto(self.scale[place % BATCH], scale)

    def one_thread(self) -> float:
        began_s = time.thread_time()
        spent_s = seconds(lambda: self.read(0, 1)) / len(self.order)
        self.cpu_s.append((time.thread_time() - began_s) / len(self.order))
        return spent_s

    def two_threads(self) -> float:
        with ThreadPoolExecutor(2) as pool:
            return seconds(lambda: list(pool.map(lambda k: self.read(k, 2), (0, 1)))) / len(self.order)


def memmap_row(cache: Cache, work: Path, shape: tuple[int, ...]) -> Row:
    """The same bytes as two plain files."""
    num = cache.num_samples
    values = np.memmap(work / "values.bin", np.uint8, "w+", shape=(num, *shape))
    scale = np.memmap(work / "scale.bin", np.float32, "w+", shape=(num, 2, shape[2]))
    for index in range(num):
        parts = cache.parts(TARGET, index, 0)
        values[index], scale[index] = parts["values"], parts["scale"]
    values.flush()
    values = np.memmap(work / "values.bin", np.uint8, "r", shape=values.shape)
    scale = np.memmap(work / "scale.bin", np.float32, "r", shape=scale.shape)
    return lambda index: (values[index], scale[index])


def reader_row(cache: Cache) -> Row:
    def row(index: int) -> tuple[np.ndarray, np.ndarray]:
        parts = cache.parts(TARGET, index, 0)
        return parts["values"], parts["scale"]

    return row


def zarr_row(cache: Cache, size_key: str) -> Row:
    """Plain zarr-python on the same files."""
    folder = cache.root / "targets.zarr" / cache.manifest.teacher / TARGET / size_key
    values, scale = zarr.open_array(folder / "values", mode="r"), zarr.open_array(folder / "scale", mode="r")
    return lambda index: (np.asarray(values[0, index]), np.asarray(scale[0, index]))


def kept_bytes_per_element(cache: Cache, num_elements: int, num_rows: int) -> float:
    files = (cache.root / "targets.zarr").rglob("*")
    return sum(p.stat().st_size for p in files if p.is_file()) / (num_elements * num_rows)


def check_equal(rows: dict[str, Row], order: np.ndarray) -> None:
    """Every contender gives the same bytes; afterwards every page is in memory."""
    for index in order:
        for name in ("reader", "zarr"):
            for ours, theirs in zip(rows["memmap"](index), rows[name](index), strict=True):
                assert np.array_equal(ours, theirs)


def judged(row_seconds: dict[str, list[float]], kept: float) -> list[Figure]:
    memmap = row_seconds["memmap 1 thread"]
    return [
        figure("shuffled rows / memmap, 1 thread", ">= 0.8", memmap, row_seconds["reader 1 thread"]),
        figure(
            "shuffled rows, 2 threads / memmap, 1 thread", ">= 1.1", memmap, row_seconds["reader 2 threads"]
        ),
        figure("windows / memmap", ">= 0.7", row_seconds["memmap windows"], row_seconds["reader windows"]),
        figure(
            "shuffled rows / zarr-python",
            ">= 3",
            row_seconds["zarr 1 thread"],
            row_seconds["reader 1 thread"],
        ),
        Figure("bytes kept per element, int8 at 45x60x256", "<= 1.02", kept, (kept, kept)),
    ]


class Batches:
    """Reads all rows of a cache once, in shuffled batches, in three ways; seconds per row."""

    def __init__(self, cache: Cache, work: Path, size: Size) -> None:
        self.cache = cache
        order = np.random.default_rng(1).permutation(size.num_rows)
        self.batches = order[: size.num_rows // GATHERED * GATHERED].reshape(-1, GATHERED)
        self.view = np.zeros(GATHERED, dtype=np.int64)
        self.maps, self.out = {}, {}
        for name, part in cache.codec(DRAWN).parts(size.spec).items():
            path, shape = work / f"{name}.bin", (size.num_rows, *part.shape)
            mapped = np.memmap(path, part.dtype, "w+", shape=shape)
            for index in range(size.num_rows):
                mapped[index] = cache.parts(DRAWN, index, 0)[name]
            mapped.flush()
            self.maps[name] = np.memmap(path, part.dtype, "r", shape=shape)
            self.out[name] = np.empty((GATHERED, *part.shape), part.dtype)

    def ours(self, samples: np.ndarray) -> None:
        rows = self.cache.row_batch(samples, self.view)
        for name, out in self.out.items():
            self.cache.gather(DRAWN, rows, name, out)

    def by_row(self, samples: np.ndarray) -> None:
        for place, index in enumerate(samples.tolist()):
            for name, mapped in self.maps.items():
                np.copyto(self.out[name][place], mapped[index])

    def by_index(self, samples: np.ndarray) -> None:
        for name, mapped in self.maps.items():
            self.out[name][:] = mapped[samples]

    def timed(self, read: Callable[[np.ndarray], None]) -> Callable[[], float]:
        def work() -> None:
            for samples in self.batches:
                read(samples)

        return lambda: seconds(work) / self.batches.size

    def check(self) -> None:
        """All three give the same bytes; afterwards every page is in memory."""
        for samples in self.batches:
            self.ours(samples)
            ours = {name: out.copy() for name, out in self.out.items()}
            for read in (self.by_row, self.by_index):
                read(samples)
                assert all(np.array_equal(ours[name], out) for name, out in self.out.items())


def batches_of(work: Path, rounds: int) -> tuple[list[Figure], dict[str, object]]:
    """Every size in turn: figures and what was measured."""
    figures: list[Figure] = []
    measured: dict[str, object] = {}
    for number, size in enumerate(SIZES):
        folder = work / f"size{number}"
        cache = rows_cache(folder / "cache", size.spec, size.codec, size.num_rows)
        batches = Batches(cache, folder, size)
        batches.check()
        ways = {"ours": batches.ours, "by row": batches.by_row, "by index": batches.by_index}
        spent = interleave({name: batches.timed(way) for name, way in ways.items()}, rounds)
        kept = kept_bytes_per_element(cache, batches.maps["values"][0].nbytes, size.num_rows)
        figures += [
            figure(f"{size.name} in batches / memmap by row", size.speed, spent["by row"], spent["ours"]),
            Figure(f"bytes kept per byte of values, {size.name}", size.kept, kept, (kept, kept)),
        ]
        share, (low, high) = ratio(spent["by index"], spent["ours"])
        print(f"{size.name} in batches / numpy's gather from memmap: {share:.2f} ({low:.2f} .. {high:.2f})")
        measured[size.name] = {"seconds_per_row": spent, "rows": size.num_rows}
        shutil.rmtree(folder)
    return figures, measured


def asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=367)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", choices=("batches",), help="leave out rows one by one")
    parser.add_argument("--data", help="NAME:DIR with images of 360x480 [drawn ones]")
    return parser.parse_args()


def rows_one_by_one(work: Path, args: argparse.Namespace) -> tuple[list[Figure], dict[str, object]]:
    """Maps of the wide teacher, a row at a time: whole and in windows."""
    cache = wide_cache(work, data_spec(args.data, work, args.images), views="full", crop=DRAWN_SIZE)
    spec = cache.tap(TARGET).spec(*DRAWN_SIZE)
    order = np.random.default_rng(0).permutation(cache.num_samples)
    rows = {
        "memmap": memmap_row(cache, work, spec.shape),
        "reader": reader_row(cache),
        "zarr": zarr_row(cache, spec.size_key),
    }
    check_equal(rows, order)
    whole = {name: Contender(row, spec.shape, order, window=False) for name, row in rows.items()}
    cut = {name: Contender(row, spec.shape, order, window=True) for name, row in rows.items()}
    row_seconds = interleave(
        {f"{name} 1 thread": c.one_thread for name, c in whole.items()}
        | {f"{name} 2 threads": whole[name].two_threads for name in ("memmap", "reader")}
        | {f"{name} windows": c.one_thread for name, c in cut.items()},
        args.rounds,
    )
    kept = kept_bytes_per_element(cache, int(np.prod(spec.shape)), cache.num_samples)
    cpu = {f"{name} 1 thread": c.cpu_s for name, c in whole.items()}
    cpu |= {f"{name} windows": c.cpu_s for name, c in cut.items()}
    told(row_seconds, cpu)
    measured = {"seconds_per_row": row_seconds, "cpu_s_per_row": cpu, "rows": cache.num_samples}
    return judged(row_seconds, kept), measured | {"row": list(spec.shape)}


def told(row_seconds: dict[str, list[float]], cpu: dict[str, list[float]]) -> None:
    """What explains the figures."""
    both = ratio(row_seconds["memmap 1 thread"], row_seconds["memmap 2 threads"])[0]
    print(f"memmap itself, 2 threads / 1 thread: {both:.2f} (what this machine has to give)")
    for kind in ("1 thread", "windows"):
        share = ratio(cpu[f"memmap {kind}"], cpu[f"reader {kind}"])[0]
        print(f"the same in processor time, {kind}: {share:.2f}")


def main() -> None:
    args = asked()
    with tempfile.TemporaryDirectory(prefix="kdcache-reading-") as temporary:
        work = Path(temporary)
        figures, measured = batches_of(work, args.rounds)
        measured = {"batches": measured}
        if not args.only:
            more, of_rows = rows_one_by_one(work, args)
            figures, measured = [*figures, *more], measured | of_rows
    report("reading", figures, measured)


if __name__ == "__main__":
    main()
