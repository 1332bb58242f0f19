"""Classification quality: accuracy, calibration, and agreement with a teacher.

Each image goes through the network once. An image of the network's input size is taken as it is; another is
resized until it covers the input size divided by 0.875 and its centre is cut out (Krizhevsky et al. 2012 as
ResNet's authors and timm evaluate), so no border is ever filled. Sizes come from the headers, pixels from
the image pipeline that training uses.

Every image leaves one row of figures. Ranks fill their own rows of one table and the tables are summed, so
several ranks answer bit for bit what one answers.

Axes: B batch, K classes, N images. Cost: one forward per image and 56 bytes a row.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax
from torchmetrics.functional.classification import binary_calibration_error

from kdcache.cache.errors import BadOption, BadSample
from kdcache.cache.images.feed import Feed
from kdcache.cache.images.pipeline import ImagePipeline
from kdcache.cache.sources.contract import Source
from kdcache.cache.views.draw import centre_view
from kdcache.cache.views.view import Geometry
from kdcache.trainer.judge.metrics import ClassificationMetrics
from kdcache.trainer.judge.segmentation import (
    LogitsOf,
    Reduce,
    check_ranks,
    device_number,
    evaluating,
    valid_samples,
)
from kdcache.trainer.stream.batch import SampleSource
from kdcache.trainer.stream.source_samples import as_samples

ECE_BINS = 15


class Answers(NamedTuple):
    """What is kept of every image; the columns of the table."""

    label: Tensor
    hit: Tensor  # 1 where the first answer is the label
    hit5: Tensor
    nll: Tensor
    confidence: Tensor
    agrees: Tensor  # 1 where the teacher's first answer is the same
    kl: Tensor


def evaluate_classification(
    network: nn.Module | LogitsOf,
    source: Source | SampleSource,
    *,
    device: torch.device | str,
    class_names: Sequence[str],
    input_size: tuple[int, int],
    num_threads: int = 1,
    batch_size: int = 64,
    amp: torch.dtype | None = None,
    rank: int = 0,
    world: int = 1,
    reduce: Reduce | None = None,
    teacher: nn.Module | LogitsOf | None = None,
) -> ClassificationMetrics:
    """Metrics of `network` (a Network with a 'logits' tap, or images -> logits (B, K)) on every valid image.

    `input_size` is (height, width) in pixels; a `teacher` is asked about the same pixels. With several ranks
    each judges its own images; `reduce` must sum a tensor over the ranks. Raises BadOption when there is no
    image or no reduction, BadSample for a class id outside the classes.
    """
    check_ranks(rank, world, reduce)
    samples, device = as_samples(source), torch.device(device)
    valid = valid_samples(samples)
    groups = [valid[i : i + batch_size] for i in range(0, len(valid), batch_size)]
    images = centre_images(samples, groups[rank::world], input_size, device, num_threads)
    table_NF = torch.zeros(len(valid), len(Answers._fields), dtype=torch.float64, device=device)
    first = rank * batch_size
    with closing(_asked(network, teacher, images, device, amp)) as asked:
        for group, logits_BK, teacher_BK in asked:
            found = answers(logits_BK, _labels(samples, group, len(class_names)).to(device), teacher_BK)
            table_NF[first : first + len(group)] = torch.stack(found, dim=1)
            first += world * batch_size
    if reduce is not None:
        table_NF = reduce(table_NF)
    return metrics_of(Answers(*table_NF.cpu().unbind(1)), class_names, with_teacher=teacher is not None)


def _asked(
    network: nn.Module | LogitsOf,
    teacher: nn.Module | LogitsOf | None,
    images: Iterator[tuple[list[int], Tensor]],
    device: torch.device,
    amp: torch.dtype | None,
) -> Generator[tuple[list[int], Tensor, Tensor | None], None, None]:
    """Each group with what the network and the teacher answer to the same pixels. Close it: while it waits,
    gradients are off.
    """
    with ExitStack() as stack:
        logits_of = stack.enter_context(evaluating(network))
        teacher_of = None if teacher is None else stack.enter_context(evaluating(teacher))
        stack.enter_context(torch.autocast(device.type, dtype=amp, enabled=amp is not None))
        for group, images_BHWC in images:
            beside = None if teacher_of is None else teacher_of(images_BHWC)
            yield group, logits_of(images_BHWC), beside


def centre_images(
    samples: SampleSource,
    groups: Sequence[list[int]],
    input_size: tuple[int, int],
    device: torch.device,
    num_threads: int,
) -> Iterator[tuple[list[int], Tensor]]:
    """Each group with its images (B, H, W, 3) uint8 at the input size, on `device`."""

    def feed(number: int) -> Feed | None:
        if number >= len(groups):
            return None
        group = groups[number]
        return Feed(
            encoded=[samples.image(i) for i in group],
            labels=[],
            geometry=[centre_geometry(samples.size(i), input_size) for i in group],
            passengers=[],
        )

    if not groups:
        return
    pipeline = ImagePipeline(
        feed,
        batch_size=max(len(group) for group in groups),
        with_labels=False,
        num_threads=num_threads,
        device_id=device_number(device),
        name_of=lambda number, row: samples.key(groups[number][row]),
    )
    try:
        for group, batch in zip(groups, pipeline.run(), strict=True):
            yield group, batch.images_BHWC.to(device)
    finally:
        pipeline.close()


def centre_geometry(size: tuple[int, int], input_size: tuple[int, int]) -> Geometry:
    """From an image of `size` to the network's `input_size`, both (height, width) in pixels."""
    (resized_h, resized_w), (y, x) = centre_view(*size, input_size)
    return Geometry(resized_h, resized_w, 0, y, x, *input_size)


def answers(logits_BK: Tensor, labels_B: Tensor, teacher_BK: Tensor | None) -> Answers:
    """Figures of each image, float64 (B,); the teacher's are 0 without one. Formulas in float32."""
    if teacher_BK is not None and teacher_BK.shape != logits_BK.shape:
        raise BadOption(
            f"the teacher answers {teacher_BK.shape[-1]} classes, the student {logits_BK.shape[-1]}",
            where="--teacher",
            fix="name a teacher of the student's own classes",
        )
    logits_BK = logits_BK.float()
    log_p_BK = log_softmax(logits_BK, dim=1)
    best_B5 = logits_BK.topk(min(5, logits_BK.shape[1]), dim=1).indices
    hits_B5 = best_B5 == labels_B[:, None]
    agrees_B = kl_B = torch.zeros_like(log_p_BK[:, 0])
    if teacher_BK is not None:
        log_t_BK = log_softmax(teacher_BK.float(), dim=1)
        agrees_B = log_t_BK.argmax(1) == best_B5[:, 0]
        kl_B = kl_div(log_p_BK, log_t_BK, reduction="none", log_target=True).sum(1)
    found = Answers(
        label=labels_B,
        hit=hits_B5[:, 0],
        hit5=hits_B5.any(1),
        nll=cross_entropy(logits_BK, labels_B, reduction="none"),
        confidence=log_p_BK.max(1).values.exp(),
        agrees=agrees_B,
        kl=kl_B,
    )
    return Answers(*(value.double() for value in found))


def metrics_of(found: Answers, class_names: Sequence[str], *, with_teacher: bool) -> ClassificationMetrics:
    """Metrics of all images' figures, each (N,)."""
    num_classes, labels_N = len(class_names), found.label.long()
    counts_K = labels_N.bincount(minlength=num_classes).double()
    hits_K = labels_N.bincount(weights=found.hit, minlength=num_classes)
    accuracy_K = hits_K / counts_K  # 0 / 0 = nan marks a class without images
    # The error of a first answer given with its confidence is a binary calibration error.
    ece = binary_calibration_error(
        found.confidence.clamp(max=1.0), found.hit.long(), n_bins=ECE_BINS, norm="l1", validate_args=False
    )
    return ClassificationMetrics(
        top1=float(found.hit.mean()),
        top5=float(found.hit5.mean()),
        nll=float(found.nll.mean()),
        ece=float(ece),
        per_class_accuracy=dict(zip(class_names, accuracy_K.tolist(), strict=True)),
        num_images=len(labels_N),
        agreement=float(found.agrees.mean()) if with_teacher else None,
        teacher_kl=float(found.kl.mean()) if with_teacher else None,
    )


def _labels(samples: SampleSource, group: list[int], num_classes: int) -> Tensor:
    """Class ids (B,) int64. Raises BadSample for one that the network does not know."""
    found = torch.tensor([int(samples.label(i)[0]) for i in group], dtype=torch.int64)
    wrong = ((found < 0) | (found >= num_classes)).nonzero().flatten().tolist()
    if wrong:
        raise BadSample(
            f"class of '{samples.key(group[wrong[0]])}' is {int(found[wrong[0]])}, the network knows "
            f"classes 0..{num_classes - 1}",
            where="evaluation",
            fix="evaluate a network of as many classes, or use the data it was trained on",
        )
    return found
