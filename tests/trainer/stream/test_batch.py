"""What the pipeline gives back of a feed becomes a batch: truth, shares and sample numbers of its rows."""

import numpy as np
import torch

from kdcache.cache.images.feed import Feed, ImageBatch
from kdcache.cache.tasks.contract import RowTruth, Truth
from kdcache.cache.tasks.table import CLASSIFICATION, SEGMENTATION, task_of
from kdcache.cache.views.view import Geometry, Row
from kdcache.trainer.stream.batch import Batch, batch_of

WHOLE = Geometry(1, 1, 0, 0, 0, 1, 1)


def one(number: int) -> np.ndarray:
    return np.array([number], dtype=np.int64)


def made(truths: list[RowTruth], truth: Truth, maps_BHW: torch.Tensor | None = None) -> Batch:
    rows = [Row(10 + number, 0, WHOLE) for number in range(len(truths))]
    images = torch.zeros(len(truths), 1, 1, 3, dtype=torch.uint8)
    feed = Feed(rows, [np.zeros(1, np.uint8)] * len(truths), truths=truths)
    decoded = ImageBatch(images, maps_BHW, [], feed)
    return batch_of(decoded, truth, micro_step=3, epoch=1, rows_per_sample=1, parts={})


def test_of_mixed_images_the_class_of_the_larger_share_comes_first_and_the_other_is_kept() -> None:
    shares = zip((1, 2, 3), (7, 8, 9), (0.75, 0.25, 0.5), strict=True)
    batch = made(
        [RowTruth(one(own), one(other), share) for own, other, share in shares],
        task_of(CLASSIFICATION).truth,
    )
    assert batch.truth.tolist() == [1, 8, 3] and batch.mixed is not None
    assert batch.mixed.labels_B.tolist() == [7, 2, 9]
    assert batch.mixed.share_B.tolist() == [0.75, 0.75, 0.5]


def test_images_that_are_not_mixed_keep_their_classes() -> None:
    batch = made([RowTruth(one(n)) for n in (1, 2, 3)], task_of(CLASSIFICATION).truth)
    assert batch.truth.tolist() == [1, 2, 3] and batch.truth.dtype == torch.int64 and batch.mixed is None
    assert batch.samples_B.tolist() == [10, 11, 12] and batch.samples_B.dtype == torch.int64
    assert (batch.micro_step, batch.epoch, batch.rows_per_sample) == (3, 1, 1)


def test_a_map_is_what_the_pipeline_made_of_it() -> None:
    maps = torch.full((2, 4, 4), 7, dtype=torch.uint8)
    batch = made([RowTruth(np.zeros(9, np.uint8))] * 2, task_of(SEGMENTATION).truth, maps)
    assert batch.truth is maps and batch.mixed is None
