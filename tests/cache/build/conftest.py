"""One built cache for each kind of data, put back for every test that changes data or cache.

It always lies in the same folder, with its times of change: a cache that was moved is another story.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cache_scene import Scene, built_scene
from mixed_scene import MixedScene, built_mixed_scene

Restored = Callable[[], Path]


def _restored(root: Path) -> Restored:
    """What makes `root` what it is now."""
    kept = root.with_name("kept")
    shutil.copytree(root, kept, copy_function=shutil.copy2)

    def restore() -> Path:
        shutil.rmtree(root)
        return Path(shutil.copytree(kept, root, copy_function=shutil.copy2))

    return restore


@pytest.fixture(scope="session")
def _first_scene(tmp_path_factory: pytest.TempPathFactory) -> Restored:
    return _restored(built_scene(tmp_path_factory.mktemp("scene") / "scene", "zarr").root)


@pytest.fixture
def scene(_first_scene: Restored) -> Scene:
    """Seven images with labels in blocks of three, two crops of each, taps stage4 and logits."""
    return Scene(_first_scene(), "zarr")


@pytest.fixture(scope="session")
def _first_mixed(tmp_path_factory: pytest.TempPathFactory) -> Restored:
    return _restored(built_mixed_scene(tmp_path_factory.mktemp("mixed") / "scene").root)


@pytest.fixture
def mixed(_first_mixed: Restored) -> MixedScene:
    """Seven images of two classes in blocks of three, two crops of each, another sample mixed into every
    one."""
    return MixedScene(_first_mixed(), "zarr")
