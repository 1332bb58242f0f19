"""Rows of an array are judged without a decoder, on the pixels that the decoder would give."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from class_data import draw_npz, pixels

from kdcache.cache.images import pipeline
from kdcache.cache.sources.table import open_source
from kdcache.cache.tasks.table import task_of
from kdcache.cache.views.view import Geometry, Row
from kdcache.trainer.judge import judge as judging
from kdcache.trainer.judge.judge import judge_of, judged_images
from kdcache.trainer.judge.unpacked import shown_unpacked
from kdcache.trainer.stream.source_samples import SourceSamples

GROUPS = [[0, 3, 1], [5, 2]]
CPU = torch.device("cpu")


def _samples(folder: Path, shape: tuple[int, ...]) -> SourceSamples:
    images = pixels(8, shape, 2)
    return SourceSamples(
        open_source(f"npz:{draw_npz(folder, x_train=images, y_train=[0, 1] * 4)}", "trainval")
    )


def _judged(samples: SourceSamples, size_px: tuple[int, int], *, truth: bool) -> list[Any]:
    source = samples.source
    known = task_of(source.task).truth if truth else None
    counting = judge_of(source.task, source.class_names)
    return list(judged_images(samples, GROUPS, counting, known, size_px, CPU, 1))


@pytest.mark.parametrize("truth", [True, False])
@pytest.mark.parametrize("shape", [(32, 32, 3), (9, 14, 3), (28, 28)])
def test_pixels_truths_and_rows_are_those_of_the_pipeline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], truth: bool
) -> None:
    samples = _samples(tmp_path, shape)
    direct = _judged(samples, shape[:2], truth=truth)
    monkeypatch.setattr(judging, "shown_unpacked", lambda *of: False)
    decoded = _judged(samples, shape[:2], truth=truth)
    assert len(direct) == len(decoded) == len(GROUPS)
    for one, other in zip(direct, decoded, strict=True):
        assert one.images_BHWC.dtype == torch.uint8 and torch.equal(one.images_BHWC, other.images_BHWC)
        assert one.feed.rows == other.feed.rows
        assert [t.own.tolist() for t in one.feed.truths] == [t.own.tolist() for t in other.feed.truths]


def test_nothing_is_encoded_or_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = _samples(tmp_path, (32, 32, 3))
    monkeypatch.setattr(pipeline, "_build", lambda *of: pytest.fail("a decoder was built"))
    monkeypatch.setattr(type(samples.source), "image_bytes", lambda *of: pytest.fail("encoded"))
    assert len(_judged(samples, (32, 32), truth=True)) == len(GROUPS)


def test_an_image_that_is_shrunk_goes_through_the_pipeline(tmp_path: Path) -> None:
    samples = _samples(tmp_path, (32, 32, 3))
    assert _judged(samples, (16, 16), truth=True)[0].images_BHWC.shape == (3, 16, 16, 3)


WHOLE = Geometry(8, 6, 0, 0, 0, 8, 6)


@pytest.mark.parametrize(
    "row",
    [
        Row(0, 0, WHOLE._replace(flip=1)),
        Row(0, 0, WHOLE._replace(crop_y=1)),
        Row(0, 0, WHOLE._replace(crop_x=-1)),
        Row(0, 0, WHOLE._replace(crop_h=4)),
        Row(0, 0, WHOLE._replace(resize_w=12, crop_w=12)),
        Row(0, 0, WHOLE, effects=(("grey",),)),
        Row(0, 0, WHOLE, partner=Row(1, 0, WHOLE)),
    ],
)
def test_only_an_image_that_is_shown_as_it_is_needs_no_pipeline(tmp_path: Path, row: Row) -> None:
    samples = _samples(tmp_path, (8, 6, 3))
    assert shown_unpacked(samples, [Row(0, 0, WHOLE)])
    assert not shown_unpacked(samples, [Row(1, 0, WHOLE), row])


def test_a_source_of_files_is_decoded(tmp_path: Path) -> None:
    class Files:
        def size(self, index: int) -> tuple[int, int]:
            return (8, 6)

    samples = _samples(tmp_path, (8, 6, 3))
    samples.source = Files()  # type: ignore[assignment]
    assert not shown_unpacked(samples, [Row(0, 0, WHOLE)])


def test_grey_rows_are_judged_as_rgb(tmp_path: Path) -> None:
    images = _judged(_samples(tmp_path, (28, 28)), (28, 28), truth=True)[0].images_BHWC.numpy()
    assert images.shape == (3, 28, 28, 3) and np.ptp(images, axis=-1).max() == 0
