"""One small cache for all that reads or looks at caches, made by a tiny teacher."""

import shutil
from pathlib import Path

import pytest
from tiny_folder import draw_folder

from kdcache.cache.build.build import build_cache
from kdcache.cache.build.options import BuildOptions, parse_tap


@pytest.fixture(scope="session")
def _first_build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("tiny_cache")
    draw_folder(home / "data", count=4, sizes=((75, 100),))
    report = build_cache(
        BuildOptions(
            runs_dir=home / "runs",
            caches_dir=home / "caches",
            teacher="tiny_teacher:make",
            data=f"folder:{home / 'data'}",
            views="crops:2",
            crop=(40, 48),
            taps=(parse_tap("stage4=int8"), parse_tap("logits=fp16")),
            shard_rows=2,
        )
    )
    return report.root


@pytest.fixture
def tiny_cache(_first_build: Path, tmp_path: Path) -> Path:
    """A finished cache to harm: 4 samples in 2 blocks, 2 views, taps stage4 (5x6 cells) and logits."""
    return Path(shutil.copytree(_first_build, tmp_path / _first_build.name))
