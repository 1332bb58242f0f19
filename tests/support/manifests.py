"""A manifest for tests that build nothing, and records that stand for nothing."""

from dataclasses import replace

from kdcache.cache.record.manifest import Manifest, TapEntry, pass_id
from kdcache.cache.views.recipe import Recipe
from kdcache.cache.views.sets import ViewSet

MAPS = TapEntry(name="stage4", tap="stage4", module="body.layer4", stride=8, channels=5, codec="int8")
VECTOR = TapEntry(name="embedding", tap="embedding", module="pool", stride=0, channels=6, codec="fp16")
PASS = pass_id(("stage4", "embedding"), {"stage4": MAPS, "embedding": VECTOR})
SEAL, OTHER_SEAL = "x3:" + "0" * 32, "x3:" + "f" * 32


def manifest(**changes: object) -> Manifest:
    """Three crops and the whole image of samples in blocks of 4, of a map and a vector."""
    views = (
        ViewSet(kind="crops", first=0, count=3, crop=(40, 48), seed=5, recipe=Recipe(scale=(0.5, 2.0))),
        ViewSet(kind="full", first=3, count=1),
    )
    whole = Manifest(
        name="small", identity={"weights": "w"}, teacher="t", network={"name": "n"}, teacher_origin="t",
        teacher_weights="", data={"name": "some", "split": "train", "class_names": ["a", "b"]},
        data_spec="some:here", crop=(40, 48), output_stride=8, precision="fp32", pipeline={"device": "cpu"},
        target_format="zarr", zstd=False, shard_samples=4, views=views, taps=(MAPS, VECTOR),
        passes={PASS: ("embedding", "stage4")}, classifier="x3:00",
    )  # fmt: skip
    return replace(whole, **changes)
