"""Segmentation quality on whole images at their native size.

Each image goes through the network once, uncropped and unscaled; the logits are enlarged to the label's
size (bilinear, corners aligned) and their argmax is counted into one confusion matrix, pixels labelled
255 left out. Images of equal size may share a batch; batches never change what is counted.

Axes: B batch, C classes, H W pixels. Cost: one forward per image, and C * H * W * 4 bytes for the
enlarged logits.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchmetrics.functional.classification import multiclass_confusion_matrix

from kdcache.cache.errors import BadOption, BadSample
from kdcache.cache.images.feed import Feed
from kdcache.cache.images.pipeline import ImagePipeline
from kdcache.cache.sources.contract import Source
from kdcache.cache.spec import IGNORE
from kdcache.cache.views.view import Geometry
from kdcache.trainer.judge.metrics import SegmentationMetrics
from kdcache.trainer.stream.batch import SampleSource
from kdcache.trainer.stream.source_samples import as_samples

Reduce = Callable[[Tensor], Tensor]  # sum over the ranks
LogitsOf = Callable[[Tensor], Tensor]  # images_BHWC uint8 -> logits (B, C, h, w) of any size, or (B, C)


def evaluate(
    network: nn.Module | LogitsOf,
    source: Source | SampleSource,
    *,
    device: torch.device | str,
    class_names: Sequence[str],
    num_threads: int = 1,
    batch_size: int = 1,
    amp: torch.dtype | None = None,
    rank: int = 0,
    world: int = 1,
    reduce: Reduce | None = None,
) -> SegmentationMetrics:
    """Metrics of `network` (a Network with a 'logits' tap, or images -> logits) on every valid image of
    `source`.

    With several ranks each counts its own images, none twice; `reduce` must sum a tensor over the ranks.
    Raises BadOption when there is no image or no reduction, BadSample for a label outside the classes.
    """
    check_ranks(rank, world, reduce)
    samples = as_samples(source)
    groups = equal_size_groups(samples, batch_size)[rank::world]
    device = torch.device(device)
    counts = torch.zeros(len(class_names) ** 2 + 1, dtype=torch.int64, device=device)  # the last: images
    with evaluating(network) as logits_of, torch.autocast(device.type, dtype=amp, enabled=amp is not None):
        for group, images, labels in whole_images(samples, groups, batch_size, device, num_threads):
            predicted = predict(logits_of, images, (labels.shape[1], labels.shape[2]))
            _check_classes(labels, len(class_names), samples, group)
            counts[:-1] += confusion(predicted, labels, len(class_names)).flatten()
            counts[-1] += len(group)
    if reduce is not None:
        counts = reduce(counts)
    return metrics_of(counts[:-1].reshape(len(class_names), -1).cpu(), class_names, int(counts[-1]))


def check_ranks(rank: int, world: int, reduce: Reduce | None) -> None:
    """Raises BadOption for several ranks without a reduction."""
    if world > 1 and reduce is None:
        raise BadOption(
            f"rank {rank} of {world} would report its own share only",
            where="evaluation",
            fix="pass a `reduce` that sums a tensor over ranks",
        )


def valid_samples(samples: SampleSource) -> list[int]:
    """Indices of the samples that can be used. Raises BadOption when there are none."""
    invalid = set(samples.invalid.tolist())
    valid = [i for i in range(samples.num_samples) if i not in invalid]
    if not valid:
        raise BadOption(
            f"nothing to evaluate: {samples.num_samples} images, none of them valid",
            where="evaluation",
            fix="choose a split that holds images",
        )
    return valid


def equal_size_groups(samples: SampleSource, batch_size: int) -> list[list[int]]:
    """Valid sample indices in groups of at most `batch_size` images of one size; index order when it is 1."""
    valid = valid_samples(samples)
    if batch_size == 1:
        return [[i] for i in valid]
    by_size: dict[tuple[int, int], list[int]] = {}
    for index in valid:
        by_size.setdefault(samples.size(index), []).append(index)
    return [g[i : i + batch_size] for g in by_size.values() for i in range(0, len(g), batch_size)]


def whole_images(
    samples: SampleSource,
    groups: Sequence[list[int]],
    batch_size: int,
    device: torch.device,
    num_threads: int,
) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Each group with its images (B, H, W, 3) uint8 and labels (B, H, W) uint8, uncropped, on `device`."""

    def feed(number: int) -> Feed | None:
        if number >= len(groups):
            return None
        group = groups[number]
        sizes = [samples.size(i) for i in group]
        return Feed(
            encoded=[samples.image(i) for i in group],
            labels=[samples.label(i) for i in group],
            geometry=[Geometry(h, w, 0, 0, 0, h, w) for h, w in sizes],
            passengers=[],
        )

    pipeline = ImagePipeline(
        feed,
        batch_size=batch_size,
        with_labels=True,
        num_threads=num_threads,
        device_id=device_number(device),
        name_of=lambda number, row: samples.key(groups[number][row]),
    )
    try:
        for group, batch in zip(groups, pipeline.run(), strict=True):
            assert batch.labels_BHW is not None
            yield group, batch.images_BHWC.to(device), batch.labels_BHW.to(device)
    finally:
        pipeline.close()


def device_number(device: torch.device) -> int | None:
    """The pipeline's device for a torch device: a CUDA index, or None for the CPU."""
    if device.type != "cuda":
        return None
    return torch.cuda.current_device() if device.index is None else device.index


@contextmanager
def evaluating(network: nn.Module | LogitsOf) -> Iterator[LogitsOf]:
    """`network` as images -> logits, in evaluation mode and without gradient; its mode is restored."""
    if not isinstance(network, nn.Module):
        with torch.no_grad():
            yield network
        return
    modes = [(module, module.training) for module in network.modules()]  # some may be frozen on purpose
    network.eval()
    try:
        with torch.no_grad():
            yield lambda images_BHWC: network(images_BHWC, ("logits",))["logits"]
    finally:
        for module, mode in modes:
            module.training = mode


def predict(logits_of: LogitsOf, images_BHWC: Tensor, size: tuple[int, int]) -> Tensor:
    """Class per pixel (B, H, W) int64 at `size` = (H, W): argmax of the enlarged logits, in float32."""
    logits_BCHW = logits_of(images_BHWC).float()
    return interpolate(logits_BCHW, size=size, mode="bilinear", align_corners=True).argmax(1)


def confusion(predicted_BHW: Tensor, labels_BHW: Tensor, num_classes: int) -> Tensor:
    """Counts (C, C) int64: row = label, column = prediction. Pixels labelled 255 count nowhere."""
    counts: Tensor = multiclass_confusion_matrix(
        predicted_BHW, labels_BHW.long(), num_classes, ignore_index=IGNORE, validate_args=False
    )
    return counts


def metrics_of(counts_CC: Tensor, class_names: Sequence[str], num_images: int) -> SegmentationMetrics:
    """Metrics of a confusion matrix. Everything is nan when no pixel was counted."""
    counts = counts_CC.double()
    hits = counts.diagonal()
    union = counts.sum(0) + counts.sum(1) - hits
    iou = hits / union  # 0 / 0 = nan marks a class that never occurs
    nothing = bool(union.sum() == 0)
    return SegmentationMetrics(
        miou=float(iou.nanmean()),
        per_class_iou=dict(zip(class_names, iou.tolist(), strict=True)),
        pixel_accuracy=float(hits.sum() / counts.sum()),
        num_images=num_images,
        miou_absent_zero=math.nan if nothing else float(iou.nan_to_num(0.0).mean()),
    )


def _check_classes(labels_BHW: Tensor, num_classes: int, samples: SampleSource, group: list[int]) -> None:
    """A value outside the classes would corrupt the counts of others: refuse it by name."""
    wrong = ((labels_BHW >= num_classes) & (labels_BHW != IGNORE)).flatten(1)
    if not bool(wrong.any()):
        return
    row = int(wrong.any(1).nonzero()[0])
    value = int(labels_BHW.flatten(1)[row][wrong[row]][0])
    raise BadSample(
        f"label of '{samples.key(group[row])}' holds {value}, the network knows classes 0..{num_classes - 1}",
        where="evaluation",
        fix=f"evaluate a network with more than {value} classes, or use the data it was trained on",
    )
