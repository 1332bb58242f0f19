"""Targets in tars: what plain webdataset sees, and damage of the index beside a tar."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stored_shard import put_shard

from kdcache.cache.errors import BadCache, BadOption
from kdcache.cache.spec import PartSpec, TensorSpec
from kdcache.cache.stores.contract import ShardKey, TapLayout, TargetLayout
from kdcache.cache.stores.local import LocalStore
from kdcache.cache.stores.webdataset_format import WebdatasetFormat, tar_name

SPEC = TensorSpec((2, 3), 0)
SHARD = ShardKey(0, 0, "0123abcd")
NAME = tar_name("t", SHARD)


def layout(*taps: str, zstd: bool = False, shape: tuple[int, ...] = (2, 3)) -> TargetLayout:
    parts = {SPEC.size_key: {"values": PartSpec(shape, "float16", False)}}
    return TargetLayout(
        teacher="t", num_views=1, num_samples=3, shard_samples=3, zstd=zstd,
        taps={tap: TapLayout(codec="fp16", parts=parts) for tap in taps},
    )  # fmt: skip


def write(store: LocalStore, *taps: str) -> None:
    rows = [{"values": np.full((2, 3), n, np.float16)} if n != 1 else None for n in range(3)]
    put_shard(
        WebdatasetFormat(),
        store, layout(*taps), SHARD,
        targets={t: rows for t in taps}, sizes={t: [SPEC] * 3 for t in taps},
    )  # fmt: skip


def read(store: LocalStore, tap: str, layout_: TargetLayout) -> np.ndarray:
    opened = WebdatasetFormat().open(store, layout_, SHARD, tap=tap, size_key=SPEC.size_key)
    return opened.row(2, "values")


def test_plain_webdataset_groups_the_parts_of_a_sample(
    tmp_path: Path, plain_webdataset: Callable[..., list[dict[str, Any]]]
) -> None:
    write(LocalStore(tmp_path), "stage4", "stage4.pooled")
    samples = plain_webdataset(tmp_path / NAME)
    assert [s["__key__"] for s in samples] == ["00000000", "00000002"]
    assert [k for k in samples[1] if not k.startswith("__")] == [
        "v000.stage4.values.bin", "v000.stage4-pooled.values.bin",
    ]  # fmt: skip
    assert np.frombuffer(samples[1]["v000.stage4.values.bin"], "<f2").tolist() == [2.0] * 6


def test_zstd_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(BadOption, match="stored raw") as caught:
        WebdatasetFormat().prepare(LocalStore(tmp_path), layout("stage4", zstd=True), ())
    assert "--format zarr" in caught.value.fix and list(tmp_path.iterdir()) == []


def test_taps_that_would_share_a_member_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadOption, match="'a.b' and 'a-b' would share the member name 'a-b'"):
        WebdatasetFormat().prepare(LocalStore(tmp_path), layout("a.b", "a-b"), ())


@pytest.mark.parametrize(
    ("key", "value"),
    [("format", 2), ("parts", {}), ("offsets", {}), ("sizes", {"stage4": [""] * 2}), ("sizes", 3)],
)
def test_an_index_that_does_not_fit_is_an_error_that_names_it(
    tmp_path: Path, key: str, value: object
) -> None:
    store = LocalStore(tmp_path)
    write(store, "stage4")
    index = tmp_path / NAME.replace(".tar", ".idx.json")
    index.write_text(json.dumps(json.loads(index.read_text()) | {key: value}))
    with pytest.raises(BadCache, match=r"idx\.json' cannot be read") as caught:
        read(store, "stage4", layout("stage4"))
    assert "kdcache build --repair" in caught.value.fix


def test_parts_of_another_shape_than_the_manifest_says_are_refused(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    write(store, "stage4")
    with pytest.raises(BadCache, match="the manifest says"):
        read(store, "stage4", layout("stage4", shape=(3, 3)))


def test_rows_are_views_of_the_mapped_tar(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    write(store, "stage4")
    row = read(store, "stage4", layout("stage4"))
    assert np.shares_memory(row, store.open_map(NAME)) and row.flags.aligned
