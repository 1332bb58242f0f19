"""What an error or a note advises works as it is typed, whichever caches there are and wherever they lie."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from cache_scene import Scene, built_scene, damage, images, living_rows, repaint, tree
from click.testing import CliRunner, Result

from kdcache.cli.kdcache import main as kdcache
from kdcache.cli.kdtrain import kdtrain


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    made = built_scene(tmp_path / "scene", "zarr")
    monkeypatch.setenv("KDCACHE_HOME", str(made.root))
    return made


def run(*words: str) -> Result:
    return CliRunner().invoke(kdcache, list(words))


def typed(text: str) -> Result:
    """The command that a text advises."""
    command = re.search(
        r"kdcache build (?:--cache (?:'[^']*'|[^\s']+) )?--(?:repair|update)", " ".join(text.split())
    )
    assert command is not None, text
    return run(*shlex.split(command[0])[1:])


def train(cache: str, name: str = "first") -> Result:
    words = [
        "--run",
        name,
        "--student",
        "tiny_teacher:make",
        "--loss",
        "none",
        "--steps",
        "1",
        "--batch-size",
        "2",
    ]
    return CliRunner().invoke(kdtrain, ["--cache", cache, *words])


def second(scene: Scene) -> None:
    """Another cache in the same home."""
    shutil.copytree(scene.cache, scene.caches / "other")


def test_damage_that_a_run_meets_is_mended_by_the_command_that_it_prints(scene: Scene) -> None:
    files = tree(scene.cache)
    for tar in sorted((scene.cache / "samples").glob("*.tar")):
        damage(tar)
    alone = train(scene.cache.name)
    assert alone.exit_code == 2 and "'kdcache build --repair'" in alone.stderr, "nothing to tell apart"
    second(scene)
    several = train(scene.cache.name, "second")
    assert f"kdcache build --cache {scene.cache.name} --repair" in several.stderr
    assert typed(several.stderr).exit_code == 0 and tree(scene.cache) == files


def test_a_cache_outside_the_home_is_named_by_its_path(scene: Scene, tmp_path: Path) -> None:
    outside = tmp_path / "else where" / "mine"
    outside.parent.mkdir()
    scene.cache.rename(outside)
    files = tree(outside)
    for tar in sorted((outside / "samples").glob("*.tar")):
        damage(tar)
    refused = train(str(outside))
    assert f"--cache '{outside}' --repair" in refused.stderr
    assert typed(refused.stderr).exit_code == 0 and tree(outside) == files


def test_the_command_that_renews_a_changed_picture_names_the_cache(scene: Scene) -> None:
    second(scene)
    repaint(images(scene)[0], 9)
    noted = run("build", "--cache", scene.cache.name).output
    assert f"kdcache build --cache {scene.cache.name} --update" in " ".join(noted.split())
    assert "retired" not in noted and typed(noted).exit_code == 0
    assert "1 are retired" in run("show", scene.cache.name).output


@pytest.mark.parametrize("command", [["verify"], ["show"], ["build", "--cache"]])
def test_a_lost_manifest_is_damage_that_the_advised_command_mends(scene: Scene, command: list[str]) -> None:
    files, rows = tree(scene.cache), living_rows(scene.cache)
    (scene.cache / "manifest.json").unlink()
    said = run(*command, scene.cache.name)
    if command[0] != "build":
        assert said.exit_code in (1, 2) and "there is no cache" not in said.output + said.stderr
        assert typed(said.output + said.stderr).exit_code == 0
    assert tree(scene.cache) == files and living_rows(scene.cache) == rows


def test_samples_of_a_block_that_cannot_be_put_back_are_told(scene: Scene) -> None:
    """Their pictures changed since: a repair makes new rows, and what the data no longer has is gone."""
    gone, changed = images(scene)[3], images(scene)[4]
    gone.unlink()
    repaint(changed, 7)
    damage(scene.cache / "samples" / "00001.tar")
    said = " ".join(run("build", "--repair").output.split())
    assert "could not be put back: 3 samples of the lost blocks 1" in said
    verified = run("verify")
    assert verified.exit_code == 0 and "did not end" not in verified.output, "the lost block stays lost"


def test_a_row_that_had_retired_before_is_not_told_as_lost(scene: Scene) -> None:
    repaint(images(scene)[3], 7)
    run("build", "--update")
    images(scene)[4].unlink()
    damage(scene.cache / "samples" / "00001.tar")
    said = " ".join(run("build", "--repair").output.split())
    assert "could not be put back: 2 samples of the lost blocks 1" in said
