"""Reading a cache must stay light: no network library, no DALI, no zarr-python.

A training process on a small machine, a notebook and a checker all read caches; none of them should wait for
timm or need DALI's shared libraries for it.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kdcache.cache.record.layout import target_layout
from kdcache.cache.record.manifest import FILE_NAME, Manifest, TapEntry, pass_id
from kdcache.cache.record.records import record_name
from kdcache.cache.spec import TensorSpec
from kdcache.cache.stores.contract import ShardKey
from kdcache.cache.stores.local import LocalStore
from kdcache.cache.stores.sample_tars import SampleEntry, write_samples
from kdcache.cache.stores.table import target_format
from kdcache.cache.views.sets import ViewSet

HEAVY = (
    "timm", "segmentation_models_pytorch", "torchvision", "nvidia.dali", "zarr", "numcodecs", "webdataset",
    "accelerate", "torchmetrics", "tensorboard", "click", "rich",
)  # fmt: skip


def small_cache(root: Path) -> Path:
    """One sample, one view, one int8 tap, written without a teacher and without an image pipeline."""
    views = (ViewSet(kind="crops", first=0, count=1, crop=(8, 8)),)
    tap = TapEntry(name="stage4", tap="stage4", module="body", stride=4, channels=3, codec="int8")
    pass_name = pass_id(("stage4",), {"stage4": tap})
    manifest = Manifest(
        name="small", identity={}, teacher="t", network={}, teacher_origin="t", teacher_weights="",
        data={"name": "folder", "split": "train", "class_names": ["a", "b"]}, data_spec="folder:here",
        crop=(8, 8), output_stride=4, precision="fp32", pipeline={}, target_format="zarr", zstd=False,
        shard_samples=1, num_samples=1, views=views, taps=(tap,), passes={pass_name: ("stage4",)},
    )  # fmt: skip
    store = LocalStore(root)
    store.put(FILE_NAME, manifest.to_json().encode())
    entry = SampleEntry("one", "png", b"\x89PNG image", "label.png", b"\x89PNG label", 8, 8)
    samples = {"digest": "d", "objects": write_samples(store, 0, 0, [entry]), "stamps": [[]]}
    store.commit(record_name(ShardKey(0)), samples)
    _write_row(store, manifest, tap, pass_name)
    return root


def _write_row(store: LocalStore, manifest: Manifest, tap: TapEntry, pass_name: str) -> None:
    spec = TensorSpec((2, 2, 3), 4)
    row = {"values": np.full((2, 2, 3), 7, np.uint8), "scale": np.ones((2, 3), np.float32)}
    objects = target_format("zarr").write(
        store, target_layout(manifest, {"stage4": [spec]}), ShardKey(0, 0, pass_name),
        targets={"stage4": [row]}, sizes={"stage4": [spec]},
    )  # fmt: skip
    view = manifest.views[0].view("one", 0, 8, 8).to_json()
    record = {"targets": ["stage4"], "view": 0, "samples": "d", "rows": 1, "valid": [1], "views": [view]}
    store.commit(record_name(ShardKey(0, 0, pass_name)), {**record, "pixels": None, "objects": objects})


READ = """
import sys, json
from pathlib import Path
import torch
from kdcache.cache.reader.cache import open_cache
{more}
cache = open_cache(Path(sys.argv[1]))
parts = {{k: torch.tensor(v)[None] for k, v in cache.parts("stage4", 0, 0).items()}}
value = cache.codec("stage4").decode(parts)
assert value.shape == (1, 3, 2, 2) and bool((value == 8).all()) and cache.key(0) == "one"
print(json.dumps([m for m in {heavy!r} if m in sys.modules]))
"""


def loaded_by_reading(root: Path, more: str = "") -> list[str]:
    """The heavy libraries that a fresh process has loaded after it read a row."""
    done = subprocess.run(
        [sys.executable, "-c", READ.format(more=more, heavy=HEAVY), str(root)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    loaded: list[str] = json.loads(done.stdout)
    return loaded


def test_reading_a_cache_loads_no_network_library_no_dali_and_no_zarr(tmp_path: Path) -> None:
    assert loaded_by_reading(small_cache(tmp_path / "small")) == []


@pytest.mark.slow
def test_the_test_of_light_reading_can_fail(tmp_path: Path) -> None:
    assert loaded_by_reading(small_cache(tmp_path / "small"), "import numcodecs, click") == [
        "numcodecs",
        "click",
    ]
