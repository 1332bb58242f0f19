"""A teacher answers as it would be evaluated: its own statistics, every number kept."""

from pathlib import Path

import exact_teachers as teachers
import numpy as np
import pytest
from PIL import Image
from tiny_folder import draw_folder

from kdcache.cache.build.build import build_cache
from kdcache.cache.build.options import BuildOptions, parse_tap
from kdcache.cache.reader.cache import Cache, open_cache

NUM_SAMPLES = 4
SIZE = (16, 24)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images as PNG, so that Pillow knows the very pixels that the teacher saw."""
    root = draw_folder(tmp_path_factory.mktemp("restless") / "data", count=NUM_SAMPLES, sizes=(SIZE,))
    for jpeg in sorted((root / "train/images").glob("*.jpg")):
        Image.open(jpeg).save(jpeg.with_suffix(".png"))
        jpeg.unlink()
    return root


@pytest.fixture(scope="module")
def cache(folder: Path) -> Cache:
    report = build_cache(
        BuildOptions(
            runs_dir=folder.parent / "runs",
            caches_dir=folder.parent / "caches",
            teacher="exact_teachers:make_restless",
            data=f"folder:{folder}",
            views="full",
            taps=(parse_tap("normed=fp32"),),
            batch_size=3,
        )
    )
    return open_cache(report.root)


def evaluated(image_HWC: np.ndarray) -> np.ndarray:
    """Normalised pixels by the layer's running statistics; nothing is dropped and nothing made larger."""
    pixels = (image_HWC / 255 - teachers.MEAN) / teachers.STD
    scaled = (pixels - teachers.NORM_MEAN) / np.sqrt(np.array(teachers.NORM_VAR) + teachers.NORM_EPS)
    return scaled * teachers.NORM_WEIGHT + teachers.NORM_BIAS


def test_batch_normalisation_uses_the_teachers_own_statistics_and_dropout_drops_nothing(
    folder: Path, cache: Cache
) -> None:
    for index in range(NUM_SAMPLES):
        with Image.open(folder / f"train/images/{cache.key(index)}.png") as image:
            wanted_HWC = evaluated(np.asarray(image, dtype=np.float64))
        stored_HWC = cache.parts("normed", index, 0)["values"]
        np.testing.assert_allclose(stored_HWC, wanted_HWC, rtol=1e-5, atol=1e-5)
