"""Small splits to judge, one per task, with networks that say what a test wants of them."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from encoded_images import encode
from torch import Tensor, nn

from kdcache.cache.spec import Task
from kdcache.trainer.judge.classification import ClassificationMetrics
from kdcache.trainer.judge.judge import Ask, judge
from kdcache.trainer.judge.segmentation import SegmentationMetrics
from kdcache.trainer.stream.batch import SampleSource

CLASSES = ("cat", "dog", "owl")
SIZE = (8, 8)


class DrawnMaps:
    """Images whose red channel is 80 times a class, and label maps of any content; sizes differ."""

    task: Task = "segmentation"

    def __init__(
        self, labels: list[np.ndarray], shown: list[np.ndarray], invalid: tuple[int, ...] = ()
    ) -> None:
        self.num_samples = len(labels)
        self.invalid = np.asarray(invalid, dtype=np.int64)
        self.labels = labels
        self.images = [np.stack([s * 80, s * 0, s * 0], axis=-1).astype(np.uint8) for s in shown]

    def image(self, index: int) -> np.ndarray:
        return encode(self.images[index])

    def truth(self, index: int) -> np.ndarray:
        return encode(self.labels[index])

    def key(self, index: int) -> str:
        return f"drawn/{index}"

    def size(self, index: int) -> tuple[int, int]:
        return self.labels[index].shape[0], self.labels[index].shape[1]


class DrawnClasses:
    """Plain images; the red channel of each is 10 x its number."""

    task: Task = "classification"

    def __init__(self, labels: list[int], sizes: list[tuple[int, int]] | None = None) -> None:
        self.labels = labels
        self.sizes = sizes or [SIZE] * len(labels)
        self.num_samples = len(labels)
        self.invalid = np.zeros(0, dtype=np.int64)

    def image(self, index: int) -> np.ndarray:
        return encode(np.full((*self.size(index), 3), (index * 10, 0, 0), dtype=np.uint8))

    def truth(self, index: int) -> np.ndarray:
        return np.array([self.labels[index]], dtype=np.int64)

    def key(self, index: int) -> str:
        return f"drawn/{index}"

    def size(self, index: int) -> tuple[int, int]:
        return self.sizes[index]


def drawn_maps(num: int = 5) -> DrawnMaps:
    rng = np.random.default_rng(0)
    sizes = [(9, 12), (12, 9), (9, 12), (10, 7), (9, 12)][:num]
    labels = [rng.choice([0, 1, 2, 255], size=s).astype(np.uint8) for s in sizes]
    shown = [rng.integers(0, 3, size=s).astype(np.uint8) for s in sizes]
    return DrawnMaps(labels, shown)


LABELS = [0, 0, 1, 1, 1, 0, 1]
LOGITS = torch.randn(7, 3, generator=torch.Generator().manual_seed(3)) * 2


def drawn_classes() -> DrawnClasses:
    return DrawnClasses(LABELS)


def red_is_class(images_BHWC: Tensor) -> dict[str, Tensor]:
    """A perfect network for `DrawnMaps`: logits at the pixels' own size."""
    classes = (images_BHWC[..., 0].float() / 80).round().long()
    return {"logits": nn.functional.one_hot(classes, len(CLASSES)).permute(0, 3, 1, 2).float()}


def says(logits_NK: Tensor) -> Callable[[Tensor], dict[str, Tensor]]:
    """A network for `DrawnClasses` that answers row n for image n."""
    return lambda images_BHWC: {"logits": logits_NK[(images_BHWC[:, 0, 0, 0].long() / 10).round().long()]}


def judged_maps(
    samples: SampleSource | None = None, network: nn.Module | Ask = red_is_class, **options: object
) -> SegmentationMetrics:
    metrics = _judged(network, samples or drawn_maps(), options)
    assert isinstance(metrics, SegmentationMetrics)
    return metrics


def judged_classes(
    samples: SampleSource | None = None, network: nn.Module | Ask | None = None, **options: object
) -> ClassificationMetrics:
    metrics = _judged(network or says(LOGITS), samples or drawn_classes(), {"batch_size": 2, **options})
    assert isinstance(metrics, ClassificationMetrics)
    return metrics


def _judged(network: nn.Module | Ask, samples: SampleSource, options: Mapping[str, object]) -> object:
    common = {"task": samples.task, "device": "cpu", "class_names": CLASSES, "input_size": SIZE}
    return judge(network, samples, **{**common, **options})  # type: ignore[arg-type]
