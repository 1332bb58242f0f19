"""Opening a cache of 10 million rows: time, and growth of memory in a fresh process.

    .venv/bin/python benchmarks/opening.py [--rows 10000000] [--shard-samples 256] [--rounds 3]

Manifest, generation and all records are real, sealed and linked, and so are the columns of views with their
digests of pixels; only images and targets are missing. Opening reads the manifest and the generation; the
view columns of one block are read besides, with their record. 256 samples a shard is what 1 MB rows give (256
MiB per file). Imports are not counted. Time is the median. Also: bytes of columns per row, and those of pixel
digests.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from rounds import Figure, report

from kdcache.cache.fingerprint import digest_bytes
from kdcache.cache.record.generation import (
    BlockEntry,
    Pair,
    RecordEntry,
    generation_bytes,
    generation_name,
)
from kdcache.cache.record.manifest import FILE_NAME, Manifest, TapEntry, manifest_bytes, pass_id
from kdcache.cache.record.records import SamplesRecord, TargetsRecord, record_bytes, record_name
from kdcache.cache.record.row_columns import columns_name, pack_views
from kdcache.cache.record.sealed import seal_of
from kdcache.cache.stores.contract import ObjectRecord, ShardKey
from kdcache.cache.views.block_views import block_views
from kdcache.cache.views.sets import parse_views
from kdcache.cache.views.view import Geometry, Row

NUM_VIEWS = 8
CROP = (360, 360)
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
living = len(cache.living)
key = next(k for k in cache.coverage.keys() if k.block == 7)
record = cache.targets_record(key)
print(json.dumps({"open_s": spent, "rss_bytes": rss() - before, "complete": complete, "living": living,
                  "record_rows": record.rows, "with_order_s": time.perf_counter() - began}))
"""


def make_cache(root: Path, num_rows: int, shard_samples: int) -> int:
    """Everything of a finished cache but samples and targets; returns the number of records."""
    taps = {
        name: TapEntry(name=name, tap=name, module=name, stride=8, channels=512, codec="int8")
        for name in ("stage4", "logits")
    }
    views = tuple(parse_views(f"crops:{NUM_VIEWS}", crop=CROP, seed=0, mirror=False))
    made, names = pass_id(tuple(taps), taps), tuple(sorted(taps))
    about = {"name": "none", "split": "train", "class_names": ["a", "b"]}
    manifest = Manifest(
        name="synthetic", identity={}, teacher="t", network={}, teacher_origin="t", teacher_weights="",
        data=about, data_spec="folder:none", crop=CROP, output_stride=8, precision="fp32", pipeline={},
        target_format="zarr", zstd=False, shard_samples=shard_samples,
        views=views, taps=tuple(taps.values()), passes={made: names},
    )  # fmt: skip
    for folder in ("records", "generations", "views"):
        (root / folder).mkdir(parents=True)
    (root / FILE_NAME).write_bytes(manifest_bytes(manifest))
    columns = drawn_columns(shard_samples)
    blocks, records = [], []
    for block in range(-(-num_rows // NUM_VIEWS // shard_samples)):
        content = record_bytes(SamplesRecord(block=block, rows=shard_samples, objects=()))
        (root / record_name(ShardKey(block))).write_bytes(content)
        blocks.append(BlockEntry(seal_of(content), shard_samples))
        for view in range(NUM_VIEWS):
            shard = ShardKey(block, view, made)
            (root / columns_name(shard)).write_bytes(columns)
            entry = ObjectRecord(columns_name(shard), len(columns), digest_bytes(columns))
            record = TargetsRecord(
                block=block, view=view, pass_id=made, targets=names, samples=blocks[-1].seal,
                rows=shard_samples, views=entry, objects=(entry,),
            )  # fmt: skip
            content = record_bytes(record)
            (root / record_name(shard)).write_bytes(content)
            records.append(RecordEntry(*shard, seal_of(content)))
    complete = [Pair(0, name) for name in names]
    generation = generation_bytes(1, manifest, blocks=blocks, retired=(), complete=complete, records=records)
    (root / generation_name(1)).write_bytes(generation)
    return len(blocks) + len(records)


def drawn_columns(rows: int) -> bytes:
    drawn = [Row(i, 0, Geometry(400 + i, 500, i % 2, i % 30, 7, *CROP)) for i in range(rows)]
    return pack_views(block_views(0, 0, drawn, np.arange(1, rows + 1, dtype=np.uint64)))


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
        records = make_cache(root, args.rows, args.shard_samples)
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
    rows = f"opening {args.rows / 1e6:g} million rows ({records} records)"
    figures = [
        Figure(f"{rows}, seconds", "<= 1", statistics.median(times), (min(times), max(times)), " s"),
        Figure(f"{rows}, memory", "<= 200", statistics.median(sizes), (min(sizes), max(sizes)), " MB"),
    ]
    per_row = len(drawn_columns(args.shard_samples)) / args.shard_samples
    figures.append(
        Figure("bytes of columns a row, 8 of them pixel digests", "<= 48", per_row, (per_row, per_row), " B")
    )
    report("opening", figures, {"runs": runs})


if __name__ == "__main__":
    main()
