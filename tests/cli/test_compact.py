"""`kdcache compact`: what still counts, in a cache of its own; the printed names and fixes work."""

import shlex
import shutil
from pathlib import Path

import pytest
from cache_scene import Scene, built_scene, counted_store, damage, images, living_rows, remove, repaint, tree
from click.testing import CliRunner, Result

from kdcache.cache.build.build import build_cache
from kdcache.cache.reader.cache import open_cache
from kdcache.cache.record.generation import list_generations
from kdcache.cache.record.manifest import FILE_NAME
from kdcache.cache.record.records import list_records
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


@pytest.mark.parametrize("out", ["../small", "a/b", ".hidden", "", "a\nb", "x" * 201, "\N{SNOWMAN}" * 100])
def test_a_copy_lies_beside_the_other_caches(scene: Scene, out: str) -> None:
    refused, shown = run("compact", "--out", out), out.replace("\n", r"\n")
    assert refused.exit_code == 2 and f"'{shown}' is no name of a cache" in refused.stderr
    assert list(scene.caches.iterdir()) == [scene.cache], "nor is anything written into caches/ itself"


def test_what_a_build_has_begun_is_not_written_over(scene: Scene) -> None:
    shutil.copytree(scene.cache, scene.caches / "begun")
    shutil.rmtree(scene.caches / "begun" / "generations")
    (scene.caches / "file").write_text("mine")
    before = tree(scene.caches)
    refused = run("compact", "--cache", scene.cache.name, "--out", "begun")
    assert refused.exit_code == 2 and "there is a cache 'begun' already" in refused.stderr
    refused = run("compact", "--cache", scene.cache.name, "--out", "file")
    assert refused.exit_code == 2 and "'file' is a file" in refused.stderr and "--out OTHER" in refused.stderr
    assert tree(scene.caches) == before


def killed_copy(*words: str) -> None:
    """`compact`, killed after its first block of samples."""

    def die(number: int, when: str) -> None:
        if number == 6:
            raise KeyboardInterrupt

    with counted_store(die):
        CliRunner().invoke(kdcache, ["compact", *words], standalone_mode=False)


def test_a_copy_that_was_killed_is_in_nobodys_way_and_every_command_says_how_it_ends(scene: Scene) -> None:
    killed_copy("--out", "small")
    small, line = scene.caches / "small", f"kdcache compact --cache {scene.cache.name} --out small"
    assert (small / FILE_NAME).is_file() and list_records(small) and not list_generations(small)
    assert "6 samples live" in run("show").output, "it is not one of several caches"
    shown, verified = run("show", "small"), run("verify", "small")
    assert shown.exit_code == 2 and f"fix:   {line}" in shown.stderr
    assert verified.exit_code == 0 and f"finish it with: {line}" in verified.output
    built = run("build", "--cache", "small")
    assert built.exit_code == 2 and f"fix:   {line}" in built.stderr, "nor is it what a build has begun"
    assert not list_generations(small)
    assert "kdcache build" not in shown.stderr + verified.output
    assert run("compact", "--out", "small").exit_code == 0, "the same command"
    shutil.rmtree(small)
    killed_copy("--out", "small")
    assert run(*shlex.split(line)[1:]).exit_code == 0, "the line that is printed"
    assert living_rows(small) == living_rows(scene.cache)
    again = run("compact", "--out", "small")
    assert again.exit_code == 0 and "0 shards copied" in again.output, "the copy is not one of several either"


@pytest.mark.parametrize("pattern", ["samples/*.tar", "targets.zarr/*/logits/*/*/c/1/**/*", "views/00002-*"])
def test_damage_is_named_before_anything_is_copied(scene: Scene, pattern: str) -> None:
    damaged = [path for path in sorted(scene.cache.glob(pattern)) if path.is_file()][-1]
    damage(damaged)
    refused = run("compact", "--out", "small")
    name = damaged.relative_to(scene.cache)
    assert refused.exit_code == 2 and f"'{name}' differs" in refused.stderr
    assert list(scene.caches.iterdir()) == [scene.cache]
