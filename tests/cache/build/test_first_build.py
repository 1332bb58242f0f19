"""A first build that was refused or died binds nobody: what no generation counts is no data."""

import shutil
from pathlib import Path

import pytest
from cache_scene import Scene, counted_store, living_rows, operations, tree

from kdcache.cache.build.build import build_cache
from kdcache.cache.build.options import parse_tap
from kdcache.cache.errors import BadCache
from kdcache.cache.look.verify import problems, unfinished
from kdcache.cache.reader.cache import open_cache


class Killed(BaseException):
    """The builder died here."""


def dead(scene: Scene, share: float, **changes: object) -> Path:
    """A first build that got so far."""
    kept = scene.caches.with_name("whole")
    count = operations(lambda: build_cache(scene.options(caches_dir=kept, **changes)))
    shutil.rmtree(kept)

    def at(operation: int, moment: str) -> None:
        if operation >= share * count:
            raise Killed

    with counted_store(at), pytest.raises(Killed):
        build_cache(scene.options(**changes))
    return scene.cache


@pytest.fixture
def empty(scene: Scene) -> Scene:
    """The data alone."""
    shutil.rmtree(scene.caches)
    return scene


CHANGES: dict[str, dict[str, object]] = {
    "codec": {"taps": (parse_tap("stage4=fp32"), parse_tap("logits"))},
    "fewer taps": {"taps": (parse_tap("logits"),)},
    "more taps": {"taps": (parse_tap("stage1"), parse_tap("stage4"), parse_tap("logits"))},
    "shard size": {"shard_rows": 2},
    "format": {"target_format": "webdataset"},
    "compression": {"zstd": True},
    "seed": {"seed": 9},
    "views": {"views": "full"},
}


def without_descriptions(files: dict[str, str]) -> dict[str, str]:
    """Arrays are described as large as they ever were."""
    return {name: digest for name, digest in files.items() if not name.endswith("zarr.json")}


@pytest.mark.parametrize("share", [0.3, 0.9])
@pytest.mark.parametrize("change", CHANGES)
def test_the_same_command_with_another_option_builds_what_that_option_says(
    empty: Scene, change: str, share: float
) -> None:
    """To the bytes of a cache that was begun so. What the dead one left beside is named by no record."""
    root = dead(empty, share)
    options = CHANGES[change]
    fresh = build_cache(empty.options(caches_dir=empty.root / "fresh", **options))
    built = build_cache(empty.options(**options))
    assert built.root == root and list(problems(root)) == [] and unfinished(root) == []
    assert living_rows(root) == living_rows(fresh.root)
    if change != "more taps":  # there the passes of the dead one stay, and those of the new tap stand beside
        files, wanted = tree(root), without_descriptions(tree(fresh.root))
        assert {name: files.get(name) for name in wanted} == wanted


@pytest.mark.parametrize("change", [{"crop": (24, 40)}, {"augment": "flip"}, {"amp": "bf16"}])
def test_what_makes_another_cache_makes_it_beside_the_dead_one(
    empty: Scene, change: dict[str, object]
) -> None:
    root = dead(empty, 0.6)
    fresh = build_cache(empty.options(caches_dir=empty.root / "fresh", **change))
    built = build_cache(empty.options(**change))
    assert built.root != root and tree(built.root) == tree(fresh.root)
    assert build_cache(empty.options()).root == root, "and the dead one is still finished by its own command"
    assert list(problems(root)) == []


@pytest.mark.parametrize("change", [{"crop": (24, 40)}, {"augment": "flip"}, {"amp": "bf16"}])
def test_a_dead_first_build_that_is_named_takes_what_is_asked_for_now(
    empty: Scene, change: dict[str, object]
) -> None:
    root = dead(empty, 0.6)
    asked: dict[str, object] = {"cache": root, "views": None, "crop": None, "taps": (), "shard_rows": None}
    built = build_cache(empty.options(**(asked | change)))
    cache = open_cache(built.root)
    assert built.root == root and list(problems(root)) == []
    assert cache.manifest.tap_names == ("stage4", "logits") and cache.manifest.num_views == 2
    assert cache.manifest.shard_samples == 3, "what is not said again is as it was planned"
    recipe = "scale=1x1,flip" if "augment" in change else "scale=0.5x2,flip"
    assert cache.manifest.views[0].recipe.text == cache.manifest.identity["recipe"] == recipe
    assert cache.manifest.crop == cache.manifest.views[0].crop == change.get("crop", (32, 32))
    assert cache.manifest.precision == change.get("amp", "fp32")


def test_a_finished_one_is_not_changed_by_the_same_options(scene: Scene) -> None:
    """The other side: what a generation counts stays, and the refusal names the option."""
    files = tree(scene.cache)
    for option, text in (({"shard_rows": 2}, "--shard-rows 3"), ({"zstd": True}, "--zstd False")):
        with pytest.raises(ValueError, match=f"was built with {text}"):
            build_cache(scene.options(**option))
    assert tree(scene.cache) == files


def test_nothing_of_an_unfinished_first_build_can_be_read(empty: Scene) -> None:
    root = dead(empty, 0.95)
    with pytest.raises(BadCache, match="no build of this cache has finished") as error:
        open_cache(root)
    assert "the same 'kdcache build' again" in error.value.fix


def test_samples_that_another_first_build_packed_are_kept_where_they_fit(empty: Scene) -> None:
    """Also by hand: they are the expensive half of a small data set, and of no tap or codec."""
    root = dead(empty, 0.6)
    times = {p.name: p.stat().st_mtime_ns for p in (root / "samples").glob("*.tar")}
    build_cache(empty.options(taps=(parse_tap("logits=fp32"),)))
    assert len(times) == 3
    assert {p.name: p.stat().st_mtime_ns for p in (root / "samples").glob("*.tar")} == times


def test_shards_that_nobody_can_say_the_views_of_are_made_again(empty: Scene) -> None:
    """The manifest is torn, and the command that is typed now may draw otherwise."""
    fresh = build_cache(empty.options(caches_dir=empty.root / "fresh", seed=9))
    root = dead(empty, 0.9)
    (root / "manifest.json").write_text("{")
    build_cache(empty.options(seed=9))
    assert tree(root) == tree(fresh.root)


def test_views_that_were_planned_are_kept_with_their_seed(empty: Scene) -> None:
    planned: dict[str, object] = {"views": "crops:2+full", "mirror": True, "seed": 9}
    root = dead(empty, 0.6, **planned)
    build_cache(empty.options(cache=root, views=None, crop=(24, 40)))
    views = open_cache(root).manifest.views
    assert [(v.kind, v.count) for v in views] == [("crops", 2), ("full", 1), ("mirror", 1)]
    assert views[0].seed == 9 and views[0].crop == (24, 40)


LESS: dict[str, object] = {"views": None, "taps": (), "shard_rows": None, "target_format": None}


@pytest.mark.parametrize("target_format", ["zarr", "webdataset"])
def test_what_a_dead_first_build_recorded_is_kept_by_a_command_that_says_less(
    empty: Scene, target_format: str
) -> None:
    """'kdcache build --teacher T' continues what was begun with more options: it throws nothing away."""
    root = dead(empty, 0.7, target_format=target_format)
    recorded = {name: digest for name, digest in tree(root).items() if name.startswith("records/")}
    fresh = build_cache(empty.options(caches_dir=empty.root / "fresh", target_format=target_format))
    built = build_cache(empty.options(**LESS))
    assert built.root == root and recorded and tree(root) == tree(fresh.root)
    assert {name: tree(root)[name] for name in recorded} == recorded


def test_a_cache_whose_generations_are_lost_is_settled_without_the_teacher(scene: Scene) -> None:
    before = living_rows(scene.cache)
    shutil.rmtree(scene.cache / "generations")
    assert build_cache(scene.options(**LESS)).rows == 0 and living_rows(scene.cache) == before
