"""Streams of training batches, for benchmarks/peers.py: 32x32 images cropped and flipped, with labels and the
teacher's logits, batches of 64, shuffled.

    loader       torch DataLoader, two workers that persist: arrays in memory, crop and flip a sample
    webdataset   shards of png, cls and npy; WebLoader with two workers, shuffled there and once more behind
    arrays       no loader: order, crops and flips of a whole batch as fancy indices over arrays in memory
    kdcache      the stream of a run over stored views (StoredStream), as the trainer makes it

All give uint8 images (B,32,32,3), labels and logits. Each turn first uses up what was prefetched.
"""

import importlib
import io
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from peers_hand import PAD, SIDE, draw, mini, save_random
from rounds import interleave, ratio

BATCH, WORKERS, SHARD_SAMPLES, BUFFER = 64, 2, 500, 1000
OURS, ARRAYS, LOADER, WEBDATASET = "kdcache", "arrays in memory, vectorised", "DataLoader", "webdataset"
NAMES = (OURS, ARRAYS, LOADER, WEBDATASET)
SETTLE_S = 0.3


class Samples:
    """A map-style dataset: one image cropped and flipped in NumPy, its label, its logits."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, logits: np.ndarray) -> None:
        self.padded = np.pad(images, ((0, 0), (PAD, PAD), (PAD, PAD), (0, 0)))
        self.labels, self.logits = labels, logits

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int, Any]:
        import torch

        return (
            torch.from_numpy(cropped(self.padded[index])),
            int(self.labels[index]),
            torch.from_numpy(self.logits[index]),
        )


def cropped(padded_HWC: np.ndarray) -> np.ndarray:
    """One random crop, flipped half the time. A worker's generator is seeded by its process."""
    import torch

    top, left, flip = torch.randint(0, 2 * PAD + 1, (3,)).tolist()
    crop = padded_HWC[top : top + SIDE, left : left + SIDE]
    return np.ascontiguousarray(crop[:, ::-1] if flip % 2 else crop)


def loader(images: np.ndarray, labels: np.ndarray, logits: np.ndarray) -> Iterator[Any]:
    from torch.utils.data import DataLoader

    samples = Samples(images, labels, logits)
    made: Any = DataLoader(samples, BATCH, shuffle=True, num_workers=WORKERS, persistent_workers=True)  # type: ignore[arg-type]
    while True:
        yield from made


def write_shards(folder: Path, images: np.ndarray, labels: np.ndarray, logits: np.ndarray) -> str:
    """Shards for webdataset; their pattern."""
    import webdataset
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    with webdataset.ShardWriter(f"{folder}/%05d.tar", maxcount=SHARD_SAMPLES, verbose=0) as sink:
        for index, image in enumerate(images):
            png = io.BytesIO()
            Image.fromarray(image).save(png, "PNG")
            sample = {"png": png.getvalue(), "cls": int(labels[index]), "npy": logits[index]}
            sink.write({"__key__": f"{index:08d}", **sample})
    last = -(-len(images) // SHARD_SAMPLES) - 1
    return f"{folder}/{{00000..{last:05d}}}.tar"


def web(pattern: str) -> Iterator[Any]:
    import webdataset

    def view(image: np.ndarray) -> np.ndarray:
        return cropped(np.pad(image, ((PAD, PAD), (PAD, PAD), (0, 0))))

    dataset = (
        webdataset.WebDataset(
            pattern, resampled=True, shardshuffle=True, nodesplitter=webdataset.split_by_node
        )
        .shuffle(BUFFER)
        .decode("rgb8")
        .to_tuple("png", "cls", "npy")
        .map_tuple(view, int, np.asarray)
        .batched(BATCH)
    )
    made = webdataset.WebLoader(dataset, batch_size=None, num_workers=WORKERS)
    yield from made.unbatched().shuffle(BUFFER).batched(BATCH)  # resampled: it never ends


def arrays(images: np.ndarray, labels: np.ndarray, logits: np.ndarray) -> Iterator[Any]:
    """What the hand loop of peers_hand.py does for each batch; views drawn anew for each epoch."""
    rng = np.random.default_rng(0)
    while True:
        drawn, order = draw(images, 1), rng.permutation(len(images))
        for first in range(0, len(order) - BATCH + 1, BATCH):
            chosen = order[first : first + BATCH]
            yield drawn.cut(chosen, np.zeros_like(chosen)), labels[chosen], logits[chosen]


def ours(root: str) -> Iterator[Any]:
    from kdcache.cache.reader.cache import open_cache
    from kdcache.cache.spec import Need
    from kdcache.trainer.stream.batch import BatchLayout
    from kdcache.trainer.stream.stored import StoredStream

    cache, layout = open_cache(Path(root)), BatchLayout(seed=0, global_batch=BATCH)
    more: dict[str, Any] = {}
    with suppress(ImportError):  # of versions that choose where pixels come from: as a run does by default
        more["rule"] = importlib.import_module("kdcache.trainer.stream.arrays.levels").Rule()
    stream: Any = StoredStream(cache, needs=[Need(tap="logits")], layout=layout, **more)
    for batch in stream.run():
        stream.targets(batch)
        yield batch


def measure(
    data: str, root: str, work: str, images: int, rounds: int, seconds: float, timed: int
) -> dict[str, Any]:
    """Called in a worker. Samples a second of each stream, and how often it is as fast as the loader."""
    began = time.monotonic()
    pixels, labels = mini({"data": data, "images": images}, "train")
    logits = np.random.default_rng(0).standard_normal((len(labels), 10)).astype(np.float16)
    pattern = write_shards(Path(work) / "webdataset", pixels, labels, logits)
    streams = {  # those with workers first: they are forked before any pipeline has threads
        LOADER: loader(pixels, labels, logits),
        WEBDATASET: web(pattern),
        ARRAYS: arrays(pixels, labels, logits),
        OURS: ours(root),
    }
    for batches in streams.values():
        next(batches)
    sample_s: dict[str, list[float]] = {name: [] for name in NAMES}
    for number in range(rounds + 1):
        turns = {name: _turn(streams[name], timed) for name in (NAMES if number % 2 else reversed(NAMES))}
        for name, times in interleave(turns, 1).items():
            sample_s[name] += times
        if number and time.monotonic() - began > seconds:
            break
    return {name: _summary(times, sample_s[ARRAYS]) for name, times in sample_s.items()}


def _turn(batches: Iterator[Any], timed: int) -> Any:
    def turn() -> float:
        time.sleep(SETTLE_S)
        for _ in islice(batches, WORKERS * 2 + 2):
            pass
        began = time.perf_counter()
        for _ in islice(batches, timed):
            pass
        return (time.perf_counter() - began) / (timed * BATCH)

    return turn


def _summary(sample_s: list[float], arrays_s: list[float]) -> dict[str, Any]:
    speed, spread = ratio(arrays_s, sample_s)
    return {"sample_s": sample_s, "of_arrays": speed, "of_arrays_spread": spread}


def built(data: str, work: str, views: int) -> str:
    """A cache of random logits over the images; its root. Called in a worker."""
    from kdcache.cache.build.build import build_cache
    from kdcache.cache.build.options import BuildOptions, parse_tap

    place, weights = Path(work), f"{work}/random.safetensors"
    save_random("resnet8", weights)
    options = BuildOptions(
        runs_dir=place / "runs", caches_dir=place / "caches", data=f"npz:{data}", views=f"crops:{views}",
        taps=(parse_tap("logits"),), teacher="resnet8", weights=weights, batch_size=64,
    )  # fmt: skip
    return str(build_cache(options).root)
