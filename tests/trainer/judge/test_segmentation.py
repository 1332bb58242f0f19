"""Metrics on whole images: hand-counted confusion, native sizes, ignore, absent classes, ranks."""

import math

import numpy as np
import pytest
import torch
from judged_cases import CLASSES, DrawnMaps, drawn_maps, judged_maps, red_is_class
from torch import Tensor

from kdcache.cache.errors import BadOption, BadSample
from kdcache.cache.tasks.panels import colour_classes
from kdcache.trainer.judge.segmentation import Judge, confusion, metrics_of, predict


def counted_by_hand(samples: DrawnMaps) -> np.ndarray:
    counts = np.zeros((3, 3), dtype=np.int64)
    for index in range(samples.num_samples):
        label, shown = samples.labels[index], samples.images[index][..., 0] // 80
        for truth, guess in zip(label.ravel(), shown.ravel(), strict=True):
            if truth != 255:
                counts[truth, guess] += 1
    return counts


def test_metrics_equal_those_counted_pixel_by_pixel_at_native_size() -> None:
    samples = drawn_maps()
    counts = counted_by_hand(samples)
    metrics = judged_maps(samples)
    iou = [counts[c, c] / (counts[c].sum() + counts[:, c].sum() - counts[c, c]) for c in range(3)]
    assert metrics.num_images == 5
    assert metrics.miou == metrics.score == pytest.approx(np.mean(iou))
    assert [metrics.per_class_iou[name] for name in CLASSES] == pytest.approx(iou)
    assert metrics.pixel_accuracy == pytest.approx(np.trace(counts) / counts.sum())
    assert (metrics.per_class_key, metrics.per_class_title) == ("per_class_iou", "IoU %")


def test_batches_of_equal_sizes_count_the_same_as_single_images() -> None:
    samples, shapes = drawn_maps(), []

    def network(images_BHWC: Tensor) -> dict[str, Tensor]:
        shapes.append(tuple(images_BHWC.shape[:3]))
        return red_is_class(images_BHWC)

    assert Judge(CLASSES).groups(range(5), 2, samples.size) == [[0, 2], [4], [1], [3]]
    assert judged_maps(samples, network, batch_size=2) == judged_maps()
    assert shapes == [(2, 9, 12), (1, 9, 12), (1, 12, 9), (1, 10, 7)]


def test_alone_images_are_judged_in_their_order() -> None:
    groups, size_of = Judge(CLASSES).groups, drawn_maps().size
    assert groups([3, 0, 1], Judge.batch_size, size_of) == [[3], [0], [1]]
    assert groups([0, 1, 2], Judge.batch_size, size_of) == [[0], [1], [2]], "0 and 2 are of one size"


def test_ranks_sum_to_one_rank_and_count_no_image_twice() -> None:
    whole = judged_maps()
    shares: list[Tensor] = []
    for rank in range(3):
        judged_maps(
            rank=rank,
            world=3,
            reduce=lambda counts: shares.append(counts) or counts,
        )
    total = torch.stack(shares[::2]).sum(0)  # between them: answers that are not finite
    assert metrics_of(total[:-1].reshape(3, 3), CLASSES, int(total[-1])) == whole


def test_a_class_that_never_occurs_counts_for_nothing_or_for_zero_as_published() -> None:
    counts = torch.tensor([[3, 1, 0], [0, 4, 0], [0, 0, 0]])
    metrics = metrics_of(counts, CLASSES, 1)
    assert math.isnan(metrics.per_class_iou["owl"])
    assert metrics.miou == pytest.approx((3 / 4 + 4 / 5) / 2)
    assert metrics.miou_absent_zero == pytest.approx((3 / 4 + 4 / 5) / 3)


def test_a_class_predicted_where_none_is_labelled_counts_as_zero_in_both() -> None:
    metrics = metrics_of(torch.tensor([[3, 0, 1], [0, 4, 0], [0, 0, 0]]), CLASSES, 1)
    assert metrics.per_class_iou["owl"] == 0
    assert metrics.miou == metrics.miou_absent_zero


def test_ignored_pixels_count_nowhere_even_when_a_class_is_predicted_there() -> None:
    labels = torch.tensor([[[0, 255], [255, 1]]], dtype=torch.uint8)
    counts = confusion(torch.tensor([[[0, 2], [1, 1]]]), labels, 3)
    assert counts.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_logits_are_enlarged_with_their_corners_on_the_corners_of_the_image() -> None:
    # Class 0 over 5 pixels: 0, .25, .5, .75, 1 with corners aligned, else 0, .1, .5, .9, 1.
    logits_BCHW = torch.tensor([[[[0.0, 1.0]], [[0.2, 0.2]]]])
    assert predict(logits_BCHW, (1, 5)).tolist() == [[[1, 0, 0, 0, 0]]]


@pytest.mark.parametrize("value", [len(CLASSES), 7, 254])
def test_a_label_outside_the_classes_is_refused_by_name(value: int) -> None:
    samples = drawn_maps()
    samples.labels[3][0, 0] = value
    refused = rf"label of 'drawn/3' holds {value}, the network knows classes 0\.\.2"
    with pytest.raises(BadSample, match=refused):
        judged_maps(samples)


def test_a_segmenting_run_has_no_agreement_to_measure() -> None:
    with pytest.raises(BadOption, match="agreement with a teacher is measured for classification"):
        judged_maps(teacher=red_is_class)


def test_a_picture_shows_each_class_in_a_colour_of_its_own() -> None:
    classes_HW = np.array([[0, 1], [2, 1]], dtype=np.uint8)
    answers = red_is_class(torch.from_numpy(np.stack([classes_HW * 80] * 3, axis=-1))[None])
    picture = Judge(CLASSES).picture(answers, np.zeros((2, 2, 3), dtype=np.uint8))
    assert np.array_equal(picture, colour_classes(classes_HW, len(CLASSES)))
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) == 3
