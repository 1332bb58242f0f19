"""Building a cache against the bare forward of its teacher, and bytes written against bytes kept.

    .venv/bin/python benchmarks/building.py [--data camvid:DIR] [--network r18] [--crop 176] [--rounds 5]

Build: everything that `kdcache build` does after planning (samples packed, images decoded, teacher run, maps
encoded, shards and records written), seconds per row. Forward: the same network on batches that are decoded
already, asked for the same taps. Written: what this process passed to write(2) during a build (wchar of
/proc/self/io); kept: all files of the cache. A network with random weights: times do not depend on them.
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import torch
from bench_cache import build_from_run, data_spec, make_run, parse_pair
from rounds import figure, interleave, report

from kdcache.cache.build.build import BuildEvents
from kdcache.cache.build.plan import Plan
from kdcache.cache.build.predict import Prediction
from kdcache.cache.build.samples.assign import Assignment
from kdcache.cache.networks.network import Network
from kdcache.cache.reader.cache import open_cache


class Builds:
    """Builds the same cache again and again, each time into an empty folder."""

    def __init__(self, work: Path, views: str, batch_size: int) -> None:
        self.work, self.views, self.batch_size = work, views, batch_size
        self.rows = 0
        self.written: list[float] = []
        self.kept: list[float] = []
        self.taps: tuple[str, ...] = ()

    def build(self) -> float:
        """Seconds per row, from the end of planning on."""
        began = [0.0]

        def planned(plan: Plan, prediction: Prediction, assignment: Assignment) -> None:
            del plan, assignment
            self.rows, began[0] = prediction.rows, time.perf_counter()

        before = _bytes_passed_to_write()
        root = build_from_run(
            self.work, "teacher", caches="caches", views=self.views, batch_size=self.batch_size,
            events=BuildEvents(planned=planned),
        )  # fmt: skip
        spent_s = time.perf_counter() - began[0]
        self.written.append(_bytes_passed_to_write() - before)
        self.kept.append(sum(p.stat().st_size for p in root.rglob("*") if p.is_file()))
        self.taps = open_cache(root).manifest.tap_names
        shutil.rmtree(self.work / "caches")
        return spent_s / self.rows


class Forwards:
    """The bare teacher over as many rows as a build has."""

    def __init__(self, network: Network, crop: tuple[int, int], batch_size: int, builds: Builds) -> None:
        self.network, self.builds = network.eval(), builds
        self.images_BHWC = torch.randint(0, 256, (batch_size, *crop, 3), dtype=torch.uint8)

    @torch.no_grad()
    def forward(self) -> float:
        """Seconds per row."""
        batches = max(1, self.builds.rows // len(self.images_BHWC))
        began = time.perf_counter()
        for _ in range(batches):
            self.network(self.images_BHWC, self.builds.taps)
        return (time.perf_counter() - began) / (batches * len(self.images_BHWC))


def _bytes_passed_to_write() -> int:
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("wchar")).split()[1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="NAME:DIR [drawn images]")
    parser.add_argument("--images", type=int, default=64, help="of the drawn ones")
    parser.add_argument("--network", default="r18")
    parser.add_argument("--crop", type=parse_pair, default=(176, 176), metavar="H,W")
    parser.add_argument("--output-stride", type=int, default=8)
    parser.add_argument("--views", default="crops:1")
    parser.add_argument("--batch-size", type=int, default=8)  # of both: rows at a time change the forward
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kdcache-building-") as temporary:
        work = Path(temporary)
        data = data_spec(args.data, work, args.images)
        network = make_run(work, "teacher", args.network, data, args.crop, args.output_stride)
        builds = Builds(work, args.views, args.batch_size)
        builds.build()  # learns rows and taps
        forwards = Forwards(network, args.crop, args.batch_size, builds)
        row_seconds = interleave({"forward": forwards.forward, "build": builds.build}, args.rounds)
    figures = [
        figure(
            "build / bare teacher forward", ">= 0.95", row_seconds["forward"], row_seconds["build"], skip=0
        ),
        figure("bytes written / bytes kept", "<= 1.02", builds.written, builds.kept, skip=0),
    ]
    measured = {
        "seconds_per_row": row_seconds,
        "rows": builds.rows,
        "written": builds.written,
        "kept": builds.kept,
    }
    report("building", figures, measured)


if __name__ == "__main__":
    main()
