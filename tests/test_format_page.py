"""The Python of docs/format.md, run on caches of both formats: what a stranger does without kdcache."""

import gc
import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stored_cache import KEYS, SHARD, SPEC, TAP, small_manifest, write_cache

from kdcache.cache.record.layout import target_layout
from kdcache.cache.stores.table import target_format

PAGE = (Path(__file__).parents[1] / "docs" / "format.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
LIVING, PLAIN_ZARR, TARS, READER, MANY = BLOCKS
HEIGHT, WIDTH, CHANNELS = SPEC.shape
MINIMUM = 1  # of every channel, as is the step
HERE = {  # what the page calls its cache and its maps, and what they are here
    "caches/camvid-r50-1a2b3c4d": "some",
    "45x45": SPEC.size_key,
    "45, 45, 2048": f"{HEIGHT}, {WIDTH}, {CHANNELS}",
    "reshape(2, 2048)": f"reshape(2, {CHANNELS})",
    'sample["jpg"]': 'sample["png"]',
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Blocks one after the other, in the folder that holds the cache; what they leave."""

    def typed(*blocks: str, folder: str = ".", **renamed: str) -> dict[str, Any]:
        monkeypatch.chdir(tmp_path / folder)
        scope: dict[str, Any] = {}
        with warnings.catch_warnings():
            # webdataset leaves its tars to the garbage collector, which complains of the open files.
            warnings.simplefilter("ignore", ResourceWarning)
            for block in blocks:
                for old, new in {**HERE, **renamed}.items():
                    block = block.replace(old, new)
                exec(block, scope)
            gc.collect()
        return scope

    return typed


def value_of(sample: int, view: int) -> np.ndarray:
    """What `write_cache` stores of a row."""
    return np.full(SPEC.shape, 10 * sample + view + MINIMUM, np.float32)


def test_the_rows_that_live_are_told_from_holes_and_retired_ones(
    tmp_path: Path, run: Callable[..., dict[str, Any]]
) -> None:
    cache = write_cache(tmp_path / "some")
    samples = sum(len(keys) for keys in KEYS)
    assert run(LIVING)["living"] == list(range(samples)), "the last place of the last block is a hole"
    cache.settle(retired=[1])
    scope = run(LIVING)
    assert scope["living"] == [0, 2, 3, 4] and scope["size"] == SHARD


def test_plain_zarr_gives_the_teachers_numbers(tmp_path: Path, run: Callable[..., dict[str, Any]]) -> None:
    cache = write_cache(tmp_path / "some")
    layout = target_layout(cache.manifest, {TAP.name: [SPEC]}, num_blocks=len(KEYS))
    target_format("zarr").prepare(cache.store, layout, ())
    assert (run(PLAIN_ZARR)["map_HWC"] == value_of(3, 0)).all()


def test_plain_webdataset_gives_images_and_the_teachers_numbers(
    tmp_path: Path, run: Callable[..., dict[str, Any]]
) -> None:
    cache = write_cache(tmp_path / "some", manifest=replace(small_manifest(), target_format="webdataset"))
    (tar,) = (tmp_path / "some" / "targets" / cache.manifest.teacher).glob("00000-v000-*.tar")
    page = "targets/r50/00000-v000-5e6f7a8b.tar"
    assert page in TARS
    scope = run(TARS, folder="some", **{page: str(tar.relative_to(tmp_path / "some"))})
    last = len(KEYS[0]) - 1
    assert f"image of {KEYS[0][last]}".encode() in scope["jpeg"]
    assert f"label of {KEYS[0][last]}".encode() in scope["label_png"]
    assert KEYS[0][last].encode() in scope["about"]
    assert (scope["map_HWC"] == value_of(last, 0)).all()


def test_the_reader_gives_one_row_and_many(
    tmp_path: Path, run: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    write_cache(tmp_path / "some")
    scope = run(READER, MANY, **{"living[:64]": "living[:5]", "(64, ": "(5, "})
    assert (scope["map_BCHW"][0].permute(1, 2, 0).numpy() == value_of(3, 0)).all()
    assert scope["map_BCHW"].shape == (1, CHANNELS, HEIGHT, WIDTH)
    assert [row.flat[0] for row in scope["values"]] == [10 * sample for sample in scope["samples"]]
    assert scope["rows"].geometry.shape == (5, 7)
    assert capsys.readouterr().out.startswith(f"5 {KEYS[1][0]} ") and TAP.name in READER
