"""`kdcache compact`: what still counts, in a cache of its own; the printed names and fixes work."""

from pathlib import Path

import pytest
from cache_scene import Scene, built_scene, damage, images, living_rows, remove, repaint, tree
from click.testing import CliRunner, Result

from kdcache.cache.build.build import build_cache
from kdcache.cache.reader.cache import open_cache
from kdcache.cli.kdcache import main as kdcache


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """A cache of which three rows have retired."""
    made = built_scene(tmp_path / "scene", "zarr")
    monkeypatch.setenv("KDCACHE_HOME", str(made.root))
    repaint(images(made)[1], 1)
    repaint(images(made)[5], 2)
    remove(images(made)[3])
    build_cache(made.options(update=True))
    return made


def run(*words: str) -> Result:
    return CliRunner().invoke(kdcache, list(words))


def test_what_show_advises_gives_a_cache_of_the_living_rows(scene: Scene) -> None:
    name, before = scene.cache.name, tree(scene.cache)
    shown = run("show").output
    assert "6 samples live, 3 are retired" in shown
    assert f"'kdcache compact --cache {name} --out NAME' frees about" in shown
    copied = run("compact", "--cache", name, "--out", "small")
    assert copied.exit_code == 0 and "6 samples, 6 shards copied" in copied.output
    small = scene.caches / "small"
    assert living_rows(small) == living_rows(scene.cache) and tree(scene.cache) == before
    assert open_cache(small).living.tolist() == list(range(6)), "blocks are full again"
    assert run("verify", "small", "--pixels").exit_code == 0
    assert "0 are retired" in run("show", "small").output


def test_the_same_command_again_says_that_all_is_there(scene: Scene) -> None:
    run("compact", "--out", "small")
    again = run("compact", "--cache", scene.cache.name, "--out", "small")
    assert again.exit_code == 0 and "6 samples, 0 shards copied" in again.output


def test_a_cache_that_is_there_is_not_written_over(scene: Scene) -> None:
    run("compact", "--out", "small")
    before = tree(scene.caches / "small")
    remove(images(scene)[0])
    build_cache(scene.options(update=True))
    refused = run("compact", "--cache", scene.cache.name, "--out", "small")
    assert refused.exit_code == 2 and "there is a cache 'small' already" in refused.stderr
    assert "--out OTHER" in refused.stderr and tree(scene.caches / "small") == before
    assert run("compact", "--cache", scene.cache.name, "--out", "OTHER").exit_code == 0


@pytest.mark.parametrize("out", ["../small", "a/b", ".hidden"])
def test_a_copy_lies_beside_the_other_caches(scene: Scene, out: str) -> None:
    refused = run("compact", "--out", out)
    assert refused.exit_code == 2 and f"'{out}' is no name of a cache" in refused.stderr
    assert len(list(scene.caches.iterdir())) == 1


def test_damage_is_not_copied(scene: Scene) -> None:
    damage(scene.cache / "samples" / "00000.tar")
    refused = run("compact", "--out", "small")
    assert refused.exit_code == 2 and "'samples/00000.tar' differs" in refused.stderr
    assert run("compact", "--out", "small").exit_code == 2, "nothing of it counts"
