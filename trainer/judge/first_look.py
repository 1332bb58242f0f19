"""A teacher judged on a few images before a cache of its answers is built.

A teacher whose classes stand in another order, or that expects other pixels, answers without any error: only
its score shows it, and hours of answers would be stored first. Which tasks do so is their judge's word.
"""

import math

import numpy as np
import torch
from torch import nn

from kdcache.cache.errors import KdError
from kdcache.cache.sources.contract import Source
from kdcache.trainer.judge.judge import judge, judge_of
from kdcache.trainer.judge.metrics import no_figures_said, shown
from kdcache.trainer.stream.source_samples import SourceSamples

NOTHING = 5e-4  # a score below it is no better than chance for any number of classes


def first_look(
    network: nn.Module,
    source: Source,
    *,
    input_size: tuple[int, int],
    device: torch.device | str,
    batch_size: int,
    num_threads: int = 1,
) -> str:
    """What its judge says of a network on images spread over `source`, and of a score of 0 the usual causes;
    '' for a task or a network that is not judged so. `input_size` is (height, width) in pixels.

    Never raises KdError: what is wrong with an image is for the build to say. The network keeps its modes.
    """
    counting = judge_of(source.task, source.class_names)
    if not counting.first_images or not counting.can_judge(network):
        return ""
    samples = SourceSamples(source)
    chosen = spread(samples.num_samples, counting.first_images)
    samples.invalid = np.setdiff1d(np.arange(samples.num_samples), chosen)
    try:
        metrics = judge(
            network.to(device),
            samples,
            task=source.task,
            device=device,
            class_names=tuple(source.class_names),
            input_size=input_size,
            num_threads=num_threads,
            batch_size=batch_size,
        )
    except KdError as error:
        return f"not judged beforehand: {error.what}"
    if said := no_figures_said(metrics, "the teacher"):
        return f"{said}: it has nothing to teach"
    if math.isnan(metrics.score):
        return ""
    said = f"{metrics.score_name} {shown(metrics.score_name, metrics.score)} on {len(chosen)} of these images"
    return f"{said}: {counting.usual_causes}" if metrics.score < NOTHING else said


def spread(count: int, most: int) -> np.ndarray:
    """At most `most` of the numbers 0 .. count - 1, evenly, ascending."""
    num = min(count, most)
    return np.arange(num) * count // max(1, num)
