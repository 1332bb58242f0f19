"""What seals and digests cost: their CPU seconds over all CPU seconds of a build, and of the stream's first
epochs.

    .venv/bin/python benchmarks/sealing.py --data camvid:DIR [--network r18] [--crop 176,240] [--rounds 3]

Counted is every call that digests bytes or pixels, seals or opens a seal, with what is done for it (mapping
the file, comparing). The build runs a ResNet-18 teacher (random weights: times do not depend on them) over
crops; the stream reads a cache of 22x30x256 int8 maps and logits: its first epoch, in which every shard and
every row is compared for the first time, and the first ten.
"""

import argparse
import importlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench_cache import build_from_run, data_spec, make_run, parse_pair, wide_cache
from rounds import Figure, report

from kdcache.cache.reader.cache import open_cache
from kdcache.cache.spec import Need
from kdcache.trainer.stream.batch import BatchLayout
from kdcache.trainer.stream.stored import StoredStream

BATCH = 16
COUNTED = (  # where a name is looked up when it is called
    ("kdcache.cache.stores.local", "RunningDigest.update"),
    ("kdcache.cache.stores.object_check", "digest_bytes"),
    ("kdcache.cache.build.samples.survey", "digest16"),
    ("kdcache.cache.build.targets", "pixel_digests"),
    ("kdcache.cache.record.records", "sealed"),
    ("kdcache.cache.record.records", "read_sealed"),
    ("kdcache.cache.record.generation", "sealed"),
    ("kdcache.cache.record.generation", "read_sealed"),
    ("kdcache.cache.record.manifest", "sealed"),
    ("kdcache.cache.record.manifest", "decode_sealed"),
    ("kdcache.trainer.stream.stored", "PassingPixels.compare"),
)


class Clock:
    """CPU seconds of the counted calls, whichever thread makes them."""

    def __init__(self) -> None:
        self.spent_s = 0.0
        for module, name in COUNTED:
            owner: Any = importlib.import_module(module)
            *parents, attribute = name.split(".")
            for parent in parents:
                owner = getattr(owner, parent)
            setattr(owner, attribute, self._timed(getattr(owner, attribute)))

    def _timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            began = time.thread_time()
            try:
                return function(*arguments, **named)
            finally:
                self.spent_s += time.thread_time() - began

        return timed

    def share_of(self, job: Callable[[], object]) -> float:
        """Of the CPU seconds of this process while the job runs."""
        self.spent_s, began = 0.0, time.process_time()
        job()
        return self.spent_s / (time.process_time() - began)


def stream_epochs(root: Path, crop: tuple[int, int], epochs: int) -> None:
    """A fresh reader, so that everything is compared again."""
    cache = open_cache(root)
    needs = [Need(tap=name) for name in cache.manifest.tap_names]
    stream = StoredStream(cache, needs=needs, layout=BatchLayout(seed=0, global_batch=BATCH), crop=crop)
    batches = stream.run()
    for _ in range(epochs * stream.num_samples // BATCH):
        next(batches)
    stream.close()


def figure_of(name: str, shares: list[float]) -> Figure:
    percent = sorted(100 * share for share in shares)
    return Figure(name, "<= 1", percent[len(percent) // 2], (percent[0], percent[-1]), " %")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data")
    parser.add_argument("--network", default="r18")
    parser.add_argument("--crop", type=parse_pair, default=(176, 240))
    parser.add_argument("--images", type=int, default=64, help="drawn ones, without --data")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    clock = Clock()
    builds, first, ten = [], [], []
    with tempfile.TemporaryDirectory(prefix="kdcache-sealing-") as temporary:
        work = Path(temporary)
        data = data_spec(args.data, work, args.images)
        make_run(work, "teacher", args.network, data, args.crop, 8)
        cache = wide_cache(work, data, views="crops:2", crop=args.crop, taps="stage4=int8,logits")
        for number in range(args.rounds):
            name = f"caches{number}"
            builds.append(
                clock.share_of(
                    lambda name=name: build_from_run(  # type: ignore[misc]
                        work, "teacher", caches=name, views="crops:1", batch_size=8
                    )
                )
            )
            first.append(clock.share_of(lambda: stream_epochs(cache.root, args.crop, 1)))
            ten.append(clock.share_of(lambda: stream_epochs(cache.root, args.crop, 10)))
    figures = [
        figure_of("seals and digests, share of a build's CPU seconds", builds),
        figure_of("seals and digests, share of the stream's CPU seconds, first ten epochs", ten),
        figure_of("the same, first epoch alone", first),
    ]
    report("sealing", figures, {"build": builds, "first": first, "ten": ten})


if __name__ == "__main__":
    main()
