"""Peeking: panels of one sample, and what their colours and lines say."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdcache.cache.errors import BadOption
from kdcache.cache.look.peek import pca_rgb, peek, vector_grey
from kdcache.cache.reader.cache import open_cache


def test_one_picture_shows_image_truth_prediction_and_taps(tiny_cache: Path, tmp_path: Path) -> None:
    titles = peek(open_cache(tiny_cache), "scene02", 1, tmp_path / "new" / "folder" / "p.png")
    assert titles == ["image", "label", "stage4 5x6x6", "teacher", "logits 5x6x3"]
    with Image.open(tmp_path / "new" / "folder" / "p.png") as sheet:
        assert sheet.format == "PNG" and sheet.size == (5 * 324, 6 * 40 + 18)  # 48x40 fits six times into 320


def test_a_key_that_is_not_there_offers_the_nearest(tiny_cache: Path, tmp_path: Path) -> None:
    with pytest.raises(BadOption, match="scene2") as caught:
        peek(open_cache(tiny_cache), "scene2", 0, tmp_path / "p.png")
    assert "did you mean 'scene02'?" in caught.value.fix and not (tmp_path / "p.png").exists()


def test_a_view_that_is_not_there_offers_those_that_are(tiny_cache: Path, tmp_path: Path) -> None:
    cache, out = open_cache(tiny_cache), tmp_path / "p.png"
    with pytest.raises(BadOption, match="the cache has no view 77") as caught:
        peek(cache, "scene02", 77, out)
    offered = {int(number) for number in re.findall(r"\d+", caught.value.fix)}
    assert {min(offered), max(offered)} == {0, cache.manifest.num_views - 1} and not out.exists()
    for view in offered:
        assert peek(cache, "scene02", view, out)


def test_a_vector_is_grey_from_its_lowest_to_its_highest_value() -> None:
    grey = vector_grey(np.array([-1.0, 0.0, 1.0, 3.0, 2.0]))
    assert grey.shape == (3, 3, 3) and grey.dtype == np.uint8
    assert grey[..., 0].tolist() == [[0, 64, 128], [255, 191, 190], [190, 190, 190]]
    assert len(set(grey[2, 2].tolist())) == 3, "cells without a value are no grey"
    assert vector_grey(np.full(4, 7.0)).max() == 0


def test_cells_are_coloured_by_their_principal_components() -> None:
    strong, weak = np.array([0.0, 1.0, 0.0, 3.0]), np.array([0.1, 0.0, 0.0, 0.0])
    value = np.zeros((2, 4, 4))
    value[:, 2:] += strong
    value[1] += weak
    rgb = pca_rgb(value)
    assert rgb.shape == (2, 4, 3) and rgb.dtype == np.uint8
    assert (rgb[:, :2, 0] == 0).all() and (rgb[:, 2:, 0] == 255).all()  # the strongest direction is red
    assert (rgb[0, :, 1] == 0).all() and (rgb[1, :, 1] == 255).all()
    assert pca_rgb(np.ones((2, 2, 1)))[..., 1:].max() == 0  # fewer channels than colours
