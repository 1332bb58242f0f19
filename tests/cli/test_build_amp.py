"""`kdcache build --amp`: what the refusal to grow in another precision says to type works as it stands."""

import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tiny_folder import draw_folder

from kdcache.cache.record.manifest import read_manifest
from kdcache.cli.kdcache import main

TEACHER = "exact_teachers:make_rounder"
FIRST = ["--teacher", TEACHER, "--views", "crops:1", "--crop", "16,24", "--tap", "pixels"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Images in a folder whose name a shell would split, in the split 'val' only."""
    draw_folder(tmp_path / "my images", count=2, split="val")
    monkeypatch.setenv("KDCACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def build(*words: str) -> Result:
    return CliRunner().invoke(main, ["build", "--device", "cpu", *words])


def caches(home: Path) -> dict[str, str]:
    """Precision -> name."""
    manifests = [read_manifest(root) for root in (home / "caches").iterdir()]
    return {manifest.precision: manifest.name for manifest in manifests}


def test_the_command_in_the_refusal_builds_the_other_cache_and_the_first_one_grows_without_amp(
    home: Path,
) -> None:
    data = f"folder:{home / 'my images'}"
    assert build(*FIRST, "--data", data, "--split", "val", "--amp", "bf16").exit_code == 0
    grow = ["--teacher", TEACHER, "--cache", caches(home)["bf16"], "--split", "val", "--views", "crops:2"]
    refused = build(*grow, "--amp", "no")
    assert refused.exit_code == 2
    assert "the cache was built with --amp bf16, not no" in refused.output
    program, command, *words = shlex.split(refused.output.rpartition("another cache: ")[2])
    assert (program, command) == ("kdcache", "build")
    assert build(*words, "--tap", "pixels").exit_code == 0
    assert set(caches(home)) == {"bf16", "fp32"}
    assert build(*grow).exit_code == 0
    assert read_manifest(home / "caches" / caches(home)["bf16"]).num_views == 2
