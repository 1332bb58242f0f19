"""Views of a classification cache grow by their own recipe, and no other one slips in."""

from pathlib import Path

import pytest
from aligned_classes import RECIPES, build_class_cache, draw_classes, ops_of

from kdcache.cache.errors import BadCache, BadOption
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


def test_a_seed_that_is_not_the_caches_is_refused_and_one_that_is_left_out_is_kept(
    folder: Path, tmp_path: Path
) -> None:
    cache = build_class_cache(folder, "zarr", MIXUP, seed=3, caches_dir=tmp_path)
    more = grown(folder, cache, views="crops:5")
    assert [(v.first, v.count, v.seed) for v in more.manifest.views] == [(0, 3, 3), (3, 2, 3)]
    with pytest.raises(BadOption) as caught:
        grown(folder, cache, seed=4)
    assert str(caught.value) == (
        "the cache was built with --seed 3, not 4\n"
        f"  where: cache {cache.manifest.name}\n"
        "  fix:   leave --seed out; for another form, build a cache of its own under another $KDCACHE_HOME"
    )
    assert grown(folder, cache, seed=3).generation.number == more.generation.number


def test_a_new_cache_is_drawn_from_seed_0_and_one_without_drawn_views_takes_any(folder: Path) -> None:
    assert build_class_cache(folder, "zarr", MIXUP, views="crops:1").manifest.views[0].seed == 0
    whole = build_class_cache(folder, "zarr", "none", views="full")
    more = grown(folder, whole, views="crops:1", seed=6)
    assert [v.seed for v in more.manifest.views if v.draws] == [6]
