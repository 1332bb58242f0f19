"""What losses are told of the data before step 0."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch

from kdcache.cache.reader.cache import Cache
from kdcache.cache.tasks.table import CLASSIFICATION
from kdcache.trainer.stream.run_source import RunSource

KD = torch.ones(3, 2)


def stored() -> RunSource:
    cache: Any = SimpleNamespace(
        num_samples=6, without=lambda keep_empty: np.array([1]), classifier=lambda: KD,
        column=lambda name: np.array([0, -1, 2, 1, 0, 2]),
    )  # fmt: skip
    return RunSource(
        source=None, cache=cast(Cache, cache), task=CLASSIFICATION, spec="npz:x", dataset="npz",
        class_names=("a", "b", "c"), crop=(8, 12), augment="", output_stride=None,
    )  # fmt: skip


def test_a_memory_has_a_place_for_every_index_also_of_invalid_samples() -> None:
    facts = stored().facts(batch_size=2)
    assert facts.num_samples == 6 and facts.labels_N is not None
    assert facts.labels_N.tolist() == [0, -1, 2, 1, 0, 2] and facts.num_classes == 3
    assert facts.steps_per_epoch == 2.5, "an epoch visits the five valid ones"
    assert facts.input_size == (8, 12)


def test_a_live_teachers_classifier_takes_the_place_of_the_caches() -> None:
    assert stored().facts().classifier_KD is KD
    live_KD = torch.zeros(3, 2)
    assert stored().facts(classifier_KD=live_KD).classifier_KD is live_KD
