"""Descriptions of the arrays: what plain zarr-python sees, how they grow, what they refuse."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from stored_shard import put_shard

from kdcache.cache.errors import BadCache
from kdcache.cache.spec import PartSpec, TensorSpec
from kdcache.cache.stores.contract import ShardKey, TapLayout, TargetLayout
from kdcache.cache.stores.local import LocalStore
from kdcache.cache.stores.zarr_format import ZarrFormat, array_path, describe_array, shard_name

PART = PartSpec((2, 3, 4), "uint8", True)
SCALE = PartSpec((2, 4), "float32", False)
PATH = array_path("r50", "stage4", "2x3", "values")


LAYOUT = TargetLayout(
    teacher="r50", num_views=2, num_samples=7, shard_samples=4, zstd=False,
    taps={"stage4": TapLayout(codec="int8", parts={"2x3": {"values": PART}})},
)  # fmt: skip


def problems_of(store: LocalStore) -> list[str]:
    return list(ZarrFormat().problems(store, LAYOUT))


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
    assert PATH in caught.value.where and "kdcache build --repair" in caught.value.fix
    assert (tmp_path / PATH / "zarr.json").read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"{}", b'{"shape": [1]}', b'{"shape": 5}', b'{"shape": [-1, 2]}'])
def test_a_torn_description_is_said_and_written_anew(tmp_path: Path, content: bytes) -> None:
    store = LocalStore(tmp_path)
    describe(store)
    whole = (tmp_path / PATH / "zarr.json").read_bytes()
    (tmp_path / PATH / "zarr.json").write_bytes(content)
    assert any("zarr.json" in text for text in problems_of(store))
    describe(store)
    assert (tmp_path / PATH / "zarr.json").read_bytes() == whole and problems_of(store) == []


@pytest.mark.parametrize(
    ("name", "change"),
    [
        (f"{PATH}/zarr.json", {"shape": [1, 1, 2, 3, 4]}),
        (f"{PATH}/zarr.json", {"fill_value": 1}),
        (f"{PATH}/zarr.json", {"data_type": "int8"}),
        ("targets.zarr/zarr.json", {"node_type": "array"}),
        ("targets.zarr/r50/stage4/zarr.json", {"zarr_format": 2}),
        (f"{PATH}/zarr.json", {"storage_transformers": [{"name": "x"}]}),
        (f"{PATH}/zarr.json", {"attributez": {}}),
        (f"{PATH}/zarr.json", {"": {}}),
        (f"{PATH}/zarr.json", {"attributes": 1}),
        ("targets.zarr/zarr.json", {"attributez": {}}),
        ("targets.zarr/r50/zarr.json", {"consolidated_metadata": {"metadata": {}}}),
    ],
)
def test_a_description_that_would_read_something_else_is_said(
    tmp_path: Path, name: str, change: dict[str, object]
) -> None:
    store = LocalStore(tmp_path)
    describe(store)
    plain = json.loads((tmp_path / name).read_text())
    (tmp_path / name).write_text(json.dumps(plain))
    assert problems_of(store) == [], "how it is spaced is of no concern"
    (tmp_path / name).write_text(json.dumps(plain | change))
    assert [text for text in problems_of(store) if name in text]
    ZarrFormat().prepare(store, LAYOUT, ("stage4",) if "shape" in change else ())
    assert problems_of(store) == [], "any build writes it anew"
    (tmp_path / name).unlink()
    assert [text for text in problems_of(store) if name in text]


def test_what_a_user_adds_to_a_description_stays(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    describe(store)
    for name in (f"{PATH}/zarr.json", "targets.zarr/zarr.json"):
        plain = json.loads((tmp_path / name).read_text())
        (tmp_path / name).write_text(json.dumps(plain | {"attributes": {"mine": 1}}))
    assert problems_of(store) == []
    describe(store)
    assert zarr.open_array(tmp_path / PATH, mode="r").attrs["mine"] == 1


def test_where_nothing_is_said_plain_zarr_reads_every_row_as_it_is(tmp_path: Path) -> None:
    """One flipped bit in every byte of a description: it is said, or it changes nothing."""
    store, form = LocalStore(tmp_path), ZarrFormat()
    form.prepare(store, LAYOUT, ())
    row = {"values": np.arange(24, dtype=np.uint8).reshape(2, 3, 4)}
    put_shard(
        form, store, LAYOUT, ShardKey(0, 1, "p"),
        targets={"stage4": [row] * 4}, sizes={"stage4": [TensorSpec((2, 3, 4), 8)] * 4},
    )  # fmt: skip
    unsaid = 0
    for name in (f"{PATH}/zarr.json", "targets.zarr/r50/zarr.json"):
        whole = (tmp_path / name).read_bytes()
        for place in range(len(whole)):
            changed = bytearray(whole)
            changed[place] ^= 1 << place % 8
            store.put(name, bytes(changed))
            if not problems_of(store):
                unsaid += 1
                array = zarr.open_group(tmp_path / "targets.zarr", mode="r")["r50/stage4/2x3/values"]
                assert (np.asarray(array[1, :4]) == row["values"]).all(), f"byte {place} of {name}"
        store.put(name, whole)
    assert unsaid < 30, "such as a shape that has room for more"


@pytest.mark.parametrize(
    ("views", "samples", "said"), [(2, 7, False), (5, 40, False), (1, 7, True), (2, 6, True)]
)
def test_an_array_must_have_room_for_every_row_and_may_have_more(
    tmp_path: Path, views: int, samples: int, said: bool
) -> None:
    store = LocalStore(tmp_path)
    describe(store, views=views, samples=samples)
    wanted = [f"'{PATH}/zarr.json' describes {views} views of {samples} samples, there are more"]
    assert problems_of(store) == (wanted if said else [])


def test_only_a_tap_that_a_generation_counts_is_held_to_its_description(tmp_path: Path) -> None:
    store, form = LocalStore(tmp_path), ZarrFormat()
    names = ("stage4", "logits")
    first, other = (
        TapLayout(codec="c", parts={"2x3": {"values": part}})
        for part in (PART, PartSpec((2, 3, 4), "float16", True))
    )
    form.prepare(store, replace(LAYOUT, taps={name: first for name in names}), ())
    anew = replace(LAYOUT, taps={name: other for name in names})
    with pytest.raises(BadCache, match=r"array 'targets\.zarr/r50/logits/2x3/values' is there already"):
        form.prepare(store, anew, ("logits",))
    kinds = {n: zarr.open_array(tmp_path / array_path("r50", n, "2x3", "values")).dtype for n in names}
    assert kinds == {"stage4": np.float16, "logits": np.uint8}
    form.prepare(store, anew, ())
    assert list(form.problems(store, anew)) == []


def test_a_description_of_what_holds_nothing_yet_may_change(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    describe(store)
    other = PartSpec((2, 3, 4), "float32", True)
    describe(store, part=other, live=False)
    assert json.loads((tmp_path / PATH / "zarr.json").read_text())["data_type"] == "float32"
    describe(store, views=1, samples=3, live=False)
    shape = json.loads((tmp_path / PATH / "zarr.json").read_text())["shape"]
    assert shape == [1, 3, 2, 3, 4], "rows of what is given up are not kept"


def test_two_sizes_lie_in_two_arrays(tmp_path: Path) -> None:
    store, form = LocalStore(tmp_path), ZarrFormat()
    specs = {s.size_key: s for s in (TensorSpec((2, 3, 4), 8), TensorSpec((3, 2, 4), 8))}
    parts = {key: {"values": PartSpec(s.shape, "uint8", True)} for key, s in specs.items()}
    layout = TargetLayout(
        teacher="t", num_views=1, num_samples=2, shard_samples=1, zstd=False,
        taps={"stage4": TapLayout(codec="int8", parts=parts)},
    )  # fmt: skip
    form.prepare(store, layout, ())
    for block, size in ((0, "3x2"), (1, "2x3")):
        row = {"values": np.full(specs[size].shape, 7, np.uint8)}
        put_shard(
            form,
            store, layout, ShardKey(block, 0, "p"),
            targets={"stage4": [row]}, sizes={"stage4": [specs[size]]},
        )  # fmt: skip
    wide = zarr.open_array(tmp_path / array_path("t", "stage4", "2x3", "values"), mode="r")
    assert wide[0, 0].max() == 0 and wide[0, 1].min() == 7
    assert not store.exists(shard_name(array_path("t", "stage4", "2x3", "values"), ShardKey(0, 0), PART))
