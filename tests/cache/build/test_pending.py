"""What a build left unfinished: kept over other builds while it fits, finished to the same bytes, never
mixed with what does not fit."""

import shutil

import pytest
from cache_scene import (
    Scene,
    add,
    counted_store,
    damage,
    images,
    living_rows,
    operations,
    remove,
    repaint,
    tree,
)
from mixed_scene import IN_LATER_VIEWS, MixedScene, stale

from kdcache.cache.build.build import build_cache
from kdcache.cache.build.options import parse_tap
from kdcache.cache.look.verify import pixel_check, problems, unfinished
from kdcache.cache.reader.cache import open_cache
from kdcache.cache.record.records import record_name


class Killed(BaseException):
    """The builder died here."""


TAP: dict[str, object] = {"taps": (parse_tap("stage1"),)}
VIEWS: dict[str, object] = {"views": "crops:4"}
LATER = pytest.mark.parametrize("options", [TAP, VIEWS], ids=["tap", "views"])


def whole(scene: Scene, *commands: dict[str, object]) -> dict[str, str]:
    """The files of a cache for which these commands ran in one go."""
    kept = scene.root.with_name("whole")
    shutil.copytree(scene.root, kept, copy_function=shutil.copy2)
    for options in commands:
        build_cache(scene.options(**options))
    files = tree(scene.cache)
    shutil.rmtree(scene.root)
    kept.rename(scene.root)
    return files


def dies(scene: Scene, options: dict[str, object], share: float = 0.7) -> int:
    """A build that got so far; how many shards it finished."""
    kept = scene.root.with_name("before")
    shutil.copytree(scene.root, kept, copy_function=shutil.copy2)
    count = operations(lambda: build_cache(scene.options(**options)))
    shutil.rmtree(scene.root)
    kept.rename(scene.root)

    def at(operation: int, moment: str) -> None:
        if operation >= share * count:
            raise Killed

    with counted_store(at), pytest.raises(Killed):
        build_cache(scene.options(**options))
    return len(unfinished(scene.cache))


@LATER
def test_an_unfinished_build_is_unfinished_and_no_damage(scene: Scene, options: dict[str, object]) -> None:
    before = living_rows(scene.cache)
    assert dies(scene, options) >= 1
    assert living_rows(scene.cache) == before and list(problems(scene.cache)) == []


@LATER
def test_the_same_command_finishes_it_and_keeps_what_was_there(
    scene: Scene, options: dict[str, object]
) -> None:
    files = whole(scene, options)
    there = dies(scene, options)
    report = build_cache(scene.options(**options))
    assert 1 <= there < 6 and report.shards == 6 - there, "two views of three blocks"
    assert tree(scene.cache) == files and unfinished(scene.cache) == []


@LATER
def test_a_plain_build_in_between_leaves_it_where_it_is(scene: Scene, options: dict[str, object]) -> None:
    files = whole(scene, options)
    there = dies(scene, options)
    report = build_cache(scene.options())
    assert (report.shards, report.settled) == (0, False) and len(unfinished(scene.cache)) == there
    report = build_cache(scene.options(**options))
    assert report.shards == 6 - there and tree(scene.cache) == files


@LATER
def test_growth_in_between_leaves_it_where_it_is(scene: Scene, options: dict[str, object]) -> None:
    there = dies(scene, options)
    add(scene, "aaa", 1)
    assert build_cache(scene.options()).rows == 2 and len(unfinished(scene.cache)) == there
    report = build_cache(scene.options(**options))
    assert report.shards == 6 - there + 2, "and the new block under two views"
    assert unfinished(scene.cache) == [] and list(problems(scene.cache)) == []
    rows = living_rows(scene.cache)
    build_cache(scene.options(caches_dir=scene.root / "fresh", batch_size=1))
    assert rows.keys() >= {f"aaa {view} stage4" for view in (0, 1)}


@LATER
def test_an_update_in_between_leaves_it_where_it_is(scene: Scene, options: dict[str, object]) -> None:
    """Rows that have retired since are in it, and nobody reads them."""
    there = dies(scene, options)
    repaint(images(scene)[1], 3)
    remove(images(scene)[6])
    build_cache(scene.options(update=True))
    assert len(unfinished(scene.cache)) == there
    build_cache(scene.options(**options))
    cache = open_cache(scene.cache)
    assert unfinished(cache.root) == [] and list(problems(cache.root)) == []
    assert len(cache.living) == 6 and len(list(pixel_check(cache))) == 0
    wanted = 4 if options is VIEWS else 2
    assert sum(name.endswith("stage4") for name in living_rows(cache.root)) == 6 * wanted


OTHERWISE: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "codec": (TAP, {"taps": (parse_tap("stage1=fp32"),)}),
    "whole images": (VIEWS, {"views": "full"}),
}


@pytest.mark.parametrize("which", OTHERWISE)
def test_what_is_asked_for_otherwise_later_is_made_as_it_is_asked_for(scene: Scene, which: str) -> None:
    begun, asked = OTHERWISE[which]
    wanted = whole(scene, asked)
    dies(scene, begun)
    build_cache(scene.options(**asked))
    files = tree(scene.cache)
    descriptions = {name for name in files if name.endswith("zarr.json")}  # they only grow
    wanted = {name: digest for name, digest in wanted.items() if name not in descriptions}
    assert {n: files.get(n) for n in wanted} == wanted and list(problems(scene.cache)) == []


def test_two_unfinished_builds_are_both_finished(scene: Scene) -> None:
    dies(scene, VIEWS)
    dies(scene, TAP)
    build_cache(scene.options(**VIEWS))
    build_cache(scene.options(**(TAP | VIEWS)))
    cache = open_cache(scene.cache)
    assert unfinished(cache.root) == [] and list(problems(cache.root)) == []
    assert [view.first for view in cache.complete_views(["stage1", "stage4", "logits"])] == [0, 2]
    assert list(pixel_check(cache)) == []


def test_damage_of_what_is_unfinished_is_made_again(scene: Scene) -> None:
    files = whole(scene, TAP)
    dies(scene, TAP)
    victim = scene.cache / record_name(unfinished(scene.cache)[0])
    damage(victim)
    build_cache(scene.options(**TAP))
    assert tree(scene.cache) == files


def test_shards_that_nobody_can_say_the_views_of_are_made_again(scene: Scene) -> None:
    """The manifest that planned them is lost; a generation stands."""
    dies(scene, VIEWS)
    (scene.cache / "manifest.json").unlink()
    build_cache(scene.options(views="full"))
    cache = open_cache(scene.cache)
    assert cache.parts("stage4", 0, 2)["values"].shape[:2] == (10, 13), "the whole image"
    assert list(pixel_check(cache)) == [] and list(problems(cache.root)) == []


# ---- rows that show another sample


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("change", ["changed", "deleted"])
def test_unfinished_rows_that_show_what_has_changed_since_are_made_again(
    mixed: MixedScene, change: str, at_once: bool
) -> None:
    wide = mixed.with_options(caches_dir=mixed.root / "wide", shard_rows=8)
    more: dict[str, object] = {"views": "crops:6"}
    assert dies(wide, more, 0.8) >= 2
    if change == "changed":
        wide.draw(IN_LATER_VIEWS, 60)
    else:
        wide.image(IN_LATER_VIEWS).unlink()
    if not at_once:
        build_cache(wide.options(update=True))
    build_cache(wide.options(update=True, **more))
    cache = open_cache(wide.cache)
    assert stale(cache) == [] and unfinished(cache.root) == []
    assert list(problems(cache.root)) == [] and list(pixel_check(cache)) == []


def test_an_unfinished_block_is_kept_for_those_of_its_samples_that_are_as_they_were(
    mixed: MixedScene,
) -> None:
    """And what shows one that is not is made again."""
    for number, key in enumerate(("elk/0", "elk/1", "elk/2")):
        mixed.draw(key, 80 + number)
    dies(mixed, {}, 0.95)
    mixed.draw("elk/1", 90)
    build_cache(mixed.options())
    cache = open_cache(mixed.cache)
    assert [cache.key(i) for i in cache.living.tolist()][7:] == ["elk/0", "elk/2", "elk/1"]
    assert stale(cache) == [] and list(pixel_check(cache)) == [] and unfinished(cache.root) == []
