"""The manifest: it comes back as it was written, and says what it is that cannot be read."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from kdcache.cache.errors import BadCache, BadOption, Missing, TornManifest
from kdcache.cache.record.manifest import FILE_NAME, Manifest, TapEntry, cache_name, pass_id, read_manifest
from kdcache.cache.spec import TensorSpec
from kdcache.cache.tasks.table import SEGMENTATION
from kdcache.cache.views.recipe import Recipe
from kdcache.cache.views.sets import ViewSet

MAPS = TapEntry(name="stage4", tap="stage4", module="body.layer4", stride=8, channels=5, codec="int8")
VECTOR = TapEntry(name="embedding", tap="embedding", module="pool", stride=0, channels=6, codec="fp16")
PASS = pass_id(("stage4", "embedding"), {"stage4": MAPS, "embedding": VECTOR})


def manifest(**changes: object) -> Manifest:
    views = (
        ViewSet(kind="crops", first=0, count=3, crop=(40, 48), seed=5, recipe=Recipe(scale=(0.5, 2.0))),
        ViewSet(kind="full", first=3, count=1),
    )
    whole = Manifest(
        name="small", identity={"weights": "w"}, teacher="t", network={"name": "n"}, teacher_origin="t",
        teacher_weights="", data={"name": "some", "class_names": ["a", "b"]}, data_spec="some:here",
        crop=(40, 48), output_stride=8, precision="fp32", pipeline={"device": "cpu"}, target_format="zarr",
        zstd=False, shard_samples=4, num_samples=10, views=views, taps=(MAPS, VECTOR),
        passes={PASS: ("embedding", "stage4")}, classifier="b2:00",
    )  # fmt: skip
    return replace(whole, **changes)


def test_a_manifest_comes_back_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text(manifest().to_json())
    assert read_manifest(tmp_path) == manifest()
    assert read_manifest(tmp_path).to_json() == manifest().to_json()


def test_maps_cover_every_pixel_and_vectors_have_no_size() -> None:
    assert MAPS.spec(40, 49) == TensorSpec((5, 7, 5), 8)
    assert VECTOR.spec(40, 49) == TensorSpec((6,), 0)


def test_views_and_blocks_are_counted_over_all_sets_and_samples() -> None:
    whole = manifest()
    assert whole.num_views == 4 and whole.num_blocks == 3
    assert [whole.block_rows(block) for block in range(3)] == [4, 4, 2]
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


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"format": "x"}', '{"format": 1}', '{"format": 1, "views": [], "taps": [{}]}'],
)
def test_a_torn_manifest_says_how_to_write_it_anew(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE_NAME).write_text(content)
    with pytest.raises(TornManifest, match="manifest.json cannot be read") as caught:
        read_manifest(tmp_path)
    assert caught.value.where == str(tmp_path / FILE_NAME) and "shards are kept" in caught.value.fix


def test_a_newer_format_is_refused_before_anything_else_is_read(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text(json.dumps({"format": 2}))
    with pytest.raises(BadCache, match="the cache has format 2, this kdcache reads up to 1"):
        read_manifest(tmp_path)
