"""Descriptions of the arrays: what plain zarr-python sees, how they grow, what they refuse."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from kdcache.cache.errors import BadCache
from kdcache.cache.spec import PartSpec, TensorSpec
from kdcache.cache.stores.contract import ShardKey, TapLayout, TargetLayout
from kdcache.cache.stores.local import LocalStore
from kdcache.cache.stores.zarr_format import ZarrFormat, array_path, describe_array, shard_name

PART = PartSpec((2, 3, 4), "uint8", True)
SCALE = PartSpec((2, 4), "float32", False)
PATH = array_path("r50", "stage4", "2x3", "values")


def describe(
    store: LocalStore, *, views: int = 2, samples: int = 7, part: PartSpec = PART, **other: Any
) -> None:
    options = {"shard_samples": 4, "zstd": False} | other
    describe_array(store, PATH, num_views=views, num_samples=samples, part=part, **options)


def test_the_tree_lists_everything_through_plain_zarr(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    describe(store)
    describe_array(
        store, array_path("r50", "stage4", "2x3", "scale"),
        num_views=2, num_samples=7, shard_samples=4, part=SCALE, zstd=False,
    )  # fmt: skip
    root = zarr.open(tmp_path / "targets.zarr", mode="r")
    names = [name for name, _ in root.members(max_depth=None)]
    assert sorted(names) == [
        "r50", "r50/stage4", "r50/stage4/2x3", "r50/stage4/2x3/scale", "r50/stage4/2x3/values",
    ]  # fmt: skip
    values, scale = root["r50/stage4/2x3/values"], root["r50/stage4/2x3/scale"]
    assert values.shape == (2, 7, 2, 3, 4) and values.dtype == np.uint8 and values.fill_value == 0
    assert values.shards == (1, 4, 2, 3, 4) and values.chunks == (1, 1, 2, 3, 4)
    assert scale.shape == (2, 7, 2, 4) and scale.dtype == np.float32 and np.isnan(scale.fill_value)


def test_a_row_never_written_has_a_nan_scale(tmp_path: Path) -> None:
    describe_array(
        LocalStore(tmp_path), "s", num_views=1, num_samples=3, shard_samples=4, part=SCALE, zstd=False
    )
    assert bool(np.isnan(zarr.open_array(tmp_path / "s", mode="r")[:]).all())


def test_growing_changes_the_shape_and_nothing_else(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    describe(store)
    before = json.loads((tmp_path / PATH / "zarr.json").read_text())
    describe(store, views=9, samples=40)
    after = json.loads((tmp_path / PATH / "zarr.json").read_text())
    assert after["shape"] == [9, 40, 2, 3, 4]
    assert {k: v for k, v in after.items() if k != "shape"} == {
        k: v for k, v in before.items() if k != "shape"
    }


def test_describing_again_or_smaller_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(tmp_path)
    describe(store, views=3, samples=9)
    monkeypatch.setattr(store, "put", lambda *_: pytest.fail("something was written"))
    describe(store, views=3, samples=9)
    describe(store, views=1, samples=4)
    assert zarr.open_array(tmp_path / PATH, mode="r").shape[:2] == (3, 9)


@pytest.mark.parametrize(
    "other", [{"shard_samples": 8}, {"zstd": True}, {"part": PartSpec((2, 3, 4), "float16", True)},
              {"part": PartSpec((2, 3, 5), "uint8", True)}],
)  # fmt: skip
def test_an_array_of_another_layout_is_refused_and_left_alone(tmp_path: Path, other: dict[str, Any]) -> None:
    store = LocalStore(tmp_path)
    describe(store)
    before = (tmp_path / PATH / "zarr.json").read_bytes()
    with pytest.raises(BadCache, match="is there already with another") as caught:
        describe(store, **other)
    assert PATH in caught.value.where and "new cache" in caught.value.fix
    assert (tmp_path / PATH / "zarr.json").read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"{}", b'{"shape": [1]}', b'{"shape": 5}'])
def test_a_torn_description_is_an_error_that_names_it(tmp_path: Path, content: bytes) -> None:
    store = LocalStore(tmp_path)
    describe(store)
    (tmp_path / PATH / "zarr.json").write_bytes(content)
    with pytest.raises(BadCache, match=r"zarr\.json"):
        describe(store)


def test_an_image_of_another_size_leaves_no_shard_of_the_old_size_behind(tmp_path: Path) -> None:
    store, form = LocalStore(tmp_path), ZarrFormat()
    specs = {s.size_key: s for s in (TensorSpec((2, 3, 4), 8), TensorSpec((3, 2, 4), 8))}
    parts = {key: {"values": PartSpec(s.shape, "uint8", True)} for key, s in specs.items()}
    layout = TargetLayout(
        teacher="t", num_views=1, num_samples=2, shard_samples=1, zstd=False,
        taps={"stage4": TapLayout(codec="int8", parts=parts)},
    )  # fmt: skip
    form.prepare(store, layout)
    for block, size in ((0, "2x3"), (1, "2x3"), (0, "3x2")):
        row = {"values": np.full(specs[size].shape, 7, np.uint8)}
        form.write(
            store, layout, ShardKey(block, 0, "p"),
            targets={"stage4": [row]}, sizes={"stage4": [specs[size]]},
        )  # fmt: skip
    wide = zarr.open_array(tmp_path / array_path("t", "stage4", "2x3", "values"), mode="r")
    assert wide[0, 0].max() == 0 and wide[0, 1].min() == 7
    assert not store.exists(shard_name(array_path("t", "stage4", "2x3", "values"), ShardKey(0, 0), PART))
