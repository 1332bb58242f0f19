"""The manifest: it comes back as it was written, and says what it is that cannot be read."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from manifests import MAPS, PASS, VECTOR, manifest

from kdcache.cache.errors import BadCache, BadOption, Missing, TornManifest
from kdcache.cache.record.manifest import (
    FILE_NAME,
    cache_name,
    manifest_bytes,
    pass_id,
    plain_manifest,
    read_manifest,
)
from kdcache.cache.record.sealed import sealed
from kdcache.cache.spec import TensorSpec
from kdcache.cache.tasks.table import SEGMENTATION


def test_a_manifest_comes_back_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(manifest_bytes(manifest()))
    assert read_manifest(tmp_path) == manifest()
    assert manifest_bytes(read_manifest(tmp_path)) == manifest_bytes(manifest())


def test_maps_cover_every_pixel_and_vectors_have_no_size() -> None:
    assert MAPS.spec(40, 49) == TensorSpec((5, 7, 5), 8)
    assert VECTOR.spec(40, 49) == TensorSpec((6,), 0)


def test_views_are_counted_over_all_sets() -> None:
    whole = manifest()
    assert whole.num_views == 4
    assert [whole.view_set(number).kind for number in range(4)] == ["crops", "crops", "crops", "full"]
    assert manifest(views=()).num_views == 0


def test_an_unknown_target_offers_the_nearest() -> None:
    assert manifest().tap("embedding") == VECTOR and manifest().task == SEGMENTATION
    with pytest.raises(BadOption, match="unknown target 'stage3'") as caught:
        manifest().tap("stage3")
    assert "did you mean 'stage4'?" in caught.value.fix


def test_the_name_of_a_pass_depends_on_what_is_stored_and_not_on_the_order() -> None:
    taps = {"stage4": MAPS, "embedding": VECTOR}
    assert pass_id(("embedding", "stage4"), taps) == PASS and len(PASS) == 8
    assert pass_id(("stage4",), taps) != PASS
    assert pass_id(("stage4", "embedding"), taps | {"stage4": replace(MAPS, codec="fp16")}) != PASS


def test_the_name_of_a_cache_is_fixed_for_good_because_folders_have_it() -> None:
    assert cache_name("camvid", "r101", {"weights": "w", "views": 1}) == "camvid-r101-105727c5"
    assert cache_name("camvid", "r101", {"views": 1, "weights": "w"}) == "camvid-r101-105727c5"
    assert cache_name("camvid", "r101", {"weights": "v", "views": 1}) != "camvid-r101-105727c5"


def test_a_folder_without_manifest_is_no_cache(tmp_path: Path) -> None:
    with pytest.raises(Missing, match="is not a cache") as caught:
        read_manifest(tmp_path)
    assert caught.value.where == str(tmp_path / FILE_NAME)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": "x"}', '{"format": 2}'])
@pytest.mark.parametrize("finished", [False, True])
def test_a_torn_manifest_says_how_to_write_it_anew(tmp_path: Path, content: str, finished: bool) -> None:
    root = tmp_path / "caches" / "mine"
    (root / "generations").mkdir(parents=True)
    (root / FILE_NAME).write_text(content)
    if finished:
        (root / "generations" / "00001.json").write_text("")
    with pytest.raises(TornManifest, match="manifest.json cannot be read") as caught:
        read_manifest(root)
    assert caught.value.where == str(root / FILE_NAME)
    fix = "'kdcache build --repair'" if finished else "with the options that the cache was begun with"
    assert fix in caught.value.fix


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("crop", [0, 48]),
        ("crop", [40, 1 << 20]),
        ("crop", [40.5, 48]),
        ("crop", [40]),
        ("shard_samples", 0),
        ("shard_samples", 1 << 40),
        ("shard_samples", True),
        ("zstd", 1),
        ("teacher", "../elsewhere"),
        ("teacher", ""),
        ("taps", []),
        ("views", []),
        ("views", [{"kind": "crops", "first": 1, "count": 1, "crop": [8, 8]}]),
        ("passes", {PASS: ["unknown"]}),
        ("passes", {"../..": ["stage4"]}),
        ("views", [{"kind": "crops", "first": 0, "count": "1", "crop": [8, 8]}]),
        ("views", [{"kind": "crops", "first": "0", "count": 1, "crop": [8, 8]}]),
        ("views", [{"kind": "crops", "first": 0, "count": 0, "crop": [8, 8]}]),
        ("views", [{"kind": "crops", "first": 0, "count": 1, "crop": [8]}]),
        ("views", [{"kind": "crops", "first": 0, "count": 1, "crop": 8}]),
        ("views", [{"kind": "crops", "first": 0, "count": 1, "crop": [8, 0]}]),
        ("views", [{"kind": "crops", "first": 0, "count": 1}]),
        ("views", [{"kind": "crops", "first": 0, "count": 1, "crop": [8, 8], "augment": 3}]),
        ("views", [{"kind": "crops", "first": 0, "count": 1, "crop": [8, 8], "augment": "swirl"}]),
        ("views", [{"kind": "crops", "first": 0, "count": 1, "crop": [8, 8], "min_scale": 0}]),
        ("views", [{"first": 0, "count": 1}]),
        ("views", [3]),
        ("taps", [3]),
        ("taps", [{"name": "stage4"}]),
        ("data", {"name": "some", "split": "train"}),
        ("data", {"name": "some", "split": "train", "class_names": [1]}),
        ("data", {"name": "some", "split": None, "class_names": []}),
        ("precision", "fp8"),  # a newer one: a forward in fp32 would be another teacher
        ("precision", "no"),
        ("identity", []),
        ("name", "a/b"),
        ("name", "."),
        ("format", 2.5),
        ("more", 1),
    ],
)
def test_a_value_that_cannot_be_is_refused_even_under_a_seal(
    tmp_path: Path, name: str, value: object
) -> None:
    (tmp_path / FILE_NAME).write_bytes(sealed(plain_manifest(manifest()) | {name: value}))
    with pytest.raises(TornManifest, match="manifest.json cannot be read") as caught:
        read_manifest(tmp_path)
    assert caught.value.where == str(tmp_path / FILE_NAME) and caught.value.fix


def test_a_field_of_a_target_that_is_not_known_is_refused_and_not_forgotten(tmp_path: Path) -> None:
    plain = plain_manifest(manifest())
    plain["taps"][1]["quantile"] = 3
    (tmp_path / FILE_NAME).write_bytes(sealed(plain))
    with pytest.raises(TornManifest, match="a target has the unknown field 'quantile'"):
        read_manifest(tmp_path)


def test_views_of_a_newer_version_say_so(tmp_path: Path) -> None:
    plain = plain_manifest(manifest())
    plain["views"][0]["warp"] = 3
    (tmp_path / FILE_NAME).write_bytes(sealed(plain))
    with pytest.raises(BadCache, match="a set of views has the unknown field 'warp'") as caught:
        read_manifest(tmp_path)
    assert not isinstance(caught.value, TornManifest) and caught.value.fix == "install a newer kdcache"


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_every_precision_of_a_build_can_be_read_back(tmp_path: Path, precision: str) -> None:
    (tmp_path / FILE_NAME).write_bytes(manifest_bytes(manifest(precision=precision)))
    assert read_manifest(tmp_path).precision == precision


@pytest.mark.parametrize("make", ["link", "fifo"])
def test_a_manifest_that_is_no_file_is_not_read(tmp_path: Path, make: str) -> None:
    root, path = tmp_path / "cache", tmp_path / "cache" / FILE_NAME
    root.mkdir()
    if make == "fifo":
        os.mkfifo(path)
    else:
        (tmp_path / "other.json").write_bytes(manifest_bytes(manifest()))
        path.symlink_to(tmp_path / "other.json")
    with pytest.raises((Missing, TornManifest)) as caught:
        read_manifest(root)
    assert caught.value.where == str(path)


@pytest.mark.parametrize("name", ["channels", "stride"])
def test_a_target_of_a_size_that_cannot_be_is_refused(tmp_path: Path, name: str) -> None:
    plain = plain_manifest(manifest())
    plain["taps"][0][name] = -1
    (tmp_path / FILE_NAME).write_bytes(sealed(plain))
    with pytest.raises(TornManifest):
        read_manifest(tmp_path)


def test_two_targets_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(sealed(plain_manifest(manifest(taps=(MAPS, VECTOR, MAPS)))))
    with pytest.raises(TornManifest, match="two targets have one name"):
        read_manifest(tmp_path)


def test_a_newer_format_is_refused_before_anything_else_is_read(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text(json.dumps({"format": 3}))
    with pytest.raises(BadCache, match="the cache has format 3, this kdcache reads 2") as caught:
        read_manifest(tmp_path)
    assert caught.value.fix == "install a newer kdcache"


def test_format_1_names_the_command_that_builds_it_again(tmp_path: Path) -> None:
    told = {"format": 1, "teacher_origin": "my run", "data_spec": "folder:/a b/c"}
    (tmp_path / FILE_NAME).write_text(json.dumps(told))
    with pytest.raises(BadCache, match="the cache has format 1, this kdcache reads 2") as caught:
        read_manifest(tmp_path)
    assert caught.value.fix == "build it again: kdcache build --teacher 'my run' --data 'folder:/a b/c'"
