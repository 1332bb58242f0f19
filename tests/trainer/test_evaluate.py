"""Metrics on whole images: hand-counted confusion, native sizes, ignore, absent classes, ranks."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from kdcache.cache.errors import BadOption, BadSample
from kdcache.cache.spec import SEGMENTATION, Task
from kdcache.trainer.judge.segmentation import confusion, equal_size_groups, evaluate, metrics_of, predict

CLASSES = ("sky", "road", "car")


def png(array: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="PNG")
    return np.frombuffer(buffer.getvalue(), dtype=np.uint8)


class DrawnSamples:
    """Images whose red channel is 80 times a class, and labels of any content; sizes differ."""

    task: Task = SEGMENTATION

    def __init__(
        self, labels: list[np.ndarray], shown: list[np.ndarray], invalid: tuple[int, ...] = ()
    ) -> None:
        self.num_samples = len(labels)
        self.invalid = np.asarray(invalid, dtype=np.int64)
        self._labels = labels
        self._images = [np.stack([s * 80, s * 0, s * 0], axis=-1).astype(np.uint8) for s in shown]

    def image(self, index: int) -> np.ndarray:
        return png(self._images[index])

    def label(self, index: int) -> np.ndarray:
        return png(self._labels[index])

    def key(self, index: int) -> str:
        return f"drawn/{index}"

    def size(self, index: int) -> tuple[int, int]:
        return self._labels[index].shape[0], self._labels[index].shape[1]


def red_is_class(images_BHWC: Tensor) -> Tensor:
    """A perfect network for `DrawnSamples`: logits at the pixels' own size."""
    classes = (images_BHWC[..., 0].float() / 80).round().long()
    return nn.functional.one_hot(classes, len(CLASSES)).permute(0, 3, 1, 2).float()


def drawn(seed: int = 0, num: int = 5) -> DrawnSamples:
    rng = np.random.default_rng(seed)
    sizes = [(9, 12), (12, 9), (9, 12), (10, 7), (9, 12)][:num]
    labels = [rng.choice([0, 1, 2, 255], size=s).astype(np.uint8) for s in sizes]
    shown = [rng.integers(0, 3, size=s).astype(np.uint8) for s in sizes]
    return DrawnSamples(labels, shown)


def counted_by_hand(samples: DrawnSamples) -> np.ndarray:
    counts = np.zeros((3, 3), dtype=np.int64)
    for index in range(samples.num_samples):
        label, shown = samples._labels[index], samples._images[index][..., 0] // 80
        for truth, guess in zip(label.ravel(), shown.ravel(), strict=True):
            if truth != 255:
                counts[truth, guess] += 1
    return counts


def test_metrics_equal_those_counted_pixel_by_pixel_at_native_size() -> None:
    samples = drawn()
    counts = counted_by_hand(samples)
    found = evaluate(red_is_class, samples, device="cpu", class_names=CLASSES)
    iou = [counts[c, c] / (counts[c].sum() + counts[:, c].sum() - counts[c, c]) for c in range(3)]
    assert found.num_images == 5
    assert found.miou == pytest.approx(np.mean(iou))
    assert [found.per_class_iou[name] for name in CLASSES] == pytest.approx(iou)
    assert found.pixel_accuracy == pytest.approx(np.trace(counts) / counts.sum())


def test_batches_of_equal_sizes_count_the_same_as_single_images() -> None:
    assert equal_size_groups(drawn(), 2) == [[0, 2], [4], [1], [3]]
    single = evaluate(red_is_class, drawn(), device="cpu", class_names=CLASSES)
    assert evaluate(red_is_class, drawn(), device="cpu", class_names=CLASSES, batch_size=2) == single


def test_invalid_samples_are_left_out() -> None:
    samples = drawn()
    samples.invalid = np.array([1, 3])
    assert evaluate(red_is_class, samples, device="cpu", class_names=CLASSES).num_images == 3


def test_ranks_sum_to_one_rank_and_count_no_image_twice() -> None:
    whole = evaluate(red_is_class, drawn(), device="cpu", class_names=CLASSES)
    shares: list[Tensor] = []
    for rank in range(3):
        evaluate(
            red_is_class,
            drawn(),
            device="cpu",
            class_names=CLASSES,
            rank=rank,
            world=3,
            reduce=lambda counts: shares.append(counts) or counts,  # type: ignore[func-returns-value]
        )
    total = torch.stack(shares).sum(0)
    assert metrics_of(total[:-1].reshape(3, 3), CLASSES, int(total[-1])) == whole


def test_several_ranks_without_a_reduction_are_refused() -> None:
    with pytest.raises(BadOption, match="rank 1 of 2 would report its own share only"):
        evaluate(red_is_class, drawn(), device="cpu", class_names=CLASSES, rank=1, world=2)


def test_a_class_that_never_occurs_counts_for_nothing_or_for_zero_as_published() -> None:
    counts = torch.tensor([[3, 1, 0], [0, 4, 0], [0, 0, 0]])
    found = metrics_of(counts, CLASSES, 1)
    assert math.isnan(found.per_class_iou["car"])
    assert found.miou == pytest.approx((3 / 4 + 4 / 5) / 2)
    assert found.miou_absent_zero == pytest.approx((3 / 4 + 4 / 5) / 3)


def test_a_class_predicted_where_none_is_labelled_counts_as_zero_in_both() -> None:
    found = metrics_of(torch.tensor([[3, 0, 1], [0, 4, 0], [0, 0, 0]]), CLASSES, 1)
    assert found.per_class_iou["car"] == 0
    assert found.miou == found.miou_absent_zero


def test_ignored_pixels_count_nowhere_even_when_a_class_is_predicted_there() -> None:
    labels = torch.tensor([[[0, 255], [255, 1]]], dtype=torch.uint8)
    counts = confusion(torch.tensor([[[0, 2], [1, 1]]]), labels, 3)
    assert counts.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_logits_are_enlarged_with_their_corners_on_the_corners_of_the_image() -> None:
    # Class 0 over 5 pixels: 0, .25, .5, .75, 1 with corners aligned, else 0, .1, .5, .9, 1.
    logits_BCHW = torch.tensor([[[[0.0, 1.0]], [[0.2, 0.2]]]])
    images_BHWC = torch.zeros(1, 1, 5, 3, dtype=torch.uint8)
    assert predict(lambda images: logits_BCHW, images_BHWC, (1, 5)).tolist() == [[[1, 0, 0, 0, 0]]]


def test_a_label_outside_the_classes_is_refused_by_name() -> None:
    samples = drawn()
    samples._labels[3][0, 0] = 7
    with pytest.raises(BadSample, match="label of 'drawn/3' holds 7, the network knows classes 0..2"):
        evaluate(red_is_class, samples, device="cpu", class_names=CLASSES)


def test_nothing_to_evaluate_is_an_error_not_a_nan() -> None:
    samples = drawn(num=1)
    samples.invalid = np.array([0])
    with pytest.raises(BadOption, match="nothing to evaluate: 1 images, none of them valid"):
        evaluate(red_is_class, samples, device="cpu", class_names=CLASSES)


class FrozenPart(nn.Module):
    """A network with a 'logits' tap, whose normalisation is frozen while the rest trains."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.BatchNorm2d(3)
        self.trained = nn.Dropout(0.9)
        self.seen: list[bool] = []

    def forward(self, images_BHWC: Tensor, taps: tuple[str, ...]) -> dict[str, Tensor]:
        assert taps == ("logits",) and not torch.is_grad_enabled()
        self.seen.append(self.training or self.frozen.training or self.trained.training)
        return {"logits": red_is_class(images_BHWC)}


def test_a_network_is_evaluated_in_evaluation_mode_and_gets_its_modes_back() -> None:
    network = FrozenPart()
    network.frozen.eval()
    evaluate(network, drawn(), device="cpu", class_names=CLASSES)
    assert network.seen == [False] * 5
    assert (network.training, network.frozen.training, network.trained.training) == (True, False, True)
