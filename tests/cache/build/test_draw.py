"""Who is mixed into whom: only what lives, and the same for every pass of the teacher over the same rows."""

from collections.abc import Callable
from pathlib import Path

import pytest
from cache_scene import living_rows, tree
from mixed_scene import IN_LATER_VIEWS, KEYS, MixedScene, partners, stale

from kdcache.cache.build.build import build_cache
from kdcache.cache.build.options import parse_tap
from kdcache.cache.look.verify import pixel_check, problems
from kdcache.cache.reader.cache import open_cache

MORE_VIEWS: dict[str, object] = {"views": "crops:5"}
STAGE: dict[str, object] = {"taps": (parse_tap("stage1=fp32"),)}


@pytest.fixture
def wide(mixed: MixedScene, tmp_path: Path) -> MixedScene:
    """All seven in one block: everybody has six to choose from."""
    return mixed.with_options(caches_dir=tmp_path / "wide", shard_rows=8)


def sound(scene: MixedScene) -> bool:
    living_rows(scene.cache)
    cache = open_cache(scene.cache)
    return not list(problems(cache.root)) and not list(pixel_check(cache)) and not stale(cache)


CHANGES: dict[str, Callable[[MixedScene], object]] = {
    "changed": lambda scene: scene.draw(IN_LATER_VIEWS, 60),
    "deleted": lambda scene: scene.image(IN_LATER_VIEWS).unlink(),
}
EVERY_CHANGE = pytest.mark.parametrize("change", CHANGES)


@EVERY_CHANGE
def test_a_tap_can_be_added_after_some_rows_have_retired(wide: MixedScene, change: str) -> None:
    """The rows that live on are drawn as they were, with fewer to choose from."""
    CHANGES[change](wide)
    build_cache(wide.options(update=True))
    shown = partners(wide.cache)
    build_cache(wide.options(**STAGE))
    assert partners(wide.cache) == shown and sound(wide)
    cache = open_cache(wide.cache)
    assert len(cache.complete_views(["stage1"])) == 1


@EVERY_CHANGE
@pytest.mark.parametrize("options", [MORE_VIEWS, STAGE, MORE_VIEWS | STAGE], ids=["views", "tap", "both"])
def test_growth_and_an_update_in_one_command_mix_in_nobody_who_retires_in_it(
    wide: MixedScene, change: str, options: dict[str, object]
) -> None:
    CHANGES[change](wide)
    build_cache(wide.options(update=True, **options))
    assert sound(wide)
    assert build_cache(wide.options(update=True, **options)).shards == 0


@EVERY_CHANGE
def test_what_was_added_later_is_repaired_to_the_same_bytes(wide: MixedScene, change: str) -> None:
    CHANGES[change](wide)
    build_cache(wide.options(update=True))
    build_cache(wide.options(**STAGE))
    build_cache(wide.options(**MORE_VIEWS))
    files, folder = tree(wide.cache), wide.cache / "targets.zarr"
    for tap, view in (("stage1", 0), ("stage1", 1), ("logits", 0), ("logits", 4)):
        (shard,) = folder.glob(f"*/{tap}/*/values/c/{view}/0/0*")
        victim = shard if shard.is_file() else next(p for p in shard.rglob("*") if p.is_file())
        whole = victim.read_bytes()
        victim.write_bytes(whole[:-1])
        build_cache(wide.options(repair=True))
        assert victim.read_bytes() == whole
    assert tree(wide.cache) == files


def test_everybody_shows_somebody_else_of_its_own_block(wide: MixedScene) -> None:
    shown = partners(wide.cache)
    assert set(shown) == {(key, view) for key in KEYS for view in (0, 1)}
    assert all(key != partner for (key, _), partner in shown.items()) and len(set(shown.values())) > 3
