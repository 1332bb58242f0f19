"""The stream alone, no student: against itself without targets, zarr-python, and torch's DataLoader.

    .venv/bin/python benchmarks/streaming.py --data camvid:DIR [--views crops:2] [--crop 176,240] [--rounds 9]

Job per sample: decode image and label, apply the stored view (resize, flip, crop), read what a default cache
keeps: an int8 map of 22x30x256 and fp16 logits. Seconds per sample of: `stored` our stream; `plain` the same
without targets; `zarr` ours with rows read through zarr-python; `loader` torch DataLoader with 2 workers
doing the same job, with Pillow or torchvision decoding (the faster of the two decides) and np.memmap targets;
`stored2` ours with 2 threads, its opponent. Each turn first uses up what was prefetched. --views full reads
windows instead of whole rows.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from bench_cache import data_spec, parse_pair, wide_cache
from rounds import figure, interleave, report
from torch_loader import torch_loader, write_memmaps

from kdcache.cache.reader.cache import Cache
from kdcache.cache.spec import Need
from kdcache.trainer.stream.batch import BatchLayout
from kdcache.trainer.stream.stored import StoredStream

TARGET, BATCH = "stage4", 16
PREFETCHED, TIMED = 4, 12  # batches per turn; no contender prefetches more than 4
SETTLE_S = 0.3  # for the prefetching of the contender before, which nobody waits for


class ZarrPythonCache(Cache):
    """The same cache, its rows read through zarr-python."""

    def parts(self, target: str, index: int, view: int) -> dict[str, np.ndarray]:
        block, row = divmod(index, self.shard_samples)
        geometry = self.block_views(block, view).geometry_of(row)
        size_key = self.tap(target).spec(geometry.crop_h, geometry.crop_w).size_key
        arrays = self._group(target, size_key)
        return {name: np.ascontiguousarray(array[view, index]) for name, array in arrays.items()}

    def _group(self, target: str, size_key: str) -> dict[str, zarr.Array[Any]]:
        kept: dict[tuple[str, str], dict[str, zarr.Array[Any]]] = self.__dict__.setdefault("_arrays", {})
        if (target, size_key) not in kept:
            path = self.root / "targets.zarr" / self.manifest.teacher / target / size_key
            kept[target, size_key] = dict(zarr.open_group(path, mode="r").arrays())
        return kept[target, size_key]


def stream(cache: Cache, *, with_targets: bool, threads: int, crop: tuple[int, int]) -> StoredStream:
    layout = BatchLayout(seed=0, global_batch=BATCH)
    needs = [Need(tap=name) for name in cache.manifest.tap_names] if with_targets else []
    return StoredStream(cache, needs=needs, layout=layout, num_threads=threads, crop=crop)


def turn(batches: Iterator[object]) -> Callable[[], float]:
    """One turn of a contender: settle, use up what lies ready, then seconds per sample."""

    def measure() -> float:
        time.sleep(SETTLE_S)
        for _ in islice(batches, PREFETCHED):
            pass
        began = time.perf_counter()
        for _ in islice(batches, TIMED):
            pass
        return (time.perf_counter() - began) / (TIMED * BATCH)

    return measure


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="NAME:DIR [drawn images, which decode faster than photographs]")
    parser.add_argument("--images", type=int, default=64, help="of the drawn ones")
    parser.add_argument("--views", default="crops:2", help="crops:K or full")
    parser.add_argument("--crop", type=parse_pair, default=(176, 240), metavar="H,W")
    parser.add_argument("--rounds", type=int, default=9)
    return parser.parse_args()


def main() -> None:
    args = arguments()
    with tempfile.TemporaryDirectory(prefix="kdcache-streaming-") as temporary:
        work = Path(temporary)
        data = data_spec(args.data, work, args.images)
        cache = wide_cache(work, data, views=args.views, crop=args.crop, taps="stage4=int8,logits=fp16")
        slow = ZarrPythonCache(cache.root)
        streams = {
            "stored": stream(cache, with_targets=True, threads=1, crop=args.crop),
            "plain": stream(cache, with_targets=False, threads=1, crop=args.crop),
            "zarr": stream(slow, with_targets=True, threads=1, crop=args.crop),
            "stored2": stream(cache, with_targets=True, threads=2, crop=args.crop),
        }
        memmaps = write_memmaps(cache, TARGET, work)
        loaders = {
            f"loader {decoder}": torch_loader(streams["stored"], memmaps, BATCH, decoder=decoder)
            for decoder in ("torchvision", "pillow")
        }  # first: their workers are forked before any pipeline has threads
        iterators: dict[str, Iterator[object]] = {name: iter(loader) for name, loader in loaders.items()}
        for batches in iterators.values():
            next(batches)
        iterators |= {name: one.run() for name, one in streams.items()}
        seconds = interleave({name: turn(batches) for name, batches in iterators.items()}, args.rounds)
        for one in streams.values():
            one.close()
        del iterators
    loader = min((seconds[name] for name in loaders), key=lambda times: sorted(times)[len(times) // 2])
    kind = "full" if args.views == "full" else "crops"
    figures = [
        figure(f"stream / images and labels only ({kind})", ">= 0.9", seconds["plain"], seconds["stored"]),
        figure(f"stream / over zarr-python ({kind})", ">= 3", seconds["zarr"], seconds["stored"]),
        figure(f"whole loader job / DataLoader, 2 workers ({kind})", ">= 1.3", loader, seconds["stored2"]),
    ]
    report("streaming", figures, {"seconds_per_sample": seconds}, name=f"streaming-{kind}")


if __name__ == "__main__":
    main()
