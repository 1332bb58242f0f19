"""Views of a classification cache grow by their own recipe, and no other one slips in."""

from pathlib import Path

import pytest
from aligned_classes import RECIPES, build_class_cache, draw_classes, ops_of

from kdcache.cache.errors import BadCache
from kdcache.cache.reader.cache import Cache
from kdcache.cache.record.records import record_name

MIXUP = RECIPES[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_classes(tmp_path_factory.mktemp("grown") / "data")


def grown(folder: Path, cache: Cache, **changes: object) -> Cache:
    options: dict[str, object] = {"cache": cache.root, "augment": None, "crop": None, "shard_rows": None}
    return build_class_cache(folder, "zarr", MIXUP, **(options | changes))


def test_a_cache_that_grows_draws_on_with_its_own_recipe(folder: Path) -> None:
    cache = build_class_cache(folder, "zarr", MIXUP)
    before = [ops_of(cache, sample, 1) for sample in (0, 4)]
    more = grown(folder, cache, views="crops:5")
    assert [(v.first, v.count, v.augment) for v in more.manifest.views] == [(0, 3, MIXUP), (3, 2, MIXUP)]
    assert [ops_of(more, sample, 1) for sample in (0, 4)] == before
    assert {ops_of(more, sample, 4)[-1][0] for sample in (0, 4)} == {"mixup"}
    with pytest.raises(
        BadCache, match=r"made with recipe pad=4,flip,mixup=0.2, now it is pad=4,flip"
    ) as error:
        grown(folder, cache, augment="pad=4,flip")
    assert error.value.fix.endswith(f"--data imagefolder:{folder} --augment pad=4,flip")


def test_a_rebuilt_shard_holds_the_same_views(folder: Path) -> None:
    cache = build_class_cache(folder, "zarr", MIXUP)
    key = cache.coverage.key("logits", 0, 1)
    assert key is not None
    before = (cache.root / record_name(key)).read_bytes()
    (cache.root / record_name(key)).unlink()
    with pytest.raises(
        BadCache, match="records of 1 shards are lost, the first is shard 00001 view 0"
    ) as error:
        grown(folder, cache)
    assert error.value.fix == "run 'kdcache build --repair'"
    again = grown(folder, cache, repair=True)
    assert (again.root / record_name(key)).read_bytes() == before
