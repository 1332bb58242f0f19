"""Streams whose pixels are decoded once or kept, against a loop that a user would write and against DALI.

    .venv/bin/python benchmarks/pixels.py small --data npz:FILE --teacher resnet20a --weights FILE
    .venv/bin/python benchmarks/pixels.py kept --data camvid:DIR [--crop 176,240] [--rounds 9]

`small`: images of 32x32, pad=4,flip, logits as fp16. `stream` against `arrays`: images, labels and logits as
arrays in memory, batches of one fancy index each, shifted and flipped with numpy on whole batches, drawn in
every epoch anew. For batches of 64, 128 and 512. The first passes, in which every row is compared with the
digest of what the teacher saw, come before the rounds. `kept`: crops with an int8 map of stage 4 and logits.
`dali` against the same cache with `--keep pixels`, one thread each; the bytes of a kept view of a sample.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from bench_cache import data_spec, parse_pair, wide_cache
from rounds import Figure, figure, interleave, report

from kdcache.cache.build.build import build_cache
from kdcache.cache.build.options import BuildOptions, parse_tap
from kdcache.cache.reader.cache import Cache, open_cache
from kdcache.cache.record.manifest import PIXELS
from kdcache.cache.spec import FILL_RGB, Need
from kdcache.trainer.stream.arrays.levels import Rule
from kdcache.trainer.stream.batch import BatchLayout
from kdcache.trainer.stream.stored import StoredStream

PAD, VIEWS, TIMED_ROWS = 4, 8, 8192
KEPT_BATCH, KEPT_BATCHES, PREFETCHED = 16, 12, 4


def small_cache(work: Path, args: argparse.Namespace) -> Cache:
    options = BuildOptions(
        runs_dir=work / "runs", caches_dir=work / "caches", teacher=args.teacher, weights=args.weights,
        data=args.data, views=f"crops:{VIEWS}", augment=f"pad={PAD},flip", crop=(32, 32),
        taps=(parse_tap("logits"),), batch_size=256,
    )  # fmt: skip
    return open_cache(build_cache(options).root)


def arrays_in_memory(batch: int, count: int) -> Iterator[tuple[torch.Tensor, ...]]:
    """The careful hand-written loop: nothing is done for one row alone."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    labels, logits = rng.integers(0, 10, count), rng.random((count, VIEWS, 10)).astype(np.float16)
    side, epoch = np.arange(32), 0
    while True:
        order = rng.permutation(count)
        for start in range(0, count - batch + 1, batch):
            rows = order[start : start + batch]
            padded = np.empty((batch, 32 + 2 * PAD, 32 + 2 * PAD, 3), dtype=np.uint8)
            padded[:] = FILL_RGB
            padded[:, PAD:-PAD, PAD:-PAD] = images[rows]
            y, x = rng.integers(0, 2 * PAD + 1, (2, batch))
            at = (
                np.arange(batch)[:, None, None],
                (y[:, None] + side)[:, :, None],
                (x[:, None] + side)[:, None],
            )
            shown, flips = padded[at], rng.random(batch) < 0.5
            shown[flips] = shown[flips, :, ::-1]
            yield tuple(map(torch.from_numpy, (shown, labels[rows], logits[rows, epoch % VIEWS])))
        epoch += 1


def turn(batches: Iterator[object], count: int, rows: int, unused: int = 0) -> Callable[[], float]:
    """Seconds per sample of the next `count` batches, after `unused` that may lie ready."""

    def measure() -> float:
        for _ in islice(batches, unused):
            pass
        began = time.perf_counter()
        for _ in islice(batches, count):
            pass
        return (time.perf_counter() - began) / (count * rows)

    return measure


def small(work: Path, args: argparse.Namespace) -> tuple[list[Figure], dict[str, list[float]]]:
    cache = small_cache(work, args)
    figures, seconds = [], {}
    for batch in (64, 128, 512):
        layout = BatchLayout(seed=0, global_batch=batch)
        stream = StoredStream(cache, needs=[Need(tap="logits")], layout=layout, rule=Rule())
        batches = stream.run()
        for _ in islice(batches, (VIEWS + 1) * stream.num_samples // batch):
            pass
        count = TIMED_ROWS // batch
        took = interleave(
            {
                "stream": turn(batches, count, batch),
                "arrays": turn(arrays_in_memory(batch, stream.num_samples), count, batch),
            },
            args.rounds,
        )
        name = f"stream at 32x32 / vectorised arrays, batch {batch}"
        figures.append(figure(name, ">= 3", took["arrays"], took["stream"]))
        seconds |= {f"{kind} {batch}": values for kind, values in took.items()}
        print(
            name,
            stream.pixels,
            {kind: f"{1 / sorted(v)[len(v) // 2]:,.0f} img/s" for kind, v in took.items()},
        )
    return figures, seconds


def kept(work: Path, args: argparse.Namespace) -> tuple[list[Figure], dict[str, list[float]]]:
    data = data_spec(args.data, work, 64)
    cache = wide_cache(work, data, views="crops:2", crop=args.crop, taps="stage4=int8,logits=fp16")
    build_cache(
        BuildOptions(runs_dir=work / "runs", caches_dir=cache.root.parent, cache=cache.root, keep="pixels")
    )
    cache = open_cache(cache.root)
    needs = [Need(tap=name) for name in cache.manifest.tap_names]
    layout = BatchLayout(seed=0, global_batch=KEPT_BATCH)
    dali = StoredStream(cache, needs=needs, layout=layout, crop=args.crop)
    streams = {"dali": dali, "kept": StoredStream(cache, needs=needs, layout=replace(layout), rule=Rule())}
    turns = {name: turn(one.run(), KEPT_BATCHES, KEPT_BATCH, PREFETCHED) for name, one in streams.items()}
    seconds = interleave(turns, args.rounds)
    for one in streams.values():
        one.close()
    height, width = args.crop
    channels = sum(tap.channels for tap in cache.manifest.kept)
    print(f"{streams['kept'].pixels}; {PIXELS} and labels: {height * width * channels:,} bytes a row")
    return [
        figure("stream of crops, --keep pixels / DALI", ">= 10", seconds["dali"], seconds["kept"])
    ], seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=("small", "kept"))
    parser.add_argument("--data", help="NAME:DIR")
    parser.add_argument("--teacher", default="resnet20a")
    parser.add_argument("--weights")
    parser.add_argument("--crop", type=parse_pair, default=(176, 240), metavar="H,W")
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kdcache-pixels-") as temporary:
        figures, seconds = (small if args.kind == "small" else kept)(Path(temporary), args)
    report("pixels", figures, {"seconds_per_sample": seconds}, name=f"pixels-{args.kind}")


if __name__ == "__main__":
    main()
