"""Reading a cache must stay light: no network library, no DALI, no zarr-python.

A training process on a small machine, a notebook and a checker all read caches; none of them should wait for
timm or need DALI's shared libraries for it.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from stored_cache import write_cache

HEAVY = (
    "timm", "segmentation_models_pytorch", "torchvision", "nvidia.dali", "zarr", "numcodecs", "webdataset",
    "accelerate", "torchmetrics", "faster_coco_eval", "tensorboard", "click", "rich",
)  # fmt: skip


READ = """
import sys, json
from pathlib import Path
import torch
from kdcache.cache.reader.cache import open_cache
{more}
cache = open_cache(Path(sys.argv[1]))
parts = {{k: torch.tensor(v)[None] for k, v in cache.parts("stage4", 3, 1).items()}}
value = cache.codec("stage4").decode(parts)
assert value.shape == (1, 3, 2, 2) and bool((value == 31 + 1).all()) and cache.key(3) == "d"
assert cache.row(3, 1).geometry.crop_h == 8 and cache.image(3).size and cache.truth(3).size
print(json.dumps([m for m in {heavy!r} if m in sys.modules]))
"""


def loaded_by_reading(root: Path, more: str = "") -> list[str]:
    """The heavy libraries that a fresh process has loaded after it read a row."""
    write_cache(root)
    done = subprocess.run(
        [sys.executable, "-c", READ.format(more=more, heavy=HEAVY), str(root)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    loaded: list[str] = json.loads(done.stdout)
    return loaded


def test_reading_a_cache_loads_no_network_library_no_dali_and_no_zarr(tmp_path: Path) -> None:
    assert loaded_by_reading(tmp_path / "small") == []


@pytest.mark.slow
def test_the_test_of_light_reading_can_fail(tmp_path: Path) -> None:
    assert loaded_by_reading(tmp_path / "small", "import numcodecs, click") == ["numcodecs", "click"]
