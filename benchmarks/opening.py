"""Opening a cache of 10 million rows: time, and growth of memory in a fresh process.

    .venv/bin/python benchmarks/opening.py [--rows 10000000] [--shard-samples 256] [--rounds 3]

The cache is synthetic: a real manifest (8 views) and one empty file per record; opening reads
names, not records. 256 samples a shard is what 1 MB rows give (256 MiB per file). Imports are not
counted. Time is the median.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from rounds import Figure, report

from kdcache.cache.record.manifest import FILE_NAME, Manifest, TapEntry, pass_id
from kdcache.cache.record.records import FOLDER, record_name
from kdcache.cache.stores.contract import ShardKey
from kdcache.cache.views.sets import parse_views

NUM_VIEWS = 8
OPEN = """
import json, resource, sys, time
from pathlib import Path
from kdcache.cache.reader.cache import open_cache
import kdcache.cache.stores.table, kdcache.cache.stores.zarr_format
def rss():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
before, began = rss(), time.perf_counter()
cache = open_cache(Path(sys.argv[1]))
spent = time.perf_counter() - began
complete = len(cache.complete_views(["stage4"]))
print(json.dumps({"open_s": spent, "rss_bytes": rss() - before, "complete": complete,
                  "with_complete_s": time.perf_counter() - began}))
"""


def make_cache(root: Path, num_rows: int, shard_samples: int) -> Manifest:
    """Manifest and record names of a finished cache; no samples, no targets."""
    taps = {
        name: TapEntry(name=name, tap=name, module=name, stride=8, channels=512, codec="int8")
        for name in ("stage4", "logits")
    }
    views = tuple(parse_views(f"crops:{NUM_VIEWS}", crop=(360, 360), seed=0, mirror=False))
    made = pass_id(tuple(taps), taps)
    about = {"name": "none", "split": "train", "class_names": ["a", "b"]}
    manifest = Manifest(
        name="synthetic", identity={}, teacher="t", network={}, teacher_origin="t", teacher_weights="",
        data=about, data_spec="folder:none", crop=(360, 360), output_stride=8, precision="fp32", pipeline={},
        target_format="zarr", zstd=False, shard_samples=shard_samples, num_samples=num_rows // NUM_VIEWS,
        views=views, taps=tuple(taps.values()), passes={made: tuple(sorted(taps))},
    )  # fmt: skip
    (root / FOLDER).mkdir(parents=True)
    (root / FILE_NAME).write_text(manifest.to_json())
    for block in range(manifest.num_blocks):
        for key in (ShardKey(block), *(ShardKey(block, view, made) for view in range(NUM_VIEWS))):
            (root / record_name(key)).touch()
    return manifest


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--shard-samples", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kdcache-opening-") as temporary:
        root = Path(temporary) / "synthetic"
        manifest = make_cache(root, args.rows, args.shard_samples)
        runs = [
            json.loads(
                subprocess.run(
                    [sys.executable, "-c", OPEN, str(root)], check=True, capture_output=True
                ).stdout
            )
            for _ in range(args.rounds)
        ]
    assert all(one["complete"] == 1 for one in runs), "the synthetic cache should count as finished"
    times = [float(one["open_s"]) for one in runs]
    sizes = [one["rss_bytes"] / 1e6 for one in runs]
    rows = f"opening {args.rows / 1e6:g} million rows ({manifest.num_blocks * (NUM_VIEWS + 1)} records)"
    figures = [
        Figure(f"{rows}, seconds", "<= 1", statistics.median(times), (min(times), max(times)), " s"),
        Figure(f"{rows}, memory", "<= 200", statistics.median(sizes), (min(sizes), max(sizes)), " MB"),
    ]
    report("opening", figures, {"runs": runs})


if __name__ == "__main__":
    main()
