"""One door to the evaluations: a source's task chooses which."""

from typing import Any

from torch import nn

from kdcache.cache.errors import BadOption
from kdcache.cache.sources.contract import Source
from kdcache.cache.spec import CLASSIFICATION, Task
from kdcache.trainer.judge.classification import evaluate_classification
from kdcache.trainer.judge.metrics import Metrics
from kdcache.trainer.judge.segmentation import LogitsOf, evaluate
from kdcache.trainer.stream.batch import SampleSource


def evaluate_any(
    network: nn.Module | LogitsOf,
    source: Source | SampleSource,
    *,
    task: Task,
    input_size: tuple[int, int],
    teacher: nn.Module | LogitsOf | None = None,
    **common: Any,
) -> Metrics:
    """Metrics of `network` on `source`: whole images at native size for segmentation, images of
    `input_size` = (height, width) for classification, where a `teacher` may be asked too.

    `common` are the options that both evaluations take: device, class_names, num_threads, batch_size, amp,
    rank, world, reduce.
    """
    if task == CLASSIFICATION:
        return evaluate_classification(network, source, input_size=input_size, teacher=teacher, **common)
    if teacher is not None:
        raise BadOption(
            "agreement with a teacher is measured for classification, and this run segments",
            where="--teacher",
            fix="leave --teacher out",
        )
    return evaluate(network, source, **common)
