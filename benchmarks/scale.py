"""What a cache of ten million samples costs: open and first batch of rows, `show`, one more block.

    .venv/bin/python benchmarks/scale.py [--samples 10000000] [--shard-samples 4096] [--rounds 3]

The synthetic cache lies in a temporary folder (about 130 bytes a sample) and is of classification, 8 views.
Seconds are of the processor (user and system), which says the same on a machine that others use too; imports
are not counted, but for `show`, which is a process of its own. Memory is the growth of a fresh process.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from rounds import Figure, report
from scale_cache import Size, make_cache
from scale_growth import grown
from starting import spent

SMALL = 1000  # samples of the cache whose growth is compared
OPEN = """
import json, resource, sys, time
from pathlib import Path
from kdcache.cache.reader.cache import open_cache
from kdcache.cache.spec import Need
from kdcache.trainer.stream.batch import BatchLayout
from kdcache.trainer.stream.stored import StoredStream
from kdcache.trainer.stream.stored_views import check_windows_fit
def rss():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
before, began = rss(), time.process_time()
cache = open_cache(Path(sys.argv[1]))
cache.check_complete()
layout = BatchLayout(seed=0, global_batch=128)
stream = StoredStream(cache, needs=[Need(tap="logits")], layout=layout)
rows = stream.rows(0)
check_windows_fit(cache, (32, 32), 8, cache.without(False))
list(cache.stored_rows(4))
stream.describe()
print(json.dumps({"seconds": time.process_time() - began, "bytes": rss() - before, "rows": len(rows)}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=10_000_000)
    parser.add_argument("--shard-samples", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kdcache-scale-") as temporary:
        home = Path(temporary)
        sizes = [Size(count, args.shard_samples) for count in (args.samples, SMALL)]
        roots = [home / "caches" / name for name in ("large", "small")]
        for root, size in zip(roots, sizes, strict=True):
            make_cache(root, size)
        command = [sys.executable, "-c", OPEN, str(roots[0])]
        opened = [json.loads(subprocess.check_output(command)) for _ in range(args.rounds)]
        imports = os.environ.get("PYTHONPATH", "").partition(os.pathsep)[0]
        shown = [spent("kdcache show large", imports, home).cpu_s for _ in range(args.rounds + 1)]
        growth = [[sum(grown(*one).values()) for one in zip(roots, sizes, strict=True)] for _ in opened]
    name = f"{args.samples / 1e6:g} million samples"
    columns = {
        (f"{name}: open and rows of the first batch", "<= 2", " s"): [one["seconds"] for one in opened],
        (f"{name}: memory of that", "<= 300", " MB"): [one["bytes"] / 1e6 for one in opened],
        (f"{name}: `show`, the second time", "<= 3", " s"): shown[1:],
        (f"{name}: one more block, over that of {SMALL}", "<= 1", ""): [one / other for one, other in growth],
    }
    figures = [
        Figure(title, target, statistics.median(values), (min(values), max(values)), unit)
        for (title, target, unit), values in columns.items()
    ]
    report("scale", figures, {"opened": opened, "show_s": shown, "growth_s": growth})


if __name__ == "__main__":
    main()
